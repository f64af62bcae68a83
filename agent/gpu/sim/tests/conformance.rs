//! The simulated library as a program sees that loads it in the driver's place.

mod rig;

use std::collections::BTreeSet;
use std::process::Command;

use gpuloom_nvml_sim::{Fault, MemoryAnswer, Owner, ProcessKind};
use nvml_wrapper::enum_wrappers::device::{
    Clock, ComputeMode, EccCounter, MemoryError, TemperatureSensor, TemperatureThreshold,
};
use nvml_wrapper::enums::device::{SampleValue, UsedGpuMemory};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::structs::device::FieldId;

use rig::Rig;

const GIB: u64 = 1 << 30;

#[test]
fn a_device_answers_what_its_profile_says() {
    let rig = Rig::new("1xT4,1xH100");
    let nvml = rig.nvml();
    assert_eq!(nvml.device_count().expect("count"), 2);
    assert_eq!(nvml.sys_driver_version().expect("driver"), "580.95.05");
    assert_eq!(nvml.sys_cuda_driver_version().expect("cuda"), 13_000);
    let h100 = nvml.device_by_index(1).expect("device 1");
    let uuid = h100.uuid().expect("uuid");
    assert!(uuid.starts_with("GPU-") && uuid.len() == 40, "{uuid}");
    assert_eq!(h100.name().expect("name"), "NVIDIA H100 80GB HBM3");
    assert_eq!(h100.minor_number().expect("minor"), 1);
    let cc = h100.cuda_compute_capability().expect("compute capability");
    assert_eq!((cc.major, cc.minor), (9, 0));
    let pci = h100.pci_info().expect("pci");
    assert_eq!(pci.bus_id, "00000000:08:00.0");
    let memory = h100.memory_info().expect("memory");
    assert_eq!(memory.total, 81_559 << 20);
    assert_eq!(memory.total, memory.reserved + memory.used + memory.free);
    assert_eq!(
        h100.temperature(TemperatureSensor::Gpu)
            .expect("temperature"),
        34
    );
    assert_eq!(
        h100.temperature_threshold(TemperatureThreshold::Slowdown)
            .expect("slowdown"),
        87
    );
    assert_eq!(h100.max_clock_info(Clock::SM).expect("clock"), 1_980);
    assert!(h100.power_usage().expect("power") < h100.enforced_power_limit().expect("limit"));
    assert_eq!(h100.numa_node_id().expect("numa"), 0);
    assert_eq!(
        nvml.device_by_uuid(uuid.as_str())
            .expect("by uuid")
            .index()
            .expect("index"),
        1
    );
    assert_eq!(
        nvml.device_by_pci_bus_id(pci.bus_id)
            .expect("by bus")
            .index()
            .expect("index"),
        1
    );
    assert!(matches!(
        nvml.device_by_index(2),
        Err(NvmlError::InvalidArg)
    ));
    assert!(matches!(
        nvml.device_by_uuid("GPU-none"),
        Err(NvmlError::NotFound)
    ));
}

#[test]
fn the_machine_can_be_opened_again_but_not_as_another_one() {
    let rig = Rig::new("2xT4");
    let uuids = rig.uuids();
    assert_eq!(
        rig.create("2xT4", 7)
            .expect("same")
            .devices()
            .expect("devices")
            .len(),
        2
    );
    assert_eq!(rig.uuids(), uuids);
    assert!(
        rig.create("3xT4", 7)
            .expect_err("other layout")
            .to_string()
            .contains("2xT4")
    );
    assert!(rig.create("2xT4", 8).is_err());
    std::fs::write(rig.state(), b"not a machine").expect("write");
    let error = rig.create("2xT4", 7).expect_err("garbage").to_string();
    assert!(error.contains("is not a simulated machine"), "{error}");
}

