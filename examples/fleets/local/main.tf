# A GPU fleet on this machine: eight simulated A100 GPUs shared by two tenants.
#
#   export GPULOOM_ADMIN_KEY=$PWD/admin.pem   # made with: gpuloom keygen --out admin.pem
#   terraform apply
terraform {
  required_providers {
    gpuloom = { source = "gpuloom/gpuloom" }
  }
}

variable "simulate" {
  description = "GPUs to simulate, such as \"8xA100-80G\"; null uses the machine's real ones."
  type        = string
  default     = "8xA100-80G"
}

variable "gpu_model" {
  description = "The model of the machine's GPUs."
  type        = string
  default     = "A100-80G"
}

provider "gpuloom" {}

resource "gpuloom_fleet" "ml" {
  name = "ml"
  local { simulate = var.simulate }
}

# Training: two nodes of two GPUs, up to three when jobs queue.
resource "gpuloom_pool" "train" {
  fleet = gpuloom_fleet.ml.connection
  name  = "train"
  gpu   = { model = var.gpu_model, per_node = 2 }
  local {}
  autoscaling {
    min = 1
    max = 3
  }
  initial_size = 2
  on_destroy   = "kill"
  labels       = { purpose = "training" }
}

# Small jobs and notebooks: one node of one GPU, shared in fractions.
resource "gpuloom_pool" "shared" {
  fleet = gpuloom_fleet.ml.connection
  name  = "shared"
  gpu   = { model = var.gpu_model, per_node = 1 }
  local {}
  autoscaling {
    min = 1
    max = 2
  }
  on_destroy = "kill"
  labels     = { purpose = "notebooks" }
}

resource "gpuloom_autoscaling_policy" "train" {
  fleet              = gpuloom_fleet.ml.connection
  name               = "train"
  pool               = gpuloom_pool.train.name
  target_utilization = 0.7
  queue_per_node     = 2
  window             = "1m"
  grow_cooldown      = "15s"
  shrink_cooldown    = "5m"
}

resource "gpuloom_tenant" "research" {
  fleet  = gpuloom_fleet.ml.connection
  name   = "research"
  weight = 2
}

resource "gpuloom_tenant" "product" {
  fleet = gpuloom_fleet.ml.connection
  name  = "product"
}

resource "gpuloom_quota" "research" {
  fleet      = gpuloom_fleet.ml.connection
  name       = "research"
  tenant     = gpuloom_tenant.research.name
  guaranteed = { gpus = 2 }
  limit      = { gpus = 4, gpu_memory_gib = 320 }
}

resource "gpuloom_quota" "product" {
  fleet      = gpuloom_fleet.ml.connection
  name       = "product"
  tenant     = gpuloom_tenant.product.name
  guaranteed = { gpus = 1 }
  limit      = { gpus = 3 }
}

resource "gpuloom_priority_class" "deadline" {
  fleet    = gpuloom_fleet.ml.connection
  name     = "deadline"
  value    = 500
  preempts = true
  grace    = "5s"
}

resource "gpuloom_limit_range" "shared" {
  fleet   = gpuloom_fleet.ml.connection
  name    = "shared"
  pool    = gpuloom_pool.shared.name
  default = { gpus = 0.25, walltime = "1h" }
  max     = { gpus = 1, walltime = "12h" }
}

output "endpoint" {
  description = "Where `gpuloom --endpoint` finds the fleet."
  value       = gpuloom_fleet.ml.connection.endpoints[0]
}

output "ca_pin" {
  description = "What `gpuloom --ca-pin` trusts."
  value       = gpuloom_fleet.ml.connection.ca_pin
}

output "backend" {
  description = "nvml, or simulated: no GPU is touched."
  value       = gpuloom_fleet.ml.backend
}

output "data_dir" {
  description = "Where the lead keeps its store and its log."
  value       = gpuloom_fleet.ml.data_dir
}
