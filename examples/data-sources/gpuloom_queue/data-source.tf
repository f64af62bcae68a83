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

data "gpuloom_queue" "all" {
  fleet = gpuloom_fleet.lab.connection
}

output "waiting" {
  value = { for job in data.gpuloom_queue.all.jobs : job.id => job.why if job.state == "pending" }
}
