//! Everything that can be killed, killed at every place it passes, and then `apply` again: exactly what is declared,
//! nothing twice, nothing lost, nothing left.
//!
//! One trial for each operation and place: `kill::<who>::<operation>::<place>`.

mod complete;
mod lead;
mod life;
mod node;
mod provider;
mod stage;
mod store;
mod terraform;
mod tools;

use libtest_mimic::{Arguments, Trial};
use std::collections::BTreeSet;

/// One way to die.
pub(crate) struct Case {
    who: &'static str,
    operation: String,
    place: &'static str,
    run: Box<dyn FnOnce() + Send>,
}

// === impl Case ===

impl Case {
    pub(crate) fn new(
        who: &'static str,
        operation: &str,
        place: &'static str,
        run: impl FnOnce() + Send + 'static,
    ) -> Self {
        Self {
            who,
            operation: operation.to_owned(),
            place,
            run: Box::new(run),
        }
    }

    fn trial(self) -> Trial {
        let name = format!("kill::{}::{}::{}", self.who, self.operation, self.place);
        let run = self.run;
        Trial::test(name, move || {
            run();
            Ok(())
        })
    }
}

/// A trial of its own; `missing` is what this machine lacks for it.
fn whole(name: &str, missing: Option<&'static str>, test: fn()) -> Trial {
    let name = match missing {
        Some(why) => format!("{name} (skipped: {why})"),
        None => name.to_owned(),
    };
    let trial = Trial::test(name, move || match missing {
        // Asked for by name all the same.
        Some(why) => Err(why.into()),
        None => {
            test();
            Ok(())
        }
    });
    trial.with_ignored_flag(missing.is_some())
}

/// The sample through the real terraform.
fn by_terraform() -> Vec<Trial> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&path).any(|dir| dir.join("terraform").is_file());
    let missing = (!there).then_some("needs terraform on PATH");
    let tests: [(&str, fn()); 8] = [
        (
            "kill::terraform::create_fleet",
            terraform::terraform_killed_while_it_makes_the_fleet,
        ),
        (
            "kill::terraform::create_pool",
            terraform::terraform_killed_while_it_waits_for_the_pool,
        ),
        (
            "kill::terraform::destroy",
            terraform::terraform_killed_while_it_destroys,
        ),
        (
            "kill::provider_of_terraform::create_fleet",
            terraform::provider_killed_while_it_makes_the_fleet,
        ),
        (
            "kill::provider_of_terraform::create_pool",
            terraform::provider_killed_while_it_waits_for_the_pool,
        ),
        (
            "kill::provider_of_terraform::destroy",
            terraform::provider_killed_while_it_destroys,
        ),
        ("interrupt::apply", terraform::interrupt_in_mid_apply),
        ("interrupt::destroy", terraform::interrupt_in_mid_destroy),
    ];
    let tests = tests.into_iter();
    tests
        .map(|(name, test)| whole(name, missing, test))
        .collect()
}

fn main() {
    let cases: Vec<Case> = [provider::cases(), lead::cases(), node::cases()]
        .into_iter()
        .flatten()
        .collect();
    let passed: BTreeSet<(&str, &str)> = cases.iter().map(|c| (c.who, c.place)).collect();
    let mut trials: Vec<Trial> = cases.into_iter().map(Case::trial).collect();
    trials.push(Trial::test("every_failpoint_has_its_case", move || {
        Ok(complete::check(&passed)?)
    }));
    trials.push(whole(
        "corrupt_store_is_refused_and_restored",
        None,
        store::a_corrupt_store_is_refused_with_the_way_out_and_a_backup_brings_it_back,
    ));
    trials.extend(by_terraform());
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