#[test]
fn a_claim_shows_as_memory_process_and_load() {
    let rig = Rig::new("1xA100-80G");
    let nvml = rig.nvml();
    let device = nvml.device_by_index(0).expect("device");
    assert!(device.running_compute_processes().expect("none").is_empty());
    let me = Owner::current();
    rig.machine
        .claim(0, me, 10 * GIB, 60, ProcessKind::Compute)
        .expect("claim");
    let processes = device.running_compute_processes().expect("processes");
    assert_eq!(processes.len(), 1);
    assert_eq!(processes[0].pid, me.pid);
    assert_eq!(processes[0].used_gpu_memory, UsedGpuMemory::Used(10 * GIB));
    assert!(
        device
            .running_graphics_processes()
            .expect("graphics")
            .is_empty()
    );
    assert_eq!(device.memory_info().expect("memory").used, 10 * GIB);
    assert_eq!(device.utilization_rates().expect("utilization").gpu, 60);
    let samples = device.process_utilization_stats(None).expect("samples");
    assert_eq!((samples[0].pid, samples[0].sm_util), (me.pid, 60));
    rig.machine.release(0, me).expect("release");
    assert_eq!(device.memory_info().expect("memory").used, 0);
}

#[test]
fn a_full_device_refuses_and_keeps_what_it_had() {
    let rig = Rig::new("1xT4");
    let me = Owner::current();
    rig.machine
        .claim(0, me, 4 * GIB, 10, ProcessKind::Compute)
        .expect("fits");
    let error = rig
        .machine
        .claim(0, me, 16 * GIB, 10, ProcessKind::Compute)
        .expect_err("full");
    assert!(error.to_string().contains("out of memory"), "{error}");
    assert_eq!(rig.machine.device(0).expect("device").used_bytes, 4 * GIB);
    rig.machine.inject(0, Fault::Leak(9 * GIB)).expect("leak");
    assert!(
        rig.machine
            .claim(0, me, 6 * GIB, 10, ProcessKind::Compute)
            .is_err()
    );
}

#[test]
fn killing_a_workload_returns_its_memory() {
    let rig = Rig::new("2xA100-40G");
    let mut child = rig.workload(&["--gpu-memory", "8GiB", "--utilization", "50"]);
    rig.until("both devices are held", |d| {
        d.iter().all(|d| d.used_bytes == 8 * GIB)
    });
    rig.machine
        .inject(1, Fault::SlowReclaim(150))
        .expect("slow");
    child.kill().expect("kill");
    child.wait().expect("wait");
    let devices = rig.machine.devices().expect("devices");
    assert_eq!(devices[0].used_bytes, 0);
    assert_eq!(devices[1].used_bytes, 8 * GIB, "reclaimed too early");
    assert!(devices[1].processes.is_empty(), "a dead process is listed");
    rig.until("slow reclaim ends", |d| d[1].used_bytes == 0);
}

#[test]
fn a_workload_uses_only_the_devices_it_sees_and_dies_of_too_little_memory() {
    let rig = Rig::new("3xT4");
    let uuids = rig.uuids();
    let run = |visible: &str, args: &[&str]| {
        let mut command = rig.workload_command(args);
        command
            .env("CUDA_VISIBLE_DEVICES", visible)
            .output()
            .expect("run")
    };
    let ok = run(
        &uuids[2],
        &[
            "--gpu-memory",
            "2GiB",
            "--duration",
            "10ms",
            "--exit-code",
            "9",
        ],
    );
    assert_eq!(ok.status.code(), Some(9));
    let oom = run("0", &["--gpu-memory", "20GiB"]);
    assert_eq!(oom.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&oom.stderr).contains("out of memory"),
        "{oom:?}"
    );
    let late = [
        "--gpu-memory",
        "1GiB",
        "--grow-to",
        "99GiB",
        "--grow-after",
        "1ms",
    ];
    assert_eq!(run("1", &late).status.code(), Some(2));
    assert_eq!(run("", &[]).status.code(), Some(3));
    assert_eq!(run("0", &["--gpu-memory", "much"]).status.code(), Some(64));
}

#[test]
fn a_checkpointed_workload_goes_on_where_it_stopped() {
    let rig = Rig::new("1xT4");
    let file = rig.folder().join("checkpoint");
    let on_term = format!("checkpoint:{}", file.display());
    let mut child = rig.workload(&["--duration", "1h", "--on-term", &on_term]);
    rig.until("it runs", |d| d[0].used_bytes == GIB);
    rig::signal(&child, "TERM");
    assert_eq!(child.wait().expect("wait").code(), Some(143));
    std::fs::write(&file, "3600000").expect("all but done");
    let args = ["--duration", "1h", "--on-term", &on_term];
    let output = rig.workload_command(&args).output().expect("second run");
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("going on after 3600000 ms"));
}

