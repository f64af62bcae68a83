//! One machine from its boot to its end.

use super::{Address, METADATA_PORT, Machines, processes, stubs};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// What a machine keeps of our environment: it may be a test's, with keys of clouds in it.
const KEPT: [&str; 6] = [
    "LANG",
    "TZ",
    "TMPDIR",
    "GPULOOM_LOG",
    "RUST_BACKTRACE",
    "LLVM_PROFILE_FILE",
];
/// How much of each log [`Machine::logs`] shows, in bytes.
const LOG_TAIL: usize = 8_000;

/// What to boot.
#[derive(Debug)]
pub struct MachineSpec {
    /// The instance's id.
    pub id: String,
    /// Its user data: a script whose first line says `#!`.
    pub user_data: String,
    /// Its GPUs as a layout of the simulator, `1xT4` or `8xA100-80G`; `None` for a machine without.
    pub gpus: Option<String>,
    /// Its address; freed when it ends.
    pub address: Address,
    /// What its processes have in their environment, beside where the metadata service answers
    /// ([`METADATA_PORT`] of its own address).
    pub env: Vec<(String, String)>,
    /// Disks that outlive it.
    pub disks: Vec<Disk>,
}

/// A disk: a folder kept beyond the machine, shown as a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Where the machine sees it: `/dev/disk/by-id/google-gpuloom-data`.
    pub device: String,
    /// What is on it; made when missing.
    pub folder: PathBuf,
}

/// Whether a machine is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// It runs.
    On,
    /// It was cut off; its folder is kept.
    Off,
}

/// A machine. Dropping it is a power cut too.
#[derive(Debug)]
pub struct Machine {
    id: String,
    dir: PathBuf,
    address: Address,
    env: Vec<(String, String)>,
    power: Mutex<Power>,
    /// Its folder belongs to them.
    _machines: Machines,
}

// === impl Machine ===

