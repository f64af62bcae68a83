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

resource "gpuloom_tenant" "students" {
  fleet = gpuloom_fleet.lab.connection
  name  = "students"
}

resource "gpuloom_limit_range" "students" {
  fleet  = gpuloom_fleet.lab.connection
  name   = "students"
  tenant = gpuloom_tenant.students.name

  default = { gpus = 0.5, walltime = "1h" } # for jobs that state nothing
  min     = { gpus = 0.25 }
  max     = { gpus = 2, gpu_memory_gib = 32, walltime = "12h" }
}
