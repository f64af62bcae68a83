//! Data sources, the function, and the join token that is in no plan and no state.

use gpuloom_tests::{PROVIDER, Rig};

#[test]
fn data_sources_show_the_fleet_and_the_join_token_stays_secret() {
    let rig = Rig::new();
    let terraform = rig.terraform();
    let ground = format!(
        r#"{PROVIDER}
resource "gpuloom_fleet" "d" {{
  name = "d"
  local {{ simulate = "2xT4" }}
}}
resource "gpuloom_pool" "t4" {{
  fleet = gpuloom_fleet.d.connection
  name  = "t4"
  gpu   = {{ model = "T4" }}
  local {{}}
  autoscaling {{
    min = 1
    max = 1
  }}
  on_destroy = "kill"
}}
resource "gpuloom_pool" "racks" {{
  fleet = gpuloom_fleet.d.connection
  name  = "racks"
  gpu   = {{ model = "T4" }}
  existing {{}}
  autoscaling {{
    min = 0
    max = 1
  }}
}}
resource "gpuloom_tenant" "a" {{
  fleet = gpuloom_fleet.d.connection
  name  = "a"
}}
"#
    );
    terraform.write(&ground);
    terraform.apply(&[]);
    let fleet = rig.fleet("d");
    let running = fleet.submit(&["--tenant", "a", "--gpus", "0.5", "--", "sleep", "600"]);
    fleet.runs(&running, gpuloom_tests::LONG);
    let waiting = fleet.submit(&["--tenant", "a", "--", "sleep", "600"]);

    let (endpoint, pin) = (&fleet.endpoint, &fleet.ca_pin);
    terraform.write(&format!(
        r#"{ground}
data "gpuloom_fleet" "by_name" {{
  name = gpuloom_fleet.d.name
}}
data "gpuloom_fleet" "by_endpoint" {{
  endpoints = ["{endpoint}"]
  ca_pin    = "{pin}"
}}
data "gpuloom_nodes" "all" {{
  fleet = data.gpuloom_fleet.by_endpoint.connection
}}
data "gpuloom_nodes" "racks" {{
  fleet = gpuloom_fleet.d.connection
  pool  = "racks"
}}
data "gpuloom_devices" "all" {{
  fleet = gpuloom_fleet.d.connection
}}
data "gpuloom_queue" "a" {{
  fleet  = gpuloom_fleet.d.connection
  tenant = "a"
}}
ephemeral "gpuloom_join_token" "racks" {{
  fleet = gpuloom_fleet.d.connection
  pool  = gpuloom_pool.racks.name
  ttl   = "10m"
}}
resource "terraform_data" "hand_over" {{
  provisioner "local-exec" {{
    command     = "umask 077 && printf %s \"$JOIN_TOKEN\" > join-token"
    environment = {{ JOIN_TOKEN = ephemeral.gpuloom_join_token.racks.token }}
  }}
}}
output "fleets" {{ value = [data.gpuloom_fleet.by_name, data.gpuloom_fleet.by_endpoint] }}
output "nodes" {{ value = data.gpuloom_nodes.all.nodes }}
output "racks" {{ value = data.gpuloom_nodes.racks.nodes }}
output "devices" {{ value = data.gpuloom_devices.all.devices }}
output "queue" {{ value = data.gpuloom_queue.a }}
output "serve" {{ value = provider::gpuloom::vram_required(70, "fp16", false).total_gib }}
output "train" {{ value = provider::gpuloom::vram_required(70, "fp16", true).total_gib }}
"#
    ));
    terraform.apply(&[]);
    terraform.plan_is_empty();
    let outputs = terraform.outputs();
    let value = |name: &str| outputs[name]["value"].clone();
    let fleets = value("fleets");
    for known in [&fleets[0], &fleets[1]] {
        assert_eq!(known["connection"]["ca_pin"], pin.as_str(), "{known}");
        assert_eq!(
            (&known["name"], &known["backend"]),
            (&"d".into(), &"simulated".into()),
            "{known}"
        );
    }
    let nodes = value("nodes");
    assert_eq!(
        (&nodes[0]["state"], &nodes[0]["pool"], &nodes[0]["gpus"]),
        (&"ready".into(), &"t4".into(), &1.into()),
        "{nodes}"
    );
    assert_eq!(value("racks"), serde_json::json!([]));
    let devices = value("devices");
    assert_eq!(devices[0]["model"], "T4", "{devices}");
    assert_eq!(devices[0]["gpus_held"].to_string(), "0.5", "{devices}");
    assert_eq!(
        devices[0]["attempts"],
        serde_json::json!([format!("{running}#1")]),
        "{devices}"
    );
    let queue = value("queue");
    assert_eq!(
        (&queue["pending"], &queue["active"]),
        (&1.into(), &1.into()),
        "{queue}"
    );
    let jobs = queue["jobs"].as_array().cloned().unwrap_or_default();
    let waits = jobs
        .iter()
        .find(|j| j["id"] == waiting.as_str())
        .expect("the waiting job");
    assert!(
        waits["why"][0].as_str().is_some_and(|why| !why.is_empty()),
        "{waits}"
    );
    let gib = |name: &str| value(name).to_string().parse::<f64>().expect("a number");
    assert!(
        gib("serve") > 130.0 && gib("train") > gib("serve"),
        "{outputs}"
    );

    let token =
        std::fs::read_to_string(terraform.folder().join("join-token")).expect("it was handed over");
    assert!(token.len() > 20, "{token:?}");
    let state =
        std::fs::read_to_string(terraform.folder().join("terraform.tfstate")).expect("a state");
    assert!(!state.contains(&token), "the token is in the state");
    let key = std::fs::read_to_string(rig.key("admin.pem")).expect("the key");
    let secret = key.lines().nth(1).expect("PEM has a body");
    assert!(!state.contains(secret), "the admin key is in the state");

    // A function's mistake points at its argument.
    terraform.write(&format!("{PROVIDER}output \"x\" {{ value = provider::gpuloom::vram_required(70, \"fp17\", false) }}\n"));
    let refused = terraform.try_plan(&[]).diagnostics("error");
    assert!(
        refused.len() == 1 && refused[0].contains("precision"),
        "{refused:?}"
    );
    terraform.write(&ground);
    fleet.cancel_all();
    terraform.destroy();
    rig.nothing_is_left();
}
