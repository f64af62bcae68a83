variable "name" {
  description = "The fleet's name."
  type        = string
}

variable "simulate" {
  description = "GPUs to simulate, such as \"8xA100-80G\"; null uses the machine's real ones."
  type        = string
  default     = null
}

variable "listen" {
  description = "Where the lead answers; port 0 takes any free one and keeps it."
  type        = string
  default     = "127.0.0.1:0"
}

variable "pools" {
  description = "Pools by name."
  type = map(object({
    gpu_model    = string
    gpus         = optional(number, 1)
    min          = optional(number, 1)
    max          = optional(number, 1)
    initial_size = optional(number)
    on_shortfall = optional(string, "fail")
    on_destroy   = optional(string, "drain")
    autoscaling = optional(object({
      target_utilization = optional(number, 0.7)
      queue_per_node     = optional(number, 1)
    }))
  }))
  default = {}

  validation {
    condition     = alltrue([for pool in var.pools : pool.min <= pool.max])
    error_message = "Each pool needs min <= max."
  }
}

variable "tenants" {
  description = "Tenants by name, each with what it is guaranteed and limited to, in GPUs."
  type = map(object({
    parent     = optional(string)
    weight     = optional(number, 1)
    guaranteed = optional(number)
    limit      = optional(number)
  }))
  default = {}
}
