//! A machine in a temporary folder, and the library and programs built beside the tests.
#![expect(unsafe_code, reason = "raw calls with wrong arguments are the point")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gpuloom_nvml_sim::{DeviceSnapshot, LIBRARY_FILE, Machine, STATE_ENV, SimError};
use nvml_wrapper::Nvml;
use nvml_wrapper_sys::bindings as sys;

const SEED: u64 = 7;

pub(crate) struct Rig {
    folder: tempfile::TempDir,
    pub(crate) machine: Machine,
    _turn: MutexGuard<'static, ()>,
}

/// The loaded library and the environment are one per process: tests that share one take turns.
static TURN: Mutex<()> = Mutex::new(());

/// The cdylib: test runners leave it in `deps`; a plain build puts it one folder higher.
pub(crate) fn library() -> PathBuf {
    let exe = std::env::current_exe().expect("current_exe");
    let deps = exe.parent().expect("deps");
    let beside = deps.join(LIBRARY_FILE);
    if beside.exists() {
        beside
    } else {
        deps.parent().expect("profile").join(LIBRARY_FILE)
    }
}

// === impl Rig ===

impl Rig {
    pub(crate) fn new(spec: &str) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("machine.state");
        let machine = Machine::create(&path, &spec.parse().expect("spec"), SEED).expect("machine");
        Self {
            folder,
            machine,
            _turn: turn,
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("machine.state")
    }

    pub(crate) fn create(&self, spec: &str, seed: u64) -> Result<Machine, SimError> {
        Machine::create(&self.state(), &spec.parse()?, seed)
    }

    pub(crate) fn uuids(&self) -> Vec<String> {
        self.machine
            .devices()
            .expect("devices")
            .into_iter()
            .map(|d| d.uuid)
            .collect()
    }

    /// Loads the simulated library into this process.
    pub(crate) fn nvml(&self) -> Nvml {
        // SAFETY: only tests that hold their turn touch the environment.
        unsafe { std::env::set_var(STATE_ENV, self.state()) };
        Nvml::builder()
            .lib_path(library().as_os_str())
            .init()
            .expect("simulated driver")
    }

    pub(crate) fn workload_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gpuloom-sim-workload"));
        command
            .args(args)
            .env(STATE_ENV, self.state())
            .env_remove("CUDA_VISIBLE_DEVICES");
        command
    }

    pub(crate) fn workload(&self, args: &[&str]) -> Child {
        self.workload_command(args)
            .stdout(Stdio::null())
            .spawn()
            .expect("workload")
    }

    /// Waits until the devices satisfy `done`, at most ten seconds.
    pub(crate) fn until(&self, what: &str, done: impl Fn(&[DeviceSnapshot]) -> bool) {
        let start = Instant::now();
        while !done(&self.machine.devices().expect("devices")) {
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "timed out: {what}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

pub(crate) fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    let status = Command::new("kill")
        .args([&format!("-{name}"), &pid])
        .status()
        .expect("kill");
    assert!(status.success());
}

pub(crate) fn xid(event: &nvml_wrapper::struct_wrappers::event::EventData<'_>) -> u64 {
    match event.event_data {
        Some(nvml_wrapper::enums::event::XidError::Value(xid)) => xid,
        ref other => panic!("no Xid: {other:?}"),
    }
}

pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions.
    unsafe { libc::geteuid() == 0 }
}

/// Credentials belong to a thread; libc's wrappers change all of them, the bare call only this one.
pub(crate) fn become_nobody_in_this_thread() {
    // SAFETY: a system call with integer arguments; only this thread's effective uid changes.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, -1, 65_534, -1) };
    assert_eq!(result, 0);
}

