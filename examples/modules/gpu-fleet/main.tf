# A fleet with its pools and tenants from two maps.
resource "gpuloom_fleet" "this" {
  name = var.name
  local {
    listen   = var.listen
    simulate = var.simulate
  }
}

resource "gpuloom_pool" "this" {
  for_each = var.pools

  fleet = gpuloom_fleet.this.connection
  name  = each.key
  gpu   = { model = each.value.gpu_model, per_node = each.value.gpus }
  local {}
  autoscaling {
    min = each.value.min
    max = each.value.max
  }
  initial_size = each.value.initial_size
  on_destroy   = each.value.on_destroy
  capacity {
    on_shortfall = each.value.on_shortfall
  }
}

resource "gpuloom_autoscaling_policy" "this" {
  for_each = { for name, pool in var.pools : name => pool.autoscaling if pool.autoscaling != null }

  fleet              = gpuloom_fleet.this.connection
  name               = each.key
  pool               = gpuloom_pool.this[each.key].name
  target_utilization = each.value.target_utilization
  queue_per_node     = each.value.queue_per_node

  lifecycle {
    # A pool that has to be replaced cannot go while a policy names it.
    replace_triggered_by = [gpuloom_pool.this[each.key].gpu]
  }
}

# Parents first: a tenant may be part of one at the top.
resource "gpuloom_tenant" "top" {
  for_each = { for name, tenant in var.tenants : name => tenant if tenant.parent == null }

  fleet  = gpuloom_fleet.this.connection
  name   = each.key
  weight = each.value.weight
}

resource "gpuloom_tenant" "child" {
  for_each = { for name, tenant in var.tenants : name => tenant if tenant.parent != null }

  fleet  = gpuloom_fleet.this.connection
  name   = each.key
  parent = gpuloom_tenant.top[each.value.parent].name
  weight = each.value.weight
}

locals {
  tenant_names = merge(
    { for name, tenant in gpuloom_tenant.top : name => tenant.name },
    { for name, tenant in gpuloom_tenant.child : name => tenant.name },
  )
}

resource "gpuloom_quota" "this" {
  for_each = { for name, tenant in var.tenants : name => tenant
  if tenant.guaranteed != null || tenant.limit != null }

  fleet      = gpuloom_fleet.this.connection
  name       = each.key
  tenant     = local.tenant_names[each.key]
  guaranteed = each.value.guaranteed == null ? null : { gpus = each.value.guaranteed }
  limit      = each.value.limit == null ? null : { gpus = each.value.limit }
}
