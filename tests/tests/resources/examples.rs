//! What the registry shows works as it stands: it applies, the plan is empty, destroy leaves nothing.

use gpuloom_tests::{Rig, repository};

fn stands(folder: &str) {
    let rig = Rig::new();
    let terraform = rig.terraform();
    terraform.copy(&repository().join("examples"), "examples");
    let terraform = terraform.below(&format!("examples/{folder}"));
    terraform.apply(&[]);
    terraform.plan_is_empty();
    terraform.destroy();
    rig.nothing_is_left();
}

/// The folders below `examples/<part>`.
fn folders(part: &str) -> Vec<String> {
    let listed = std::fs::read_dir(repository().join("examples").join(part));
    let mut names: Vec<_> = listed
        .expect("the examples are there")
        .map(|entry| {
            entry
                .expect("it is listed")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

macro_rules! every_example {
    ($($part:literal => [$($test:ident $folder:literal),* $(,)?]),* $(,)?) => {
        $($(
            #[test]
            fn $test() {
                stands(concat!($part, "/", $folder));
            }
        )*)*

        #[test]
        fn no_example_is_forgotten() {
            $(assert_eq!(folders($part), [$($folder),*], $part);)*
        }
    };
}

every_example! {
    "resources" => [
        the_policy_applies "gpuloom_autoscaling_policy",
        the_fleet_applies "gpuloom_fleet",
        the_limit_range_applies "gpuloom_limit_range",
        the_pool_applies "gpuloom_pool",
        the_priority_class_applies "gpuloom_priority_class",
        the_quota_applies "gpuloom_quota",
        the_tenant_applies "gpuloom_tenant",
    ],
    "data-sources" => [
        the_devices_are_read "gpuloom_devices",
        the_fleet_is_read "gpuloom_fleet",
        the_nodes_are_read "gpuloom_nodes",
        the_offerings_are_listed "gpuloom_offerings",
        the_queue_is_read "gpuloom_queue",
    ],
    "functions" => [the_memory_is_told "vram_required"],
}

#[test]
fn the_fleet_of_the_module_comes_and_goes() {
    let rig = Rig::new();
    let terraform = rig.terraform();
    terraform.copy(&repository().join("examples"), "examples");
    let terraform = terraform.below("examples/fleets/module");
    // With dev_overrides there is no init: modules are fetched alone.
    terraform.ok(&["get"]);
    terraform.apply(&[]);
    terraform.plan_is_empty();
    let outputs = terraform.outputs();
    assert_eq!(outputs["pools"]["value"]["train"]["ready"], 1, "{outputs}");
    terraform.destroy();
    rig.nothing_is_left();
    let known = folders("fleets");
    assert_eq!(
        known,
        ["aws", "azure", "gcp", "local", "module"],
        "local is the README's story, and the clouds' are validated"
    );
}

#[test]
fn the_fleets_on_clouds_are_valid() {
    let rig = Rig::new();
    for cloud in ["aws", "azure", "gcp"] {
        let terraform = rig.terraform();
        terraform.copy(&repository().join("examples"), "examples");
        let terraform = terraform.below(&format!("examples/fleets/{cloud}"));
        let validated = terraform.ok(&["validate", "-no-color"]);
        assert!(
            validated.stdout.contains("Success!"),
            "{}",
            validated.stdout
        );
    }
}

#[test]
fn the_modules_own_suite_passes() {
    let rig = Rig::new();
    let terraform = rig.terraform();
    terraform.copy(&repository().join("examples"), "examples");
    let terraform = terraform.below("examples/modules/gpu-fleet");
    let tested = terraform.ok(&["test", "-no-color"]);
    assert!(
        tested.stdout.contains("Success!") && tested.stdout.contains(" 0 failed"),
        "{}",
        tested.stdout
    );
    rig.nothing_is_left();
}
