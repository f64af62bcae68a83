//! The README's story and the whole way from HCL to a job and back, with the real terraform.

use gpuloom_tests::{LONG, PROVIDER, Rig, SHORT, get, repository, session_of, until};
use serde_json::Value;

#[test]
fn two_tenants_share_the_fleet_of_the_readme_until_it_is_destroyed() {
    let rig = Rig::new();
    let terraform = rig.terraform();
    terraform.copy(&repository().join("examples"), "examples");
    let terraform = terraform.below("examples/fleets/local");
    terraform.apply(&[]);
    terraform.plan_is_empty();
    let outputs = terraform.outputs();
    assert_eq!(outputs["backend"]["value"], "simulated");

    let fleet = rig.fleet("ml");
    assert_eq!(outputs["endpoint"]["value"], fleet.endpoint.as_str());
    let nodes = fleet.json(&["nodes"])["nodes"].as_array().cloned();
    assert_eq!(nodes.map(|n| n.len()), Some(3), "2 of train, 1 of shared");

    let workload = rig.workload();
    let research = fleet.with_token(&fleet.token("research"));
    let product = fleet.with_token(&fleet.token("product"));
    let long = ["--", workload.as_str(), "--gpu-memory", "4GiB"];
    let submit = |who: &gpuloom_tests::Fleet, flags: &[&str]| who.submit(&[flags, &long].concat());

    // Research fills both training nodes; more than its limit of 4 GPUs it does not get.
    let train = ["--pool", "train", "--gpus", "2", "--grace", "1s"];
    let first = submit(&research, &train);
    let second = submit(&research, &train);
    research.runs(&first, LONG);
    research.runs(&second, LONG);
    let third = submit(&research, &train);
    let why = until("the quota stops the third job", SHORT, || {
        let why = research.why(&third);
        why.contains("quota").then_some(why.clone()).ok_or(why)
    });
    for part in ["research", "4", "2"] {
        assert!(why.contains(part), "{why:?} does not name {part}");
    }
    let used = research.usage("research");
    assert_eq!(used["gpus_milli"], 4000, "{used}");
    assert_eq!(used["limit"]["gpus_milli"], 4000, "{used}");

    // A quarter of a GPU, by the limit range of the pool; what it refuses it says.
    let small = ["--pool", "shared", "--walltime", "1h", "--", "sleep", "600"];
    let notebook = product.submit(&small);
    let attempt = product.runs(&notebook, SHORT);
    assert_eq!(attempt["grants"][0]["share_milli"], 250, "{attempt}");
    product.ok(&["cancel", &notebook]);
    let greedy = [
        "submit",
        "--pool",
        "shared",
        "--gpus",
        "2",
        "--walltime",
        "1h",
        "--",
        "true",
    ];
    product.refuses(&greedy, 2, "shared");
    let endless = [
        "submit",
        "--pool",
        "shared",
        "--walltime",
        "13h",
        "--",
        "true",
    ];
    product.refuses(&endless, 2, "walltime");

    // Product's job waits for a node; the pool grows for it, and the plan stays empty.
    let fourth = submit(&product, &train);
    fleet.pool_is("train", "grows to 3 nodes", LONG, |p| p["ready"] == 3);
    product.runs(&fourth, LONG);
    terraform.plan_is_empty();

    // A deadline of product takes the place of a job of lower priority.
    let urgent = submit(
        &product,
        &["--pool", "train", "--gpus", "1", "--priority", "deadline"],
    );
    product.runs(&urgent, LONG);
    let preempted = until("somebody was preempted", SHORT, || {
        let jobs = fleet.json(&["jobs"])["jobs"].as_array().cloned();
        let jobs = jobs.unwrap_or_default();
        let found = jobs.iter().find(|j| j["preemptions"] == 1).cloned();
        found.ok_or_else(|| format!("{jobs:?}"))
    });
    assert_eq!(preempted["state"], "pending", "{preempted}");
    assert_eq!(preempted["priority"], 0, "{preempted}");

    let top = fleet.json(&["top", "--once"]);
    assert_eq!(top["gpus_total"], 7, "3 nodes of 2 and 1 of 1");
    // Jobs wait and run: what was declared goes all the same, and they with it.
    assert!(
        top["jobs_active"].as_u64() >= Some(3) && top["jobs_pending"].as_u64() >= Some(2),
        "{top}"
    );
    terraform.destroy();
    rig.nothing_is_left();
}

