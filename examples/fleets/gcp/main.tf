# A GPU fleet on Google Cloud: a lead without GPUs, and a pool of L4 nodes in any zone that has them.
#
#   export GPULOOM_ADMIN_KEY=$PWD/admin.pem   # made with: gpuloom keygen --out admin.pem
#   terraform apply                           # credentials: application default credentials
terraform {
  required_providers {
    gpuloom = { source = "gpuloom/gpuloom" }
  }
}

variable "project" {
  type = string
}

variable "region" {
  type    = string
  default = "us-central1"
}

variable "subnetwork" {
  description = "A subnetwork whose addresses Terraform can reach."
  type        = string
}

variable "image" {
  description = "An image with the NVIDIA driver: projects/P/global/images/I or projects/P/global/images/family/F."
  type        = string
}

variable "lead_account" {
  description = "The service account with which the lead launches nodes; docs/guides/clouds.md lists its roles."
  type        = string
}

variable "node_account" {
  description = "The service account by which nodes prove who they are; it needs no roles."
  type        = string
}

variable "agent" {
  description = "The package of the agent: where instances download it, and its SHA-256."
  type        = object({ url = string, sha256 = string })
}

resource "gpuloom_fleet" "ml" {
  name = "ml"
  gcp {
    project         = var.project
    region          = var.region
    zones           = ["${var.region}-a", "${var.region}-b"]
    machine_types   = ["e2-standard-2"]
    image           = var.image
    subnetwork      = var.subnetwork
    service_account = var.lead_account
    agent           = var.agent
  }
}

resource "gpuloom_pool" "l4" {
  fleet = gpuloom_fleet.ml.connection
  name  = "l4"
  gpu   = { model = "L4", per_node = 1 }
  gcp {
    project         = var.project
    region          = var.region
    machine_types   = ["g2-standard-4", "g2-standard-8"]
    image           = var.image
    subnetwork      = var.subnetwork
    service_account = var.node_account
    agent           = var.agent
    labels          = { team = "ml" }
  }
  autoscaling {
    min = 0
    max = 8
  }
  capacity {
    spot_ratio   = 1
    on_shortfall = "degrade"
    max_wait     = "10m"
  }
}

output "endpoint" {
  value = gpuloom_fleet.ml.connection.endpoints[0]
}

output "estimated_hourly_usd" {
  value = gpuloom_pool.l4.estimated_hourly_usd
}
