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

resource "gpuloom_tenant" "research" {
  fleet = gpuloom_fleet.lab.connection
  name  = "research"
}

resource "gpuloom_quota" "research" {
  fleet  = gpuloom_fleet.lab.connection
  name   = "research"
  tenant = gpuloom_tenant.research.name

  guaranteed = { gpus = 1.5 }                    # reclaimed from those above their own guarantee
  soft_limit = { gpus = 2 }                      # exceeded only while nobody else waits
  limit      = { gpus = 3, gpu_memory_gib = 48 } # never exceeded

  on_excess = "drain" # what happens when the limit is set below present use
}
