//! The door on the real code path: a probe process, the C ABI and the simulated driver behind it.

use std::path::PathBuf;
use std::time::Duration;

use gpuloom_fleet::{Backend, Bytes, DeviceId, Millis};
use gpuloom_gpu::{GpuError, Probe, ProbeOptions, ProbeState};
use gpuloom_nvml_sim::{Fault, Machine, MemoryAnswer, Owner, ProcessKind};
use gpuloom_watch::{Reading, XidEvent};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);
/// Short where a hang is to be noticed; elsewhere the default, so that a busy machine is no hang.
const BEAT: Duration = Duration::from_millis(200);

struct Rig {
    folder: tempfile::TempDir,
    machine: Machine,
}

// === impl Rig ===

impl Rig {
    fn new(spec: &str) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("machine.state");
        let machine = Machine::create(&path, &spec.parse().expect("spec"), 1).expect("machine");
        Self { folder, machine }
    }

    fn options(&self) -> ProbeOptions {
        ProbeOptions {
            program: Some(PathBuf::from(env!("CARGO_BIN_EXE_gpuloom-gpu-probe"))),
            arguments: Vec::new(),
            processes_every: 1,
            ..ProbeOptions::simulated(self.folder.path().join("machine.state"))
        }
    }

    async fn probe(&self) -> (Probe, Receiver<XidEvent>) {
        Probe::start(self.options()).await.expect("probe")
    }

    async fn impatient_probe(&self) -> (Probe, Receiver<XidEvent>) {
        let options = ProbeOptions {
            beat: BEAT,
            ..self.options()
        };
        Probe::start(options).await.expect("probe")
    }

    fn id(&self, index: usize) -> DeviceId {
        DeviceId::new(self.machine.device(index).expect("device").uuid).expect("id")
    }
}

async fn until(probe: &Probe, what: &str, wanted: impl FnMut(&ProbeState) -> bool) -> ProbeState {
    let mut state = probe.watch_state();
    let reached = timeout(SOON, state.wait_for(wanted)).await;
    reached
        .unwrap_or_else(|_| panic!("timed out: {what}"))
        .expect("supervisor")
        .clone()
}

async fn read(probe: &Probe, at: u64) -> Vec<Reading> {
    timeout(SOON, probe.read(Millis(at)))
        .await
        .expect("in time")
        .expect("readings")
}

#[tokio::test]
async fn discovery_tells_what_each_device_is() {
    let rig = Rig::new("1xT4,1xA100-80G");
    let (probe, _xids) = rig.probe().await;
    let discovery = probe.discover().await.expect("discovery");
    assert_eq!(discovery.driver.backend, Backend::Simulated);
    assert_eq!(
        discovery.driver.driver_version.as_deref(),
        Some("580.95.05")
    );
    assert_eq!(discovery.driver.cuda_version.as_deref(), Some("13.0"));
    assert!(discovery.missing.is_empty() && discovery.unreadable.is_empty());
    let a100 = &discovery.devices[1];
    assert_eq!((a100.id.clone(), a100.index), (rig.id(1), 1));
    assert_eq!(
        (a100.model.as_str(), a100.product.as_str()),
        ("A100-80G", "NVIDIA A100-SXM4-80GB")
    );
    assert_eq!(a100.memory, Bytes::gib(80));
    assert_eq!(a100.compute_capability.as_deref(), Some("8.0"));
    assert_eq!(a100.pci.as_deref(), Some("00000000:08:00.0"));
    assert_eq!(a100.numa, Some(0));
    assert_eq!(discovery.minors[&rig.id(1)], 1);
    probe.stop().await;
}

