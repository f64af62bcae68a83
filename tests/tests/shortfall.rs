//! Fewer GPUs than wanted, pools that go with their jobs, limits below present use: told truthfully, mended by the lead.

use gpuloom_tests::{Fleet, LONG, PROVIDER, Rig, SHORT, until};

const FLEET: &str = r#"
resource "gpuloom_fleet" "s" {
  name = "s"
  local { simulate = "3xT4" }
}
resource "gpuloom_tenant" "a" {
  fleet = gpuloom_fleet.s.connection
  name  = "a"
}
"#;

fn pool(name: &str, min: u32, max: u32, more: &str) -> String {
    format!(
        "resource \"gpuloom_pool\" \"{name}\" {{\n  fleet = gpuloom_fleet.s.connection\n  name = \"{name}\"\n  gpu = {{ model = \
         \"T4\" }}\n  local {{}}\n  autoscaling {{\n    min = {min}\n    max = {max}\n  }}\n  {more}\n}}\n"
    )
}

#[test]
fn a_pool_that_is_short_says_so_and_is_made_whole_or_leaves_nothing() {
    let rig = Rig::new();
    let terraform = rig.terraform();
    let first = pool("first", 2, 2, "on_destroy = \"kill\"");
    terraform.write(&format!("{PROVIDER}{FLEET}{first}"));
    terraform.apply(&[]);
    let fleet = rig.fleet("s");

    // fail: one clear error, nothing in the fleet, nothing in the state, no instance.
    let failing = pool("failing", 2, 2, "capacity {\n max_wait = \"3s\"\n }");
    terraform.write(&format!("{PROVIDER}{FLEET}{first}{failing}"));
    let errors = terraform.apply_fails(&[]);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    for words in ["Pool failing got", "of 2 nodes", "Nothing of it is left"] {
        assert!(
            errors[0].contains(words),
            "{errors:#?} does not say {words:?}"
        );
    }
    let known: Vec<_> = terraform.state().into_iter().map(|(at, _)| at).collect();
    assert!(
        !known.contains(&"gpuloom_pool.failing".to_owned()),
        "{known:?}"
    );
    fleet.refuses(&["get", "pool", "failing"], 3, "failing");
    assert!(
        !rig.instances().iter().any(|id| id.starts_with("failing-")),
        "{:?}",
        rig.instances()
    );

    // degrade: a warning with the true counts, no taint, and nothing to plan.
    let second = pool(
        "second",
        2,
        2,
        "on_destroy = \"kill\"\n capacity {\n on_shortfall = \"degrade\"\n max_wait = \"3s\"\n }",
    );
    terraform.write(&format!("{PROVIDER}{FLEET}{first}{second}"));
    let done = terraform.apply(&[]);
    let warnings = done.diagnostics("warning");
    assert!(
        warnings
            .iter()
            .any(|w| w.contains("Pool second has 1 of 2 nodes")),
        "{warnings:#?}"
    );
    let values = terraform.values("gpuloom_pool.second");
    assert_eq!(
        (&values["size"], &values["ready_size"]),
        (&2.into(), &1.into()),
        "{values}"
    );
    assert_eq!(values["status"], "degraded", "{values}");
    assert!(
        values["shortfall"]
            .as_str()
            .is_some_and(|s| s.contains("T4")),
        "{values}"
    );
    assert!(!terraform.is_tainted("gpuloom_pool.second"));
    terraform.plan_is_empty();

    // GPUs become free: the lead restores the size by itself.
    terraform.write(&format!("{PROVIDER}{FLEET}{second}"));
    terraform.plan_is(&[("gpuloom_pool.first", "delete")]);
    terraform.apply(&[]);
    fleet.pool_is("second", "has its two nodes", LONG, |p| {
        p["ready"] == 2 && p["phase"] == "ready"
    });
    terraform.plan_is_empty();
    terraform.destroy();
    rig.nothing_is_left();
}

