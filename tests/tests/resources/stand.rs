//! A configuration with one resource of every kind, each in one of its variants.

use gpuloom_tests::PROVIDER;

/// A fleet and what other resources lean on: tenants `root`, `base` and `other`, pools `steady` and `second`.
pub(crate) const GROUND: &str = r#"
resource "gpuloom_fleet" "r" {
  name = "r"
  local { simulate = "6xT4,2xA100-80G" }
}
resource "gpuloom_tenant" "ground" {
  for_each = toset(["root", "base", "other"])
  fleet    = gpuloom_fleet.r.connection
  name     = each.key
}
resource "gpuloom_pool" "ground" {
  for_each = toset(["steady", "second"])
  fleet    = gpuloom_fleet.r.connection
  name     = each.key
  gpu      = { model = "T4" }
  existing {}
  autoscaling {
    min = 0
    max = 2
  }
}
"#;

/// One resource: its kind (with the label `x`) and the attributes beside `fleet`, `name` first.
pub(crate) type Body<'a> = (&'a str, &'a str, &'a str);

/// A configuration of the ground and these resources.
pub(crate) fn configuration(bodies: &[Body<'_>]) -> String {
    let mut text = format!("{PROVIDER}{GROUND}");
    for (kind, name, body) in bodies {
        text.push_str(&resource(kind, name, body));
    }
    text
}

/// One resource of the ground's fleet, labelled `x`.
pub(crate) fn resource(kind: &str, name: &str, body: &str) -> String {
    format!(
        "resource \"gpuloom_{kind}\" \"x\" {{\n  fleet = gpuloom_fleet.r.connection\n  name  = \"{name}\"\n  {body}\n  \
         depends_on = [gpuloom_tenant.ground, gpuloom_pool.ground]\n}}\n"
    )
}

/// One good body of every kind that a fleet declares.
pub(crate) const ONE_OF_EACH: [Body<'static>; 6] = [
    ("tenant", "t", "parent = \"root\"\n weight = 2"),
    (
        "quota",
        "q",
        "tenant = \"base\"\n guaranteed = { gpus = 1.5 }\n soft_limit = { gpus = 2 }\n limit = { gpus = 3, \
         gpu_memory_gib = 48.5 }\n on_excess = \"drain\"",
    ),
    (
        "priority_class",
        "p",
        "value = 500\n preempts = true\n cost_multiplier = 1.5\n grace = \"1m\"",
    ),
    (
        "limit_range",
        "l",
        "tenant = \"base\"\n default = { gpus = 0.5, walltime = \"1h\" }\n min = { gpus = 0.25 }\n max = { gpus = 2, \
         gpu_memory_gib = 32, walltime = \"12h\" }",
    ),
    (
        "pool",
        "n",
        "gpu = { model = \"T4\" }\n local {}\n autoscaling {\n min = 1\n max = 2\n }\n on_destroy = \"kill\"\n labels = { \
         tier = \"a\" }\n capacity {\n on_shortfall = \"degrade\"\n max_wait = \"2m\"\n }",
    ),
    (
        "autoscaling_policy",
        "a",
        "pool = \"steady\"\n target_utilization = 0.75\n queue_per_node = 2\n window = \"2m\"\n grow_cooldown = \
         \"30s\"\n shrink_cooldown = \"10m\"",
    ),
];