#[tokio::test]
async fn a_share_shows_only_its_own_devices() {
    let rig = Rig::new("4xT4");
    let stranger = DeviceId::new("GPU-none").expect("id");
    let share = Some(vec![rig.id(2), rig.id(1), stranger.clone()]);
    let options = ProbeOptions {
        share,
        ..rig.options()
    };
    let (probe, mut xids) = Probe::start(options).await.expect("probe");
    let discovery = probe.discover().await.expect("discovery");
    let indices: Vec<u32> = discovery.devices.iter().map(|d| d.index).collect();
    assert_eq!(indices, [1, 2]);
    assert!(discovery.missing.contains_key(&stranger), "{discovery:?}");
    let readings = read(&probe, 1).await;
    assert_eq!(readings.len(), 3);
    assert!(
        readings
            .iter()
            .find(|r| r.device == stranger)
            .is_some_and(|r| r.lost)
    );
    rig.machine.post_xid(0, 31).expect("not ours");
    rig.machine.post_xid(2, 31).expect("ours");
    let xid = timeout(SOON, xids.recv())
        .await
        .expect("in time")
        .expect("xid");
    assert_eq!((xid.device, xid.xid), (rig.id(2), Some(31)));
}

#[tokio::test]
async fn a_reading_has_every_figure_and_the_processes() {
    let rig = Rig::new("2xA100-40G");
    let (probe, _xids) = rig.probe().await;
    let me = Owner::current();
    rig.machine
        .claim(1, me, 3 << 30, 45, ProcessKind::Compute)
        .expect("claim");
    let readings = read(&probe, 77).await;
    let busy = &readings[1];
    assert_eq!(
        (busy.device.clone(), busy.at, busy.lost),
        (rig.id(1), Millis(77), false)
    );
    assert_eq!(busy.utilization_milli, Some(450));
    assert_eq!(busy.memory_used, Some(Bytes::gib(3)));
    assert_eq!(busy.memory_total, Some(Bytes::gib(40)));
    assert_eq!(busy.memory_reserved, Some(Bytes::mib(571)));
    assert_eq!(busy.temperature_c, Some(34 + 15));
    assert_eq!(busy.power_mw, Some(50_000 + 350_000 * 45 / 100));
    assert_eq!(busy.power_limit_mw, Some(400_000));
    assert_eq!(
        (busy.sm_clock_mhz, busy.memory_clock_mhz),
        (Some(1_410), Some(1_215))
    );
    assert_eq!(
        (busy.ecc_corrected, busy.ecc_uncorrected),
        (Some(0), Some(0))
    );
    let processes = busy.processes.as_ref().expect("processes");
    assert_eq!(
        (processes[0].pid, processes[0].memory),
        (me.pid, Some(Bytes::gib(3)))
    );
    assert_eq!(
        readings[0].processes.as_deref(),
        Some(&[][..]),
        "none, and known to be none"
    );
}

#[tokio::test]
async fn processes_are_listed_as_often_as_asked() {
    let rig = Rig::new("1xT4");
    let options = ProbeOptions {
        processes_every: 3,
        ..rig.options()
    };
    let (probe, _xids) = Probe::start(options).await.expect("probe");
    let mut listed = Vec::new();
    for at in 1..=7 {
        listed.push(read(&probe, at).await[0].processes.is_some());
    }
    assert_eq!(listed, [true, false, false, true, false, false, true]);
    let asked = probe.read_with(Millis(9), true).await.expect("now");
    assert!(asked[0].processes.is_some());
}

#[tokio::test]
async fn what_the_driver_does_not_say_is_none() {
    let rig = Rig::new("1xT4");
    let (probe, _xids) = rig.probe().await;
    rig.machine
        .claim(0, Owner::current(), 1 << 30, 5, ProcessKind::Compute)
        .expect("claim");
    for answer in [MemoryAnswer::NotAvailable, MemoryAnswer::NotSupported] {
        rig.machine
            .inject(0, Fault::Memory(answer))
            .expect("inject");
        let reading = &read(&probe, 1).await[0];
        assert_eq!(
            (reading.memory_used, reading.memory_total),
            (None, None),
            "{answer:?}"
        );
        assert_eq!(
            reading.utilization_milli,
            Some(50),
            "the rest is still read"
        );
        let processes = reading.processes.as_ref().expect("processes");
        assert_eq!((processes.len(), processes[0].memory), (1, None));
    }
    rig.machine.inject(0, Fault::NoPermission).expect("inject");
    let reading = &read(&probe, 2).await[0];
    assert!(!reading.lost);
    assert_eq!(
        (reading.utilization_milli, reading.processes.as_ref()),
        (None, None)
    );
}

