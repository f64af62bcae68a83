//! A node with a lead that says what the test wants, and a simulated machine.

mod cases;
mod lead;
mod rig;

use gpuloom_nvml_sim::{Machine, Owner, ProcessKind, STATE_ENV, parse_bytes};
use std::process::ExitCode;

pub(crate) use cases::{ALL, run};

/// `workload DEVICE SIZE`: holds SIZE on the DEVICE (an index, or an id of the granted one) of the
/// simulated machine until it is killed.
pub(crate) fn workload_main(args: &[String]) -> ExitCode {
    let [device, size] = args else {
        return ExitCode::from(64);
    };
    let state = std::env::var_os(STATE_ENV).expect("the agent tells its jobs");
    let machine = Machine::open(state.as_ref()).expect("opens");
    let granted = std::env::var("CUDA_VISIBLE_DEVICES").expect("is granted");
    let device = if device == "granted" {
        &granted
    } else {
        device
    };
    let index = machine.find(device).expect("a device");
    let bytes = parse_bytes(size).expect("a size");
    let held = machine.claim(index, Owner::current(), bytes, 50, ProcessKind::Compute);
    held.expect("there is room");
    println!("holds {size}");
    loop {
        std::thread::park();
    }
}
