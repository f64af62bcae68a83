terraform {
  required_version = ">= 1.11"
  required_providers {
    gpuloom = { source = "gpuloom/gpuloom" }
  }
}
