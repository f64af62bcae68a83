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

# urgent, normal and background exist without being declared; declaring one overrides it,
# destroying it restores it.
resource "gpuloom_priority_class" "deadline" {
  fleet           = gpuloom_fleet.lab.connection
  name            = "deadline"
  value           = 500
  preempts        = true
  cost_multiplier = 1.5
  grace           = "1m"
}