#[tokio::test]
async fn a_lost_gpu_is_told_with_its_xid_and_comes_back_when_healed() {
    let rig = Rig::new("2xT4");
    let (probe, mut xids) = rig.probe().await;
    rig.machine.inject(0, Fault::Lost).expect("lose");
    let xid = timeout(SOON, xids.recv())
        .await
        .expect("in time")
        .expect("xid");
    assert_eq!((xid.device, xid.xid), (rig.id(0), Some(79)));
    assert!(xid.at > Millis(0));
    let readings = read(&probe, 1).await;
    assert_eq!(readings[0], Reading::of_lost(rig.id(0), Millis(1)));
    assert!(!readings[1].lost && readings[1].memory_used.is_some());
    assert!(
        probe.state().admits(),
        "one lost GPU is not a driver that hangs"
    );
    // The other device is still listened to.
    let heard = async {
        loop {
            rig.machine.post_xid(1, 48).expect("post");
            if let Ok(Some(xid)) = timeout(Duration::from_millis(200), xids.recv()).await {
                return xid;
            }
        }
    };
    let xid = timeout(SOON, heard).await.expect("in time");
    assert_eq!((xid.device, xid.xid), (rig.id(1), Some(48)));
    rig.machine.heal(0).expect("heal");
    assert!(!read(&probe, 2).await[0].lost);
}

#[tokio::test]
async fn a_hanging_driver_is_noticed_and_the_probe_is_started_again_once() {
    let rig = Rig::new("2xT4");
    let (probe, _xids) = rig.impatient_probe().await;
    let first = probe.pid().expect("pid");
    rig.machine.inject(1, Fault::Hang).expect("hang");
    let asked = std::time::Instant::now();
    let error = probe.read(Millis(1)).await.expect_err("it hangs");
    assert!(matches!(error, GpuError::Unresponsive { .. }), "{error}");
    let waited = asked.elapsed();
    assert!(waited >= BEAT * 3, "given up after only {waited:?}");
    assert!(!probe.state().admits());
    // The one respawn hangs while it opens the driver; nothing is killed and no third one starts.
    let alive = |pid: u32| Owner::of(pid).is_some();
    assert!(alive(first), "the hanging probe was killed");
    let second = loop {
        if let Some(pid) = probe.pid().filter(|pid| *pid != first) {
            break pid;
        }
        tokio::task::yield_now().await;
    };
    let refused = probe.read(Millis(2)).await.expect_err("admission stops");
    assert!(
        matches!(refused, GpuError::Unresponsive { .. }),
        "{refused}"
    );
    rig.machine.heal_all().expect("heal");
    until(&probe, "it answers again", ProbeState::admits).await;
    assert_eq!(probe.pid(), Some(second));
    assert_eq!(read(&probe, 3).await.len(), 2);
    // A second hang soon after: no third probe, only patience.
    rig.machine.inject(0, Fault::Hang).expect("hang");
    assert!(probe.read(Millis(4)).await.is_err());
    assert_eq!(probe.pid(), Some(second));
    rig.machine.heal_all().expect("heal");
    until(&probe, "it recovers by itself", ProbeState::admits).await;
    assert_eq!(probe.pid(), Some(second));
    assert_eq!(read(&probe, 5).await.len(), 2);
}