#[test]
fn each_fault_has_its_return_code_and_healing_ends_it() {
    let rig = Rig::new("1xA100-80G");
    let nvml = rig.nvml();
    let device = nvml.device_by_index(0).expect("device");
    type IsIt = fn(&NvmlError) -> bool;
    let faults: [(Fault, IsIt); 4] = [
        (Fault::Lost, |e| matches!(e, NvmlError::GpuLost)),
        (Fault::NoPermission, |e| {
            matches!(e, NvmlError::NoPermission)
        }),
        (Fault::ResetRequired, |e| {
            matches!(e, NvmlError::ResetRequired)
        }),
        (Fault::Memory(MemoryAnswer::NotSupported), |e| {
            matches!(e, NvmlError::NotSupported)
        }),
    ];
    for (fault, is_it) in faults {
        rig.machine.inject(0, fault).expect("inject");
        let error = device.memory_info().expect_err("a fault");
        assert!(is_it(&error), "{fault:?}: {error:?}");
        rig.machine.heal(0).expect("heal");
        assert!(
            device.memory_info().is_ok(),
            "{fault:?} outlived its healing"
        );
    }
    rig.machine
        .inject(0, Fault::Memory(MemoryAnswer::NotAvailable))
        .expect("inject");
    let me = Owner::current();
    rig.machine
        .claim(0, me, GIB, 1, ProcessKind::Compute)
        .expect("claim");
    assert_eq!(device.memory_info().expect("memory").used, u64::MAX);
    let processes = device.running_compute_processes().expect("processes");
    assert_eq!(processes[0].used_gpu_memory, UsedGpuMemory::Unavailable);
}

#[test]
fn a_hung_device_blocks_until_healed() {
    let rig = Rig::new("2xT4");
    let nvml = rig.nvml();
    rig.machine.inject(0, Fault::Hang).expect("hang");
    std::thread::scope(|scope| {
        let call = scope.spawn(|| {
            nvml.device_by_index(0)
                .expect("healed")
                .index()
                .expect("index")
        });
        assert_eq!(
            nvml.device_by_index(1)
                .expect("other")
                .index()
                .expect("index"),
            1
        );
        assert!(!call.is_finished());
        rig.machine.heal(0).expect("heal");
        assert_eq!(call.join().expect("join"), 0);
    });
}

#[test]
fn an_event_reaches_the_waiter_and_a_burst_shows_the_latest_xid() {
    let rig = Rig::new("2xT4");
    let nvml = rig.nvml();
    let xid = nvml_wrapper::bitmasks::event::EventTypes::CRITICAL_XID_ERROR;
    let device = nvml.device_by_index(1).expect("device");
    rig.machine.post_xid(1, 31).expect("before anyone listens");
    let set = nvml.create_event_set().expect("set");
    let set = device
        .register_events(xid, set)
        .map_err(|e| e.error)
        .expect("register");
    assert!(matches!(set.wait(1), Err(NvmlError::Timeout)));
    rig.machine.post_xid(0, 13).expect("another device");
    assert!(matches!(set.wait(1), Err(NvmlError::Timeout)));
    std::thread::scope(|scope| {
        let machine = &rig.machine;
        scope.spawn(move || machine.post_xid(1, 48).expect("post"));
        let event = set.wait(10_000).expect("event");
        assert_eq!(event.device.index().expect("index"), 1);
        assert_eq!(rig::xid(&event), 48);
    });
    rig.machine.post_xid(1, 63).expect("post");
    rig.machine.post_xid(1, 79).expect("post");
    for _ in 0..2 {
        assert_eq!(rig::xid(&set.wait(0).expect("event")), 79);
    }
    rig.machine.inject(1, Fault::Lost).expect("lose");
    assert_eq!(rig::xid(&set.wait(0).expect("the loss itself")), 79);
    assert!(matches!(set.wait(10_000), Err(NvmlError::GpuLost)));
}

