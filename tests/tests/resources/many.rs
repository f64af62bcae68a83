//! Ten of each kind at once: one generation and one owner each, none gets in another's way.

use gpuloom_tests::{PROVIDER, Rig};

#[test]
fn ten_parallel_resources_of_each_kind_come_change_and_go() {
    let rig = Rig::new();
    let terraform = rig.terraform();
    let text = |weight: u32| {
        format!(
            r#"{PROVIDER}
resource "gpuloom_fleet" "x" {{
  count = 10
  name  = "f${{count.index}}"
  local {{ simulate = "1xT4" }}
}}
locals {{ fleet = gpuloom_fleet.x[0].connection }}
resource "gpuloom_tenant" "x" {{
  count  = 10
  fleet  = local.fleet
  name   = "t${{count.index}}"
  weight = {weight}
}}
resource "gpuloom_quota" "x" {{
  count  = 10
  fleet  = local.fleet
  name   = "q${{count.index}}"
  tenant = gpuloom_tenant.x[count.index].name
  limit  = {{ gpus = {weight} }}
}}
resource "gpuloom_priority_class" "x" {{
  count = 10
  fleet = local.fleet
  name  = "p${{count.index}}"
  value = count.index + {weight}
}}
resource "gpuloom_pool" "x" {{
  count = 10
  fleet = local.fleet
  name  = "n${{count.index}}"
  gpu   = {{ model = "T4" }}
  existing {{}}
  autoscaling {{
    min = 0
    max = {weight}
  }}
}}
resource "gpuloom_autoscaling_policy" "x" {{
  count          = 10
  fleet          = local.fleet
  name           = "a${{count.index}}"
  pool           = gpuloom_pool.x[count.index].name
  queue_per_node = {weight}
}}
resource "gpuloom_limit_range" "x" {{
  count  = 10
  fleet  = local.fleet
  name   = "l${{count.index}}"
  tenant = gpuloom_tenant.x[count.index].name
  max    = {{ gpus = {weight} }}
}}
"#
        )
    };
    terraform.write(&text(2));
    terraform.apply(&["-parallelism=30"]);
    terraform.plan_is_empty();
    assert_eq!(rig.instances().len(), 10);
    terraform.write(&text(3));
    terraform.apply(&["-parallelism=30"]);
    terraform.plan_is_empty();
    for (address, values) in terraform.state() {
        let fleets = address.starts_with("gpuloom_fleet");
        assert!(fleets || values["generation"] == 2, "{address}: {values}");
    }
    let gone = terraform.try_destroy(&["-parallelism=30"]);
    assert!(gone.status.success(), "{}", gone.all());
    rig.nothing_is_left();
}
