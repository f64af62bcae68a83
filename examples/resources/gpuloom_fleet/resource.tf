terraform {
  required_providers {
    gpuloom = { source = "gpuloom/gpuloom" }
  }
}

# A fleet on this machine. With `simulate` its GPUs are simulated and say so everywhere;
# without it the machine's real GPUs are used, and having none is an error.
resource "gpuloom_fleet" "lab" {
  name = "lab"

  labels = {
    team = "platform"
  }

  local {
    listen   = "127.0.0.1:0" # any free port; it stays the same for the fleet's life
    simulate = "8xA100-80G"
  }

  timeouts {
    create = "2m"
  }
}

output "endpoint" {
  value = gpuloom_fleet.lab.connection.endpoints[0]
}

output "ca_pin" {
  value = gpuloom_fleet.lab.connection.ca_pin
}

# A fleet on a cloud: its lead is an instance without GPUs, whose store outlives it on a disk of its own.
variable "subnets" {
  type    = list(string)
  default = []
}

resource "gpuloom_fleet" "ml" {
  count = length(var.subnets) > 0 ? 1 : 0
  name  = "ml"

  aws {
    region           = "us-east-1"
    subnets          = var.subnets
    instance_types   = ["m7i.large"]
    image            = "ami-0123456789abcdef0"
    instance_profile = "gpuloom-lead"
    reachability     = "private" # Terraform runs in the VPC, or is connected to it
    data_disk_gib    = 20
  }
}
