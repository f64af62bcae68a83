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

# A fleet of this machine by its name. Elsewhere: `endpoints` and `ca_pin` instead.
data "gpuloom_fleet" "lab" {
  name = gpuloom_fleet.lab.name
}

resource "gpuloom_tenant" "guests" {
  fleet = data.gpuloom_fleet.lab.connection
  name  = "guests"
}