#[test]
fn hcl_becomes_an_instance_a_job_its_metrics_more_nodes_fewer_and_nothing() {
    let rig = Rig::new();
    let terraform = rig.terraform();
    terraform.write(&format!(
        r#"{PROVIDER}
resource "gpuloom_fleet" "walk" {{
  name = "walk"
  local {{ simulate = "4xT4" }}
}}
resource "gpuloom_pool" "t4" {{
  fleet = gpuloom_fleet.walk.connection
  name  = "t4"
  gpu   = {{ model = "T4" }}
  local {{}}
  autoscaling {{
    min = 1
    max = 3
  }}
  labels = {{ tier = "walk" }}
}}
resource "gpuloom_autoscaling_policy" "t4" {{
  fleet           = gpuloom_fleet.walk.connection
  name            = "t4"
  pool            = gpuloom_pool.t4.name
  window          = "10s"
  grow_cooldown   = "0s"
  shrink_cooldown = "1s"
}}
resource "gpuloom_tenant" "walkers" {{
  fleet = gpuloom_fleet.walk.connection
  name  = "walkers"
}}
"#
    ));
    terraform.apply(&[]);
    terraform.plan_is_empty();

    // Instances: one lead, one node, each a process that outlives terraform.
    let instances = rig.instances();
    assert_eq!(instances.len(), 2, "{instances:?}");
    for id in &instances {
        let pid = rig.agent_pid(id);
        let pid = pid.unwrap_or_else(|| panic!("the agent of {id} does not run"));
        // Not getsid(2): in a process namespace, a session led from outside it has no number.
        let session = session_of(pid);
        assert_eq!(session, Some(pid), "{id} leads a session of its own");
    }

    let fleet = rig.fleet("walk");
    let node = instances.iter().find(|id| id.starts_with("t4-"));
    let node = node.expect("a node of the pool").clone();
    let workload = rig.workload();
    let job = [
        "--tenant",
        "walkers",
        "--",
        &workload,
        "--gpu-memory",
        "2GiB",
        "--utilization",
        "90",
        "--duration",
        "12s",
    ];
    let jobs: Vec<String> = (0..3).map(|_| fleet.submit(&job)).collect();
    fleet.runs(&jobs[0], LONG);

    // Metrics: what the lead and the node say of the job while it runs.
    let lead = rig
        .attribute("lead-walk", "metrics-endpoint")
        .expect("the lead serves metrics");
    let of_node = rig
        .attribute(&node, "metrics-endpoint")
        .expect("the node serves metrics");
    for endpoint in [&lead, &of_node] {
        let (status, body) = get(endpoint, "/healthz").expect("an answer");
        assert_eq!(status, 200, "{endpoint}: {body}");
        until("metrics in base units, all ours", SHORT, || {
            let (status, body) = get(endpoint, "/metrics")?;
            let good = status == 200
                && body.contains("simulated")
                && body.lines().any(|l| l.starts_with("gpuloom_"));
            good.then_some(()).ok_or(body)
        });
        let (_, body) = get(endpoint, "/metrics").expect("an answer");
        let foreign = body
            .lines()
            .find(|l| !l.starts_with('#') && !l.is_empty() && !l.starts_with("gpuloom_"));
        assert_eq!(foreign, None, "every metric has our prefix");
    }
    until("the node's GPU shows 2 GiB in use", SHORT, || {
        let (_, body) = get(&of_node, "/metrics")?;
        let used = 2_u64 << 30;
        let shows = body.lines().any(|l| {
            l.starts_with("gpuloom_")
                && l.contains("memory")
                && l.rsplit(' ').next().and_then(|v| v.parse::<f64>().ok()) == Some(used as f64)
        });
        shows.then_some(()).ok_or(body)
    });

    // The autoscaler grows the pool to its max and the plan has nothing to say about it.
    fleet.pool_is("t4", "grows to 3 nodes", LONG, |p| p["ready"] == 3);
    terraform.plan_is_empty();
    assert_eq!(rig.instances().len(), 4);
    for job in &jobs {
        fleet.state_is(job, "succeeded", LONG);
    }
    fleet.pool_is("t4", "shrinks to its min", LONG, |p| {
        p["wanted"] == 1 && p["provisioned"] == 1
    });
    until("only the lead and one node are left", SHORT, || {
        let left = rig.instances();
        (left.len() == 2).then_some(()).ok_or(format!("{left:?}"))
    });
    terraform.plan_is_empty();
    let sizes: Vec<Value> = fleet
        .events()
        .into_iter()
        .filter(|e| e["what"]["event"] == "pool_resized")
        .map(|e| e["what"]["to"].clone())
        .collect();
    assert!(
        sizes.contains(&Value::from(3)) && sizes.last() == Some(&Value::from(1)),
        "{sizes:?}"
    );

    terraform.destroy();
    rig.nothing_is_left();
}