/// Calls past the safe wrapper, each with one thing wrong.
pub(crate) fn raw_checks(lib: &sys::NvmlLib) {
    let mut device = std::ptr::null_mut();
    // SAFETY: the simulator checks what it is given; that is what is tested here.
    unsafe {
        assert_eq!(lib.nvmlDeviceGetHandleByIndex_v2(0, &raw mut device), 0);
        let mut memory: sys::nvmlMemory_v2_t = std::mem::zeroed();
        assert_eq!(
            lib.nvmlDeviceGetMemoryInfo_v2(device, &raw mut memory),
            25,
            "no version"
        );
        memory.version = 0x0100_0028;
        assert_eq!(
            lib.nvmlDeviceGetMemoryInfo_v2(device, &raw mut memory),
            25,
            "old version"
        );
        memory.version = 0x0200_0028;
        assert_eq!(lib.nvmlDeviceGetMemoryInfo_v2(device, &raw mut memory), 0);
        let mut old: sys::nvmlMemory_t = std::mem::zeroed();
        assert_eq!(lib.nvmlDeviceGetMemoryInfo(device, &raw mut old), 0);
        assert_eq!(
            old.used,
            memory.used + memory.reserved,
            "version 1 counts the reserve"
        );
        assert_eq!(lib.nvmlDeviceGetMemoryInfo(device, std::ptr::null_mut()), 2);
        let astray = device.cast::<u8>().wrapping_add(4).cast();
        let mut index = 0;
        assert_eq!(
            lib.nvmlDeviceGetIndex(astray, &raw mut index),
            2,
            "inside the table"
        );
        assert_eq!(
            lib.nvmlDeviceGetIndex(std::ptr::null_mut(), &raw mut index),
            2
        );
        let beyond = device.cast::<u64>().wrapping_add(1).cast();
        assert_eq!(
            lib.nvmlDeviceGetIndex(beyond, &raw mut index),
            2,
            "device 1 of 1"
        );
        let mut name = [0; 8];
        assert_eq!(
            lib.nvmlDeviceGetName(device, name.as_mut_ptr(), 8),
            7,
            "Tesla T4 and its NUL"
        );
        let mut count = 0;
        let list = std::ptr::null_mut();
        let processes = lib.nvmlDeviceGetComputeRunningProcesses_v3(device, &raw mut count, list);
        assert_eq!((processes, count), (7, 1));
        let none = std::ptr::null_mut();
        assert_eq!(
            lib.nvmlDeviceGetComputeRunningProcesses_v3(device, none, list),
            2
        );
        let mut set = std::ptr::null_mut();
        assert_eq!(lib.nvmlEventSetCreate(&raw mut set), 0);
        assert_eq!(
            lib.nvmlDeviceRegisterEvents(device, 0, set),
            2,
            "no event type"
        );
        assert_eq!(
            lib.nvmlDeviceRegisterEvents(device, 1 << 40, set),
            3,
            "unknown type"
        );
        assert_eq!(lib.nvmlEventSetFree(set), 0);
        assert_eq!(lib.nvmlEventSetFree(set), 2, "freed twice");
        assert_eq!(lib.nvmlShutdown(), 0);
        assert_eq!(
            lib.nvmlDeviceGetIndex(device, &raw mut index),
            1,
            "after shutdown"
        );
        assert_eq!(lib.nvmlInit_v2(), 0);
    }
}

/// Every symbol the simulator is to export, with whether the loaded library has it. The names are
/// fields of the published bindings, so a misspelt one does not compile.
macro_rules! symbols {
    ($lib:expr, $($name:ident)*) => {
        [$((stringify!($name), $lib.$name.is_ok())),*]
    };
}

