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
  fleet  = gpuloom_fleet.lab.connection
  name   = "research"
  weight = 2
}

# Part of research: quotas of the parent bound the sum over its children.
resource "gpuloom_tenant" "vision" {
  fleet  = gpuloom_fleet.lab.connection
  name   = "vision"
  parent = gpuloom_tenant.research.name
}
