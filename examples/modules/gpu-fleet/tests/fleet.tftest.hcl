# Run by `terraform test` in the module's folder: a real fleet of simulated GPUs comes up and goes.
variables {
  name     = "module-test"
  simulate = "4xT4"
  pools = {
    t4 = { gpu_model = "T4", gpus = 1, min = 1, max = 2, on_destroy = "kill", autoscaling = {} }
  }
  tenants = {
    research = { weight = 2, guaranteed = 1, limit = 2 }
    vision   = { parent = "research" }
  }
}

run "a_fleet_comes_up" {
  assert {
    condition     = startswith(output.connection.ca_pin, "sha256:")
    error_message = "The fleet has no CA pin: ${output.connection.ca_pin}"
  }
  assert {
    condition     = output.pools["t4"].ready == 1 && output.pools["t4"].status == "ready"
    error_message = "The pool is ${jsonencode(output.pools["t4"])}"
  }
  assert {
    condition     = gpuloom_quota.this["research"].limit.gpus == 2
    error_message = "The quota has another limit."
  }
  assert {
    condition     = gpuloom_fleet.this.backend == "simulated"
    error_message = "A simulated fleet has to say so."
  }
}

run "a_tenant_changes_in_place" {
  variables {
    tenants = {
      research = { weight = 5, limit = 3 }
      vision   = { parent = "research" }
    }
  }
  assert {
    condition     = gpuloom_tenant.top["research"].weight == 5 && gpuloom_tenant.top["research"].generation == 2
    error_message = "The tenant was not changed in place."
  }
  assert {
    condition     = output.connection.id == run.a_fleet_comes_up.connection.id
    error_message = "The fleet was replaced."
  }
}

run "bounds_are_checked_before_anything_is_touched" {
  command = plan
  variables {
    pools = {
      t4 = { gpu_model = "T4", min = 3, max = 2 }
    }
  }
  expect_failures = [var.pools]
}
