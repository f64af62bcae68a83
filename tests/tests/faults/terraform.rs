//! The real terraform, cut off in the middle: killed, its provider killed, and Ctrl-C.

use crate::stage::FLEET;
use gpuloom_tests::{LONG, PROVIDER, Rig, SHORT, Terraform, kill, mentioning, until};

/// Who is cut off, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Terraform,
    Provider,
}

fn configuration(nodes: u32, on_destroy: &str) -> String {
    format!(
        r#"{PROVIDER}
resource "gpuloom_fleet" "f" {{
  name = "{FLEET}"
  local {{ simulate = "2xT4" }}
}}
resource "gpuloom_tenant" "a" {{
  fleet = gpuloom_fleet.f.connection
  name  = "a"
}}
resource "gpuloom_pool" "t4" {{
  fleet = gpuloom_fleet.f.connection
  name  = "t4"
  gpu   = {{ model = "T4" }}
  local {{}}
  autoscaling {{
    min = {nodes}
    max = {nodes}
  }}
  capacity {{
    on_shortfall = "degrade"
    max_wait     = "5m"
  }}
  on_destroy = "{on_destroy}"
  # Destroying a tenant ends its jobs: it goes last.
  depends_on = [gpuloom_tenant.a]
}}
"#
    )
}

fn begin(text: &str) -> (Rig, Terraform) {
    let rig = Rig::new();
    let folder = rig.dir().join("failpoints");
    std::fs::create_dir(&folder).expect("the folder is ours");
    let folder = folder.display().to_string();
    let terraform = rig.terraform_with(&[("GPULOOM_FAILPOINTS", &folder)]);
    terraform.write(text);
    (rig, terraform)
}

/// Lets whoever comes to `place` stand still there, and waits for it.
fn stand_at(
    rig: &Rig,
    place: &str,
    start: impl FnOnce() -> tfplug_host::terraform::Running,
) -> tfplug_host::terraform::Running {
    let folder = rig.dir().join("failpoints");
    std::fs::write(folder.join(place), "hang").expect("the folder is ours");
    let running = start();
    until(&format!("the provider comes to {place}"), LONG, || {
        let names = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let hit = names
            .filter_map(|e| e.file_name().into_string().ok())
            .any(|n| n.contains(".hit."));
        hit.then_some(()).ok_or_else(|| "nobody".to_owned())
    });
    running
}

fn providers(rig: &Rig) -> Vec<i32> {
    let all = mentioning(&rig.root()).into_iter();
    all.filter(|(_, line)| line.contains("terraform-provider-"))
        .map(|(pid, _)| pid)
        .collect()
}

fn cut(rig: &Rig, who: Cut, running: tfplug_host::terraform::Running) {
    match who {
        Cut::Terraform => running.kill().expect("it runs"),
        Cut::Provider => {
            let providers = providers(rig);
            assert!(!providers.is_empty(), "no provider runs");
            for pid in providers {
                kill(pid);
            }
        }
    }
    let ended = Terraform::wait(running);
    assert!(!ended.status.success(), "{}", ended.all());
    // A provider that stands still for ever would outlive its terraform.
    for pid in providers(rig) {
        kill(pid);
    }
    until("no provider is left", SHORT, || {
        let left = providers(rig);
        left.is_empty().then_some(()).ok_or(format!("{left:?}"))
    });
}

const APPLY: [&str; 4] = ["apply", "-auto-approve", "-input=false", "-no-color"];
const DESTROY: [&str; 4] = ["destroy", "-auto-approve", "-input=false", "-no-color"];

fn whole(rig: &Rig, terraform: &Terraform, nodes: usize) {
    terraform.apply(&[]);
    terraform.plan_is_empty();
    assert_eq!(rig.instances().len(), 1 + nodes, "{:?}", rig.instances());
    assert_eq!(terraform.state().len(), 3);
}

fn apply_is_cut(who: Cut, place: &str) {
    let (rig, terraform) = begin(&configuration(2, "kill"));
    let running = stand_at(&rig, place, || terraform.start(&APPLY));
    cut(&rig, who, running);
    whole(&rig, &terraform, 2);
    terraform.destroy();
    rig.nothing_is_left();
}

fn destroy_is_cut(who: Cut, place: &str) {
    let (rig, terraform) = begin(&configuration(2, "kill"));
    terraform.apply(&[]);
    let running = stand_at(&rig, place, || terraform.start(&DESTROY));
    cut(&rig, who, running);
    terraform.destroy();
    assert_eq!(terraform.state(), []);
    rig.nothing_is_left();
}

pub(crate) fn terraform_killed_while_it_makes_the_fleet() {
    apply_is_cut(Cut::Terraform, "provider.fleet.launch.after");
}

pub(crate) fn terraform_killed_while_it_waits_for_the_pool() {
    apply_is_cut(Cut::Terraform, "provider.pool.wait.before");
}

pub(crate) fn terraform_killed_while_it_destroys() {
    destroy_is_cut(Cut::Terraform, "provider.terminate.before");
}

pub(crate) fn provider_killed_while_it_makes_the_fleet() {
    apply_is_cut(Cut::Provider, "provider.fleet.launch.after");
}

pub(crate) fn provider_killed_while_it_waits_for_the_pool() {
    apply_is_cut(Cut::Provider, "provider.pool.wait.before");
}

pub(crate) fn provider_killed_while_it_destroys() {
    destroy_is_cut(Cut::Provider, "provider.terminate.after");
}

/// Ctrl-C while a pool waits for GPUs that there are not: what is there is saved, with the true counts.
pub(crate) fn interrupt_in_mid_apply() {
    let (rig, terraform) = begin(&configuration(3, "kill"));
    let running = terraform.start(&APPLY);
    until("the pool has what there is", LONG, || {
        let instances = rig.instances();
        (instances.len() == 3)
            .then_some(())
            .ok_or(format!("{instances:?}"))
    });
    running.interrupt().expect("it runs");
    drop(Terraform::wait(running));
    let state = terraform.state();
    assert!(
        state.iter().any(|(at, _)| at == "gpuloom_fleet.f"),
        "{state:?}"
    );
    assert!(!terraform.is_tainted("gpuloom_fleet.f"));
    assert!(!terraform.is_tainted("gpuloom_pool.t4"));
    terraform.write(&configuration(2, "kill"));
    whole(&rig, &terraform, 2);
    terraform.destroy();
    rig.nothing_is_left();
}

/// Ctrl-C while a pool drains: it is still in the state, and destroying again goes on.
pub(crate) fn interrupt_in_mid_destroy() {
    let (rig, terraform) = begin(&configuration(1, "drain"));
    terraform.apply(&[]);
    let fleet = rig.fleet(FLEET);
    let job = fleet.submit(&["--tenant", "a", "--", "sleep", "800"]);
    fleet.runs(&job, LONG);
    let running = terraform.start(&DESTROY);
    until("the pool drains", LONG, || {
        let shown = fleet.json(&["get", "pool", "t4"]);
        (shown["withdrawing"] == true)
            .then_some(())
            .ok_or_else(|| shown.to_string())
    });
    running.interrupt().expect("it runs");
    let ended = Terraform::wait(running);
    assert!(!ended.status.success(), "{}", ended.all());
    let state = terraform.state();
    assert!(
        state.iter().any(|(at, _)| at == "gpuloom_pool.t4"),
        "{state:?}"
    );
    fleet.state_is(&job, "active", SHORT);
    fleet.ok(&["cancel", &job]);
    terraform.destroy();
    assert_eq!(terraform.state(), []);
    rig.nothing_is_left();
}