impl Machine {
    pub(super) fn boot(
        machines: Machines,
        dir: PathBuf,
        gpuloom: &Path,
        sim: &Path,
        spec: MachineSpec,
    ) -> io::Result<Self> {
        if !spec.user_data.starts_with("#!") {
            let text = format!("the user data of {} does not begin with #!", spec.id);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        for folder in ["root/etc", "root/var/lib", "root/dev", "log", "run"] {
            fs::create_dir_all(dir.join(folder))?;
        }
        for folder in ["", "root", "root/var", "root/var/lib"] {
            fs::set_permissions(dir.join(folder), Permissions::from_mode(0o755))?;
        }
        stubs::write(&dir.join("stubs"))?;
        if let Some(layout) = &spec.gpus {
            gpus(sim, &dir.join("gpus.state"), layout, &spec.id)?;
        }
        for disk in &spec.disks {
            attach(&dir.join("root"), disk)?;
        }
        let script = dir.join("user-data");
        fs::write(&script, &spec.user_data)?;
        fs::set_permissions(&script, Permissions::from_mode(0o700))?;
        let machine = Self {
            env: environment(&dir, gpuloom, &spec),
            id: spec.id,
            dir,
            address: spec.address,
            power: Mutex::new(Power::On),
            _machines: machines,
        };
        machine.run(&script, &[])?;
        Ok(machine)
    }

    /// The instance's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its address on this computer.
    #[must_use]
    pub fn address(&self) -> std::net::Ipv4Addr {
        self.address.ip()
    }

    /// Its folder; the file system its user data sees is `root` in it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether it is on.
    #[must_use]
    pub fn power(&self) -> Power {
        *self.power.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its processes.
    #[must_use]
    pub fn processes(&self) -> Vec<i32> {
        processes::of(&self.dir)
    }

    /// Cuts its power: every process of it ends at once. Its folder stays.
    ///
    /// # Errors
    /// When a process is still there twenty seconds after SIGKILL.
    pub fn cut_power(&self) -> io::Result<()> {
        let mut power = self.power.lock().unwrap_or_else(PoisonError::into_inner);
        *power = Power::Off;
        let ended = processes::end(&self.dir);
        processes::end_cgroups(&self.id);
        if ended {
            return Ok(());
        }
        let left = processes::of(&self.dir);
        let text = format!("processes {left:?} of {} outlive SIGKILL", self.id);
        Err(io::Error::other(text))
    }

    /// Starts a machine that was cut off: its agent's unit, not its user data. One that is on stays as it is.
    ///
    /// # Errors
    /// When the shell does not start.
    pub fn start(&self) -> io::Result<()> {
        let mut power = self.power.lock().unwrap_or_else(PoisonError::into_inner);
        if *power == Power::On {
            return Ok(());
        }
        fs::remove_file(self.dir.join("run/started")).ok();
        self.run(
            &self.dir.join("stubs/systemctl"),
            &["start", "gpuloom-agent"],
        )?;
        *power = Power::On;
        Ok(())
    }

    /// Shows it one more disk.
    ///
    /// # Errors
    /// When its folder or the device cannot be made.
    pub fn attach(&self, disk: &Disk) -> io::Result<()> {
        attach(&self.dir.join("root"), disk)
    }

    /// The ends of its logs: of its user data, and of its agent.
    #[must_use]
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for name in ["user-data", "agent"] {
            let log = fs::read(self.dir.join("log").join(name)).unwrap_or_default();
            let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_TAIL)..]);
            text.push_str(&format!("--- {} log/{name}\n{tail}\n", self.id));
        }
        text
    }

    fn run(&self, script: &Path, args: &[&str]) -> io::Result<()> {
        let log = self.dir.join("log/user-data");
        let log: File = OpenOptions::new().create(true).append(true).open(log)?;
        let kept = KEPT
            .iter()
            .filter_map(|name| Some((name, std::env::var_os(name)?)));
        let mut child = Command::new("/bin/sh")
            .arg(script)
            .args(args)
            .env_clear()
            .envs(kept)
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .current_dir(self.dir.join("root"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        // It ends by itself or with its machine; nobody asks how, but a zombie would stay.
        std::thread::Builder::new()
            .name("user-data".to_owned())
            .spawn(move || child.wait().ok())?;
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // What is left then ends with all machines.
        self.cut_power().ok();
    }
}

// === functions ===

fn environment(dir: &Path, gpuloom: &Path, spec: &MachineSpec) -> Vec<(String, String)> {
    let text = |path: &Path| path.display().to_string();
    let path = format!(
        "{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        text(&dir.join("stubs"))
    );
    let metadata = format!("{}:{METADATA_PORT}", spec.address.ip());
    let mut env = vec![
        ("PATH".to_owned(), path),
        ("HOME".to_owned(), text(&dir.join("root"))),
        ("GPULOOM_ROOT".to_owned(), text(&dir.join("root"))),
        // With a slash at its end, so that no other machine's begins with it.
        ("GPULOOM_MACHINE".to_owned(), format!("{}/", text(dir))),
        ("GPULOOM_BIN".to_owned(), text(gpuloom)),
        (
            "GPULOOM_METADATA_ENDPOINT".to_owned(),
            format!("http://{metadata}"),
        ),
        (
            "AWS_EC2_METADATA_SERVICE_ENDPOINT".to_owned(),
            format!("http://{metadata}"),
        ),
        ("GCE_METADATA_HOST".to_owned(), metadata),
    ];
    env.extend(spec.env.iter().cloned());
    env
}

/// Makes the machine's GPUs; the seed gives each machine UUIDs of its own.
fn gpus(sim: &Path, state: &Path, layout: &str, id: &str) -> io::Result<()> {
    let seed = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let made = Command::new(sim)
        .arg("--state")
        .arg(state)
        .args(["create", layout, "--seed", &(seed >> 1).to_string()])
        .output()?;
    if made.status.success() {
        // Jobs of another user use them.
        return fs::set_permissions(state, Permissions::from_mode(0o666));
    }
    let said = String::from_utf8_lossy(&made.stderr).trim().to_owned();
    Err(io::Error::new(io::ErrorKind::InvalidInput, said))
}

fn attach(root: &Path, disk: &Disk) -> io::Result<()> {
    fs::create_dir_all(&disk.folder)?;
    let device = root.join(disk.device.trim_start_matches('/'));
    if let Some(parent) = device.parent() {
        fs::create_dir_all(parent)?;
    }
    symlink(&disk.folder, device)
}
