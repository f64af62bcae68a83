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
  local {}
  autoscaling {
    min = 1
    max = 4
  }
}

resource "gpuloom_autoscaling_policy" "t4" {
  fleet = gpuloom_fleet.lab.connection
  name  = "t4"
  pool  = gpuloom_pool.t4.name

  target_utilization = 0.7
  queue_per_node     = 2
  window             = "2m"
  grow_cooldown      = "30s"
  shrink_cooldown    = "10m"
}
