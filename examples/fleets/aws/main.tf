# A GPU fleet on AWS: a lead without GPUs, a pool of T4 nodes, most of them spot.
#
#   export GPULOOM_ADMIN_KEY=$PWD/admin.pem   # made with: gpuloom keygen --out admin.pem
#   terraform apply                           # credentials: the AWS SDK's own (environment, profile, instance)
terraform {
  required_providers {
    gpuloom = { source = "gpuloom/gpuloom" }
  }
}

variable "region" {
  type    = string
  default = "us-east-1"
}

variable "subnets" {
  description = "Subnets of one VPC, one for each zone to try; Terraform has to reach their addresses."
  type        = list(string)
}

variable "security_group" {
  description = "Lets its members reach each other on port 7443, and Terraform the lead."
  type        = string
}

variable "image" {
  description = "An AMI with the NVIDIA driver and systemd."
  type        = string
}

variable "lead_profile" {
  description = "The instance profile with which the lead launches nodes; docs/guides/clouds.md lists its permissions."
  type        = string
}

variable "agent" {
  description = "The package of the agent: where instances download it, and its SHA-256."
  type        = object({ url = string, sha256 = string })
}

resource "gpuloom_fleet" "ml" {
  name = "ml"
  aws {
    region           = var.region
    subnets          = var.subnets
    security_groups  = [var.security_group]
    instance_types   = ["m7i.large", "m6i.large"]
    image            = var.image
    instance_profile = var.lead_profile
    agent            = var.agent
    data_disk_gib    = 20
  }
}

resource "gpuloom_pool" "t4" {
  fleet = gpuloom_fleet.ml.connection
  name  = "t4"
  gpu   = { model = "T4", per_node = 1 }
  aws {
    region          = var.region
    subnets         = var.subnets
    security_groups = [var.security_group]
    instance_types  = ["g4dn.xlarge", "g4dn.2xlarge"]
    image           = var.image
    agent           = var.agent
    tags            = { team = "ml" }
  }
  autoscaling {
    min = 1
    max = 10
  }
  capacity {
    on_demand_base = 1
    spot_ratio     = 0.7
    on_shortfall   = "degrade"
    max_wait       = "10m"
  }
  update {
    max_unavailable = 2
  }
}

resource "gpuloom_tenant" "research" {
  fleet = gpuloom_fleet.ml.connection
  name  = "research"
}

output "endpoint" {
  value = gpuloom_fleet.ml.connection.endpoints[0]
}

output "estimated_hourly_usd" {
  value = gpuloom_pool.t4.estimated_hourly_usd
}
