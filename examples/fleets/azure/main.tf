# A GPU fleet on Azure: a lead without GPUs, and a pool of A100 nodes in three zones.
#
#   export GPULOOM_ADMIN_KEY=$PWD/admin.pem   # made with: gpuloom keygen --out admin.pem
#   terraform apply                           # credentials: environment, managed identity or `az login`
terraform {
  required_providers {
    gpuloom = { source = "gpuloom/gpuloom" }
  }
}

variable "subscription" {
  type = string
}

variable "resource_group" {
  description = "Exists already, and holds everything that is made."
  type        = string
}

variable "location" {
  type    = string
  default = "eastus"
}

variable "subnet_id" {
  description = "The ARM id of a subnet whose addresses Terraform can reach."
  type        = string
}

variable "image" {
  description = "An image with the NVIDIA driver: its ARM id or publisher:offer:sku:version."
  type        = string
}

variable "ssh_public_key" {
  description = "Azure refuses Linux machines without one."
  type        = string
}

variable "lead_identity" {
  description = "The ARM id of the identity with which the lead launches nodes; docs/guides/clouds.md lists its roles."
  type        = string
}

variable "agent" {
  description = "The package of the agent: where instances download it, and its SHA-256."
  type        = object({ url = string, sha256 = string })
}

resource "gpuloom_fleet" "ml" {
  name = "ml"
  azure {
    subscription   = var.subscription
    resource_group = var.resource_group
    location       = var.location
    zones          = ["1", "2"]
    vm_sizes       = ["Standard_D2s_v5"]
    image          = var.image
    subnet_id      = var.subnet_id
    identity       = var.lead_identity
    ssh_public_key = var.ssh_public_key
    agent          = var.agent
  }
}

resource "gpuloom_pool" "a100" {
  fleet = gpuloom_fleet.ml.connection
  name  = "a100"
  gpu   = { model = "A100-80G", per_node = 1 }
  azure {
    subscription   = var.subscription
    resource_group = var.resource_group
    location       = var.location
    zones          = ["1", "2", "3"]
    vm_sizes       = ["Standard_NC24ads_A100_v4"]
    image          = var.image
    subnet_id      = var.subnet_id
    ssh_public_key = var.ssh_public_key
    agent          = var.agent
    tags           = { team = "ml" }
  }
  autoscaling {
    min = 1
    max = 4
  }
  capacity {
    on_shortfall = "fail"
    max_wait     = "15m"
  }
}

output "endpoint" {
  value = gpuloom_fleet.ml.connection.endpoints[0]
}

output "estimated_hourly_usd" {
  value = gpuloom_pool.a100.estimated_hourly_usd
}