#[test]
fn a_pool_goes_as_it_was_told_to_refused_drained_or_with_its_jobs_stopped() {
    let rig = Rig::new();
    let terraform = rig.terraform();
    let refuse = pool("refuse", 1, 1, "on_destroy = \"refuse\"");
    let drain = pool("drain", 1, 1, "on_destroy = \"drain\"");
    let kill = pool("kill", 1, 1, "on_destroy = \"kill\"");
    terraform.write(&format!("{PROVIDER}{FLEET}{refuse}{drain}{kill}"));
    terraform.apply(&[]);
    let fleet = rig.fleet("s");
    let job = |pool: &str, seconds: &str| {
        let id = fleet.submit(&[
            "--tenant", "a", "--pool", pool, "--grace", "1s", "--", "sleep", seconds,
        ]);
        fleet.runs(&id, LONG);
        id
    };
    let (refused, killed) = (job("refuse", "600"), job("kill", "600"));
    let drained = job("drain", "6");

    terraform.write(&format!("{PROVIDER}{FLEET}"));
    let errors = terraform.apply_fails(&[]);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(
        errors[0].contains("Cannot destroy pool refuse") && errors[0].contains("1 "),
        "{errors:#?}"
    );
    // The others are gone: one waited for its job, one stopped it.
    assert_eq!(fleet.job(&drained)["state"], "succeeded");
    let stopped = fleet.job(&killed);
    assert_eq!(stopped["state"], "pending", "{stopped}");
    let end = stopped["attempts"][0]["reason"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(end.contains("going away"), "{stopped}");
    assert_eq!(fleet.job(&refused)["attempts"][0]["state"], "running");
    let left = rig.instances();
    assert_eq!(
        left.len(),
        2,
        "the lead and the node of pool refuse: {left:?}"
    );

    fleet.ok(&["cancel", &refused, &killed]);
    fleet.state_is(&refused, "cancelled", SHORT);
    terraform.apply(&[]);
    terraform.destroy();
    rig.nothing_is_left();
}

fn quota(tenant: &str, gpus: &str, on_excess: &str) -> String {
    format!(
        "resource \"gpuloom_tenant\" \"{tenant}\" {{\n  fleet = gpuloom_fleet.s.connection\n  name = \"{tenant}\"\n}}\nresource \
         \"gpuloom_quota\" \"{tenant}\" {{\n  fleet = gpuloom_fleet.s.connection\n  name = \"{tenant}\"\n  tenant = \
         gpuloom_tenant.{tenant}.name\n  limit = {{ gpus = {gpus} }}\n  on_excess = \"{on_excess}\"\n}}\n"
    )
}

fn reason(fleet: &Fleet, id: &str) -> String {
    until(&format!("job {id} says why it waits"), SHORT, || {
        let why = fleet.why(id);
        why.contains("quota").then_some(why.clone()).ok_or(why)
    })
}

#[test]
fn a_limit_set_below_present_use_keeps_drains_or_preempts() {
    let rig = Rig::new();
    let terraform = rig.terraform();
    let nodes = pool("all", 3, 3, "on_destroy = \"kill\"");
    let text = |gpus: &str| {
        let quotas: String = ["keep", "drain", "preempt"]
            .map(|how| quota(how, gpus, how))
            .concat();
        format!("{PROVIDER}{FLEET}{nodes}{quotas}")
    };
    terraform.write(&text("1"));
    terraform.apply(&[]);
    let fleet = rig.fleet("s");
    let half = |tenant: &str| {
        fleet.submit(&[
            "--tenant", tenant, "--gpus", "0.5", "--grace", "1s", "--", "sleep", "600",
        ])
    };
    let jobs = ["keep", "drain", "preempt"].map(|tenant| {
        let older = half(tenant);
        fleet.runs(&older, LONG);
        let younger = half(tenant);
        fleet.runs(&younger, LONG);
        (tenant, older, younger)
    });
    terraform.write(&text("0.5"));
    terraform.apply(&[]);
    terraform.plan_is_empty();
    for (tenant, older, younger) in &jobs {
        if *tenant == "preempt" {
            let stopped = fleet.state_is(younger, "pending", SHORT);
            let end = stopped["attempts"][0]["reason"]
                .as_str()
                .unwrap_or_default();
            assert!(end.contains("quota preempt"), "{stopped}");
            until("its use is within the limit", SHORT, || {
                let used = fleet.usage("preempt");
                (used["gpus_milli"] == 500)
                    .then_some(())
                    .ok_or(used.to_string())
            });
        } else {
            assert_eq!(
                fleet.job(younger)["attempts"][0]["state"],
                "running",
                "{tenant}"
            );
            assert_eq!(
                fleet.usage(tenant)["gpus_milli"],
                1000,
                "{tenant} keeps what it has"
            );
        }
        assert_eq!(
            fleet.job(older)["attempts"][0]["state"],
            "running",
            "{tenant}"
        );
        let waiting = half(tenant);
        let why = reason(&fleet, &waiting);
        assert!(why.contains(tenant), "{why}");
        // Back within the limit, what waits runs.
        if *tenant != "preempt" {
            fleet.ok(&["cancel", older, younger]);
            fleet.runs(&waiting, SHORT);
        }
    }
    fleet.cancel_all();
    terraform.destroy();
    rig.nothing_is_left();
}

#[test]
fn a_tenant_goes_with_its_jobs_or_is_kept_by_them() {
    let rig = Rig::new();
    let terraform = rig.terraform();
    let tenant = |name: &str, more: &str| {
        format!(
            "resource \"gpuloom_tenant\" \"{name}\" {{\n  fleet = gpuloom_fleet.s.connection\n  name = \"{name}\"\n  {more}\n}}\n"
        )
    };
    let nodes = pool("all", 1, 1, "on_destroy = \"kill\"");
    let kept = tenant("kept", "on_destroy = \"refuse\"");
    let goes = tenant("goes", "");
    terraform.write(&format!("{PROVIDER}{FLEET}{nodes}{kept}{goes}"));
    terraform.apply(&[]);
    let fleet = rig.fleet("s");
    let job = |tenant: &str| {
        fleet.submit(&[
            "--tenant", tenant, "--gpus", "0.5", "--grace", "1s", "--", "sleep", "600",
        ])
    };
    let (first, second, waits) = (job("kept"), job("goes"), job("goes"));
    fleet.runs(&first, LONG);
    fleet.runs(&second, LONG);
    terraform.write(&format!("{PROVIDER}{FLEET}{nodes}"));
    let errors = terraform.apply_fails(&[]);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(
        errors[0].contains("Cannot destroy tenant kept") && errors[0].contains(&first),
        "{errors:#?}"
    );
    fleet.state_is(&second, "cancelled", SHORT);
    fleet.state_is(&waits, "cancelled", SHORT);
    assert_eq!(fleet.job(&first)["attempts"][0]["state"], "running");
    fleet.refuses(&["get", "tenant", "goes"], 3, "goes");
    fleet.ok(&["cancel", &first]);
    fleet.state_is(&first, "cancelled", SHORT);
    terraform.apply(&[]);
    terraform.destroy();
    rig.nothing_is_left();
}