#[tokio::test]
async fn a_probe_that_dies_is_replaced() {
    let rig = Rig::new("1xT4");
    let (probe, _xids) = rig.probe().await;
    let first = probe.pid().expect("pid");
    let pid = rustix::process::Pid::from_raw(i32::try_from(first).expect("pid")).expect("pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
    until(&probe, "the end is noticed", |s| {
        matches!(s, ProbeState::Down { .. })
    })
    .await;
    let error = probe.read(Millis(1)).await.expect_err("between two probes");
    assert!(matches!(error, GpuError::ProbeGone { .. }), "{error}");
    until(&probe, "the next one answers", ProbeState::admits).await;
    assert_ne!(probe.pid(), Some(first));
    assert_eq!(read(&probe, 2).await.len(), 1);
}

#[tokio::test]
async fn a_stopped_probe_leaves_no_process() {
    let rig = Rig::new("1xT4");
    let (probe, _xids) = rig.probe().await;
    let pid = probe.pid().expect("pid");
    probe.stop().await;
    assert_eq!(Owner::of(pid), None);
    // One that hangs ends by itself, once its pipes are closed and the driver has had its time.
    let (probe, _xids) = rig.impatient_probe().await;
    let pid = probe.pid().expect("pid");
    rig.machine.hang_all().expect("hang");
    assert!(probe.read(Millis(1)).await.is_err());
    probe.stop().await;
    let gone = async {
        while Owner::of(pid).is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, gone).await.expect("it ends by itself");
}

#[tokio::test]
async fn a_missing_library_machine_or_driver_says_what_to_do() {
    let rig = Rig::new("1xT4");
    let real = ProbeOptions {
        backend: Backend::Nvml,
        sim_state: None,
        ..rig.options()
    };
    match Probe::start(real).await {
        Err(error @ GpuError::NoLibrary { .. }) => {
            let text = error.to_string();
            for part in ["libnvidia-ml.so.1", "nvidia-smi", "simulate"] {
                assert!(text.contains(part), "{text}");
            }
        }
        Err(error) => panic!("another error where there is no driver: {error}"),
        // Only a machine that has a driver may get here.
        Ok((probe, _)) => {
            let driver = probe.discover().await.expect("discovery").driver;
            assert_eq!(driver.backend, Backend::Nvml);
        }
    }
    let nowhere = rig.folder.path().join("nowhere");
    let options = ProbeOptions {
        sim_state: Some(nowhere),
        ..rig.options()
    };
    let error = Probe::start(options)
        .await
        .expect_err("no machine")
        .to_string();
    assert!(error.contains("state file"), "{error}");
    let alone = rig.folder.path().join("gpuloom-gpu-probe");
    std::fs::copy(env!("CARGO_BIN_EXE_gpuloom-gpu-probe"), &alone).expect("copy");
    let options = ProbeOptions {
        program: Some(alone),
        ..rig.options()
    };
    let error = Probe::start(options)
        .await
        .expect_err("no simulator")
        .to_string();
    assert!(
        error.contains("libgpuloom_nvml_sim.so") && error.contains("lib/gpuloom"),
        "{error}"
    );
    let options = ProbeOptions {
        program: Some("/no/such/program".into()),
        ..rig.options()
    };
    let error = Probe::start(options).await.expect_err("no program");
    assert!(matches!(error, GpuError::ProbeGone { .. }), "{error}");
}

#[tokio::test]
async fn a_driver_that_does_not_open_in_time_is_reported() {
    let rig = Rig::new("1xT4");
    rig.machine.hang_all().expect("hang");
    let options = ProbeOptions {
        start_timeout: Duration::from_millis(200),
        ..rig.options()
    };
    let error = Probe::start(options).await.expect_err("it hangs");
    assert!(error.to_string().contains("did not open within"), "{error}");
    rig.machine.heal_all().expect("heal");
}

#[tokio::test]
async fn the_probe_is_small() {
    let rig = Rig::new("8xA100-80G");
    let (probe, _xids) = rig.probe().await;
    for at in 1..=20 {
        assert_eq!(read(&probe, at).await.len(), 8);
    }
    let pid = probe.pid().expect("pid");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let rss = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .expect("VmRSS");
    let kib: u64 = rss.trim().trim_end_matches(" kB").parse().expect("number");
    assert!(kib < 12 * 1024, "the probe alone holds {kib} KiB");
}
