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