#[test]
fn version_words_sizes_and_pointers_are_checked() {
    let rig = Rig::new("1xT4");
    let nvml = rig.nvml();
    let lib = nvml.lib();
    rig.machine
        .claim(0, Owner::current(), GIB, 1, ProcessKind::Compute)
        .expect("claim");
    rig::raw_checks(lib);
}

#[test]
fn control_is_for_root() {
    let rig = Rig::new("1xA100-80G");
    let nvml = rig.nvml();
    let mut device = nvml.device_by_index(0).expect("device");
    assert!(rig::is_root(), "this test needs to start as root");
    device
        .set_power_management_limit(250_000)
        .expect("root may");
    assert_eq!(device.enforced_power_limit().expect("limit"), 250_000);
    assert!(matches!(
        device.set_power_management_limit(1),
        Err(NvmlError::InvalidArg)
    ));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            rig::become_nobody_in_this_thread();
            let answer = device.set_power_management_limit(300_000);
            assert!(matches!(answer, Err(NvmlError::NoPermission)), "{answer:?}");
            assert_eq!(
                device.enforced_power_limit().expect("reading is free"),
                250_000
            );
        });
    });
}

#[test]
fn the_library_exports_what_the_bindings_must_have() {
    let output = Command::new("nm")
        .args(["-D", "--defined-only"])
        .arg(rig::library())
        .output();
    let output = output.expect("binutils' nm");
    let names = String::from_utf8_lossy(&output.stdout);
    let exported: BTreeSet<&str> = names
        .lines()
        .filter_map(|l| l.rsplit(' ').next())
        .filter(|n| n.starts_with("nvml"))
        .collect();
    let rig = Rig::new("1xT4");
    let known = rig::symbols(rig.nvml().lib());
    let missing: Vec<_> = known.iter().filter(|(_, there)| !there).collect();
    assert!(missing.is_empty(), "{missing:?}");
    // The older process lists are in the bindings' legacy part.
    let legacy = |name: &str| name.ends_with("RunningProcesses_v2");
    let names: BTreeSet<&str> = known.into_iter().map(|(name, _)| name).collect();
    let strange: Vec<_> = exported
        .iter()
        .filter(|name| !names.contains(*name) && !legacy(name))
        .collect();
    assert!(strange.is_empty(), "not in the bindings: {strange:?}");
    let library = std::fs::read(rig::library()).expect("library");
    let soname = b"libnvidia-ml.so.1\0";
    assert!(library.windows(soname.len()).any(|w| w == soname), "soname");
}

#[test]
fn many_processes_and_threads_keep_one_true_sum() {
    let rig = Rig::new("1xH200");
    let children: Vec<_> = (0..6)
        .map(|_| rig.workload(&["--gpu-memory", "1GiB", "--duration", "1h"]))
        .collect();
    rig.until("all hold memory", |d| d[0].used_bytes == 6 * GIB);
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let rig = &rig;
            scope.spawn(move || {
                let machine = rig.create("1xH200", 7).expect("open again");
                let me = Owner::current();
                for i in 0..200_u64 {
                    machine
                        .claim(0, me, i << 20, thread, ProcessKind::Compute)
                        .expect("claim");
                    let device = machine.device(0).expect("device");
                    let sum: u64 = device.processes.iter().map(|p| p.bytes).sum();
                    assert_eq!(device.used_bytes, sum);
                }
            });
        }
    });
    for mut child in children {
        child.kill().expect("kill");
        child.wait().expect("wait");
    }
    rig.machine.release(0, Owner::current()).expect("release");
    assert_eq!(rig.machine.device(0).expect("device").used_bytes, 0);
}

