terraform {
  required_providers {
    gpuloom = { source = "gpuloom/gpuloom" }
  }
}

# One T4, wherever it is cheapest on demand. Without credentials: from the provider's own catalog.
data "gpuloom_offerings" "t4" {
  gpu    = { model = "T4", count = 1 }
  market = "on-demand"
  limit  = 5
}

# At least 80 GB on each GPU in three regions, by the price of a GiB.
data "gpuloom_offerings" "large" {
  clouds             = ["aws", "gcp", "azure"]
  regions            = ["us-east-1", "us-central1", "eastus"]
  min_gpu_memory_gib = 80
  sort               = "price_per_gib_hour"
}

output "cheapest_t4" {
  value = data.gpuloom_offerings.t4.offerings[0]
}

# A price that nobody told is null, so it is asked for before it is used.
output "large" {
  value = {
    for o in data.gpuloom_offerings.large.offerings : "${o.cloud}/${o.region}/${o.instance_type}" =>
    o.on_demand_hourly_usd if o.on_demand_hourly_usd != null
  }
}