pub(crate) fn symbols(lib: &sys::NvmlLib) -> Vec<(&'static str, bool)> {
    symbols![lib,
        nvmlDeviceClearEccErrorCounts
        nvmlDeviceGetArchitecture
        nvmlDeviceGetBAR1MemoryInfo
        nvmlDeviceGetBoardId
        nvmlDeviceGetBoardPartNumber
        nvmlDeviceGetBrand
        nvmlDeviceGetBusType
        nvmlDeviceGetClock
        nvmlDeviceGetClockInfo
        nvmlDeviceGetComputeMode
        nvmlDeviceGetComputeRunningProcesses_v3
        nvmlDeviceGetCount_v2
        nvmlDeviceGetCudaComputeCapability
        nvmlDeviceGetCurrPcieLinkGeneration
        nvmlDeviceGetCurrPcieLinkWidth
        nvmlDeviceGetCurrentClocksEventReasons
        nvmlDeviceGetCurrentClocksThrottleReasons
        nvmlDeviceGetDecoderUtilization
        nvmlDeviceGetDetailedEccErrors
        nvmlDeviceGetDisplayActive
        nvmlDeviceGetDisplayMode
        nvmlDeviceGetEccMode
        nvmlDeviceGetEncoderUtilization
        nvmlDeviceGetEnforcedPowerLimit
        nvmlDeviceGetFieldValues
        nvmlDeviceGetGraphicsRunningProcesses_v3
        nvmlDeviceGetHandleByIndex_v2
        nvmlDeviceGetHandleByPciBusId_v2
        nvmlDeviceGetHandleBySerial
        nvmlDeviceGetHandleByUUID
        nvmlDeviceGetIndex
        nvmlDeviceGetIrqNum
        nvmlDeviceGetMPSComputeRunningProcesses_v3
        nvmlDeviceGetMaxClockInfo
        nvmlDeviceGetMaxMigDeviceCount
        nvmlDeviceGetMaxPcieLinkGeneration
        nvmlDeviceGetMaxPcieLinkWidth
        nvmlDeviceGetMemoryBusWidth
        nvmlDeviceGetMemoryErrorCounter
        nvmlDeviceGetMemoryInfo
        nvmlDeviceGetMemoryInfo_v2
        nvmlDeviceGetMigDeviceHandleByIndex
        nvmlDeviceGetMigMode
        nvmlDeviceGetMinorNumber
        nvmlDeviceGetMultiGpuBoard
        nvmlDeviceGetName
        nvmlDeviceGetNumFans
        nvmlDeviceGetNumGpuCores
        nvmlDeviceGetNumaNodeId
        nvmlDeviceGetP2PStatus
        nvmlDeviceGetPciInfo_v3
        nvmlDeviceGetPcieLinkMaxSpeed
        nvmlDeviceGetPcieReplayCounter
        nvmlDeviceGetPcieSpeed
        nvmlDeviceGetPcieThroughput
        nvmlDeviceGetPerformanceState
        nvmlDeviceGetPersistenceMode
        nvmlDeviceGetPowerManagementDefaultLimit
        nvmlDeviceGetPowerManagementLimit
        nvmlDeviceGetPowerManagementLimitConstraints
        nvmlDeviceGetPowerManagementMode
        nvmlDeviceGetPowerUsage
        nvmlDeviceGetProcessUtilization
        nvmlDeviceGetRemappedRows
        nvmlDeviceGetRetiredPages
        nvmlDeviceGetRetiredPagesPendingStatus
        nvmlDeviceGetRetiredPages_v2
        nvmlDeviceGetRowRemapperHistogram
        nvmlDeviceGetSerial
        nvmlDeviceGetSupportedClocksEventReasons
        nvmlDeviceGetSupportedClocksThrottleReasons
        nvmlDeviceGetSupportedEventTypes
        nvmlDeviceGetTemperature
        nvmlDeviceGetTemperatureThreshold
        nvmlDeviceGetTemperatureV
        nvmlDeviceGetTopologyCommonAncestor
        nvmlDeviceGetTopologyNearestGpus
        nvmlDeviceGetTotalEccErrors
        nvmlDeviceGetTotalEnergyConsumption
        nvmlDeviceGetUUID
        nvmlDeviceGetUtilizationRates
        nvmlDeviceGetVbiosVersion
        nvmlDeviceIsMigDeviceHandle
        nvmlDeviceOnSameBoard
        nvmlDeviceRegisterEvents
        nvmlDeviceResetGpuLockedClocks
        nvmlDeviceSetComputeMode
        nvmlDeviceSetEccMode
        nvmlDeviceSetGpuLockedClocks
        nvmlDeviceSetMigMode
        nvmlDeviceSetPersistenceMode
        nvmlDeviceSetPowerManagementLimit
        nvmlErrorString
        nvmlEventSetCreate
        nvmlEventSetFree
        nvmlEventSetWait_v2
        nvmlGpmSampleAlloc
        nvmlGpmSampleFree
        nvmlInitWithFlags
        nvmlInit_v2
        nvmlShutdown
        nvmlSystemGetCudaDriverVersion
        nvmlSystemGetCudaDriverVersion_v2
        nvmlSystemGetDriverVersion
        nvmlSystemGetNVMLVersion
        nvmlSystemGetProcessName
        nvmlUnitGetCount
    ]
    .to_vec()
}