#[test]
fn overrides_and_error_counters_show_through_the_driver() {
    let rig = Rig::new("1xA100-80G,1xT4");
    let nvml = rig.nvml();
    let device = nvml.device_by_index(0).expect("device");
    let set = |fault| rig.machine.inject(0, fault).expect("inject");
    set(Fault::Utilization(Some(77)));
    set(Fault::Temperature(Some(91)));
    set(Fault::Ecc {
        corrected: 5,
        uncorrected: 2,
    });
    set(Fault::RowRemapPending);
    set(Fault::RecoveryAction(4));
    assert_eq!(device.utilization_rates().expect("utilization").gpu, 77);
    assert_eq!(
        device
            .temperature(TemperatureSensor::Gpu)
            .expect("temperature"),
        91
    );
    let ecc = |kind| {
        device
            .total_ecc_errors(kind, EccCounter::Volatile)
            .expect("ecc")
    };
    assert_eq!(
        (ecc(MemoryError::Corrected), ecc(MemoryError::Uncorrected)),
        (5, 2)
    );
    let fields = device.field_values_for(&[FieldId(144), FieldId(230), FieldId(9_999)]);
    let fields = fields.expect("fields");
    let value = |i: usize| &fields[i].as_ref().expect("sample").value;
    assert!(
        matches!(value(0), Ok(SampleValue::U32(1))),
        "remap pending: {fields:?}"
    );
    assert!(
        matches!(value(1), Ok(SampleValue::U32(4))),
        "recovery action: {fields:?}"
    );
    assert!(matches!(value(2), Err(NvmlError::NotSupported)));
    let t4 = nvml.device_by_index(1).expect("device");
    assert!(matches!(t4.mig_mode(), Err(NvmlError::NotSupported)));
    assert_eq!(device.mig_mode().expect("capable").current, 0);
    rig.machine.heal(0).expect("heal");
    assert_eq!(device.utilization_rates().expect("utilization").gpu, 0);
    assert_eq!(ecc(MemoryError::Uncorrected), 0);
}

#[test]
fn exclusive_compute_mode_admits_one_process() {
    let rig = Rig::new("1xT4");
    if !rig::is_root() {
        return;
    }
    let nvml = rig.nvml();
    let mut device = nvml.device_by_index(0).expect("device");
    device
        .set_compute_mode(ComputeMode::ExclusiveProcess)
        .expect("mode");
    rig.machine
        .claim(0, Owner::current(), GIB, 1, ProcessKind::Mps)
        .expect("the first");
    assert_eq!(
        device.mps_running_compute_processes().expect("mps").len(),
        1
    );
    assert!(
        device
            .running_compute_processes()
            .expect("compute")
            .is_empty()
    );
    let output = rig
        .workload_command(&["--duration", "1ms"])
        .output()
        .expect("run");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("busy or unavailable"));
}

#[test]
fn the_injector_does_what_it_says_and_refuses_the_rest() {
    let rig = Rig::new("2xT4");
    let state = rig.state().display().to_string();
    let run = |words: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gpuloom-sim"));
        let output = command
            .args(["--state", &state])
            .args(words.split(' '))
            .output()
            .expect("run");
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8(text).expect("UTF-8"),
        )
    };
    for (words, code, says) in [
        ("--help", 0, "Exit: 0 done, 1 refused, 2 wrong usage"),
        ("create 2xT4 --seed 7", 0, "2xT4"),
        ("create 3xT4", 1, "choose another file"),
        ("leak 0 1GiB", 0, ""),
        ("temperature 1 80", 0, ""),
        ("lose 1", 0, ""),
        ("list", 0, "nobody holds 1024 MiB"),
        ("list --json", 0, "\"temperature_c\":80"),
        ("xid 5 79", 1, "the machine has 2"),
        ("leak 0 much", 2, "a size like 10GiB"),
        ("grow 0 1 1GiB", 1, "no live process 1"),
        ("dance 0", 2, "is no command"),
        ("heal all", 0, ""),
        ("reap", 0, "0 claims"),
    ] {
        let (status, text) = run(words);
        assert_eq!(status, Some(code), "{words}: {text}");
        assert!(text.contains(says), "{words}: {text}");
    }
    let devices = rig.machine.devices().expect("devices");
    assert!(devices.iter().all(|d| !d.lost && d.leaked_bytes == 0));
}

#[test]
fn a_workload_ends_with_its_gpu_and_may_ignore_being_asked_to() {
    let rig = Rig::new("1xT4");
    let mut stubborn = rig.workload(&["--duration", "1h", "--on-term", "ignore"]);
    rig.until("it runs", |d| d[0].used_bytes == GIB);
    rig::signal(&stubborn, "TERM");
    rig.machine.inject(0, Fault::Lost).expect("lose");
    // Had it heeded the signal, it would have exited with 143.
    assert_eq!(stubborn.wait().expect("wait").code(), Some(4));
}
