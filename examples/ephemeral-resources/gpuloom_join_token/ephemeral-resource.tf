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

# Machines that exist already: the lead launches nothing, they join with a token.
resource "gpuloom_pool" "racks" {
  fleet = gpuloom_fleet.lab.connection
  name  = "racks"
  gpu   = { model = "T4", per_node = 1 }
  existing {}
  autoscaling {
    min = 0
    max = 8
  }
}

# One machine may join with it, once; it is in neither plan nor state.
ephemeral "gpuloom_join_token" "racks" {
  fleet = gpuloom_fleet.lab.connection
  pool  = gpuloom_pool.racks.name
  ttl   = "10m"
}

resource "terraform_data" "hand_over" {
  provisioner "local-exec" {
    # Stands for whatever brings the token to the new machine.
    command     = "umask 077 && printf %s \"$JOIN_TOKEN\" > join-token"
    environment = { JOIN_TOKEN = ephemeral.gpuloom_join_token.racks.token }
  }
}
