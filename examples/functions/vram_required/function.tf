terraform {
  required_providers {
    gpuloom = { source = "gpuloom/gpuloom" }
  }
}

# GPU memory for a model of 70 billion parameters, to serve it in fp16.
output "serve_70b_gib" {
  value = provider::gpuloom::vram_required(70, "fp16", false).total_gib
}

# The same model in training: gradients and optimizer state come on top.
output "train_70b" {
  value = provider::gpuloom::vram_required(70, "bf16", true)
}
