terraform {
  required_providers {
    gpuloom = { source = "gpuloom/gpuloom" }
  }
}

provider "gpuloom" {
  # The fleet's admin key: PEM text or the path of a PEM file; made once with `gpuloom keygen`.
  # Left out here, so that it comes from the environment variable GPULOOM_ADMIN_KEY.
  # admin_key = "~/.config/gpuloom/admin.pem"

  # Who declares: another owner's objects are never changed by accident.
  owner = "terraform"

  # Where fleets on this machine keep their data, and the agent they run.
  # local {
  #   root         = "/var/lib/gpuloom/local"
  #   agent_binary = "/usr/local/bin/gpuloom"
  # }
}
