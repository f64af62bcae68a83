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
  gpu   = { model = "T4", per_node = 2 }
  local {}
  autoscaling {
    min = 1
    max = 2
  }
}

data "gpuloom_nodes" "t4" {
  fleet = gpuloom_fleet.lab.connection
  pool  = gpuloom_pool.t4.name
}

output "nodes" {
  value = { for node in data.gpuloom_nodes.t4.nodes : node.id => node.state }
}
