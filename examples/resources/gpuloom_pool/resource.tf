terraform {
  required_providers {
    gpuloom = { source = "gpuloom/gpuloom" }
  }
}

# The private half of the admin key comes from GPULOOM_ADMIN_KEY (`gpuloom keygen` makes one).
resource "gpuloom_fleet" "lab" {
  name = "lab"
  local { simulate = "4xT4" }
}

resource "gpuloom_pool" "t4" {
  fleet = gpuloom_fleet.lab.connection
  name  = "t4"
  gpu   = { model = "T4", per_node = 1 }

  # Agents on the lead's own machine, each with its own GPUs.
  local {}

  # The autoscaler moves the size between these bounds; `size` is computed and the plan stays empty.
  autoscaling {
    min = 1
    max = 3
  }
  initial_size = 2

  capacity {
    on_shortfall = "degrade" # a warning with the true counts instead of an error
    max_wait     = "2m"
  }

  on_destroy = "drain"
  labels     = { tier = "inference" }
}

output "ready" {
  value = "${gpuloom_pool.t4.ready_size} of ${gpuloom_pool.t4.size}"
}
