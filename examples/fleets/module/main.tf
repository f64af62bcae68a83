# The same story through the reusable module.
terraform {
  required_providers {
    gpuloom = { source = "gpuloom/gpuloom" }
  }
}

module "fleet" {
  source = "../../modules/gpu-fleet"

  name     = "module"
  simulate = "8xA100-80G"
  pools = {
    train  = { gpu_model = "A100-80G", gpus = 2, min = 1, max = 3, on_destroy = "kill", autoscaling = {} }
    shared = { gpu_model = "A100-80G", on_destroy = "kill" }
  }
  tenants = {
    research = { weight = 2, guaranteed = 2, limit = 4 }
    vision   = { parent = "research", limit = 2 }
    product  = { guaranteed = 1, limit = 3 }
  }
}

output "endpoint" {
  value = module.fleet.endpoint
}

output "ca_pin" {
  value = module.fleet.ca_pin
}

output "pools" {
  value = module.fleet.pools
}
