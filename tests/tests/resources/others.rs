//! Data sources, the function, and the join token that is in no plan and no state.

use gpuloom_tests::{LONG, PROVIDER, Rig, is_alive, until};
use std::os::unix::fs::DirBuilderExt as _;
use std::process::{Child, Stdio};

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

/// A machine that exists already: an agent with one GPU and a token, started by somebody else than the lead.
fn rack(rig: &Rig, id: &str, gpu: &str, token: &str) -> Child {
    let fleet = rig.fleet("d");
    let dir = rig.dir().join(id);
    // As the driver makes it: jobs pass through, nobody lists it.
    let made = std::fs::DirBuilder::new().mode(0o711).create(&dir);
    made.expect("the folder is ours");
    std::fs::write(dir.join("join-token"), token).expect("the folder is ours");
    let state = rig.instance("lead-d").join("sim/machine.state");
    let config = format!(
        "instance_id = {id:?}\ndata_dir = {dir:?}\nlisten = \"127.0.0.1:0\"\n[fleet]\nname = \"d\"\n[node]\nfleet_endpoints = \
         [{:?}]\nca_pin = {:?}\npool = \"racks\"\ngpus = [{gpu:?}]\nbackend = \"simulated\"\nsim_state = {state:?}\n",
        fleet.endpoint, fleet.ca_pin
    );
    let path = dir.join("agent.toml");
    std::fs::write(&path, config).expect("the folder is ours");
    let log = std::fs::File::create(dir.join("agent.log")).expect("the folder is ours");
    let mut agent = rig.gpuloom();
    agent
        .args(["agent", "--config"])
        .arg(&path)
        .stdin(Stdio::null());
    agent
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("gpuloom starts")
}

#[test]
fn a_machine_that_exists_joins_once_with_its_token() {
    let rig = Rig::new();
    let terraform = rig.terraform();
    terraform.write(&format!(
        "{PROVIDER}resource \"gpuloom_fleet\" \"d\" {{\n  name = \"d\"\n  local {{ simulate = \"1xT4\" }}\n}}\nresource \
         \"gpuloom_pool\" \"racks\" {{\n  fleet = gpuloom_fleet.d.connection\n  name = \"racks\"\n  gpu = {{ model = \"T4\" \
         }}\n  existing {{}}\n  autoscaling {{\n    min = 0\n    max = 1\n  }}\n  on_destroy = \"kill\"\n}}\nresource \
         \"gpuloom_tenant\" \"a\" {{\n  fleet = gpuloom_fleet.d.connection\n  name = \"a\"\n}}\n"
    ));
    terraform.apply(&[]);
    let fleet = rig.fleet("d");
    let devices = rig.machine("d").devices().expect("the machine's devices");
    let made = fleet.json(&["token", "create", "--pool", "racks", "--ttl", "10m"]);
    let token = made["token"].as_str().expect("a token");
    let mut agent = rack(&rig, "rack-1", &devices[0].uuid, token);
    until("the machine is a node", LONG, || {
        let nodes = fleet.json(&["nodes", "--pool", "racks"]);
        (nodes["nodes"][0]["state"] == "ready")
            .then_some(())
            .ok_or(nodes.to_string())
    });
    assert!(
        !rig.dir().join("rack-1/join-token").exists(),
        "a used token is removed"
    );
    let job = fleet.submit(&["--tenant", "a", "--pool", "racks", "--", "echo", "hello"]);
    fleet.state_is(&job, "succeeded", LONG);
    assert_eq!(fleet.ok(&["logs", &job]).stdout, "hello\n");
    terraform.plan_is_empty();

    // The token is spent: another machine that has copied it is refused, and says so.
    let mut second = rack(&rig, "rack-2", &devices[0].uuid, token);
    let pid = i32::try_from(second.id()).expect("a pid");
    until("the second machine gives up", LONG, || {
        (!is_alive(pid))
            .then_some(())
            .ok_or_else(|| "it still runs".to_owned())
    });
    assert!(!second.wait().expect("it has ended").success());
    let log = std::fs::read_to_string(rig.dir().join("rack-2/agent.log")).expect("its log");
    assert!(log.contains("token"), "{log}");
    assert_eq!(
        fleet.json(&["nodes"])["nodes"].as_array().map(Vec::len),
        Some(1)
    );

    agent.kill().expect("it runs");
    agent.wait().expect("it ends");
    terraform.destroy();
    rig.nothing_is_left();
}
