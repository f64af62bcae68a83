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

# The same on a cloud, for a fleet whose lead runs there: a change of the image, the types or the agent replaces nodes
# one after another, a change of the region replaces the pool.
variable "cloud_fleet" {
  type    = object({ id = string, endpoints = list(string), ca_pin = string })
  default = null
}

resource "gpuloom_pool" "spot" {
  count = var.cloud_fleet == null ? 0 : 1
  fleet = var.cloud_fleet
  name  = "spot"
  gpu   = { model = "A10G", per_node = 1 }

  aws {
    region         = "us-east-1"
    subnets        = ["subnet-0a1b2c3d", "subnet-4e5f6a7b"] # in the order they are tried
    instance_types = ["g5.xlarge", "g5.2xlarge"]
    image          = "ami-0123456789abcdef0" # holds the driver and the agent
  }

  autoscaling {
    min = 1
    max = 10
  }
  capacity {
    on_demand_base = 1
    spot_ratio     = 0.7
    on_shortfall   = "degrade"
  }
  update {
    max_unavailable = 2
  }
}
