//! Booting: an instance is a folder, an address of its own and the processes its user data starts.
//!
//! The folder is the machine's file system (`GPULOOM_ROOT`), a few commands that need a machine are scripts that come
//! first on its `PATH`, and its GPUs are simulated. Killing it is a power cut. When the process that booted it ends,
//! however it ends, the machine ends too.

mod address;
mod attendant;
mod hosts;
mod machine;
mod processes;
mod stubs;
mod yard;

pub use address::Address;
pub use attendant::Attendant;
pub use machine::{Disk, Machine, MachineSpec, Power};
pub use yard::{Booting, METADATA_PORT, Yard, layout};

use std::fs::{DirBuilder, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// What machines are made of.
#[derive(Debug, Clone)]
pub struct BootOptions {
    /// The agent's program; `gpuloom-sim` and the simulated driver lie beside it.
    pub gpuloom: PathBuf,
    /// The folder of the machines, made when missing. Keep its name short: sockets lie deep below it.
    pub dir: PathBuf,
}

/// The machines of one double; clones are the same ones. They end with the last clone and with the process.
#[derive(Debug, Clone)]
pub struct Machines {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: BootOptions,
    next: AtomicU32,
    reaper: Child,
}

/// Waits until our end of its pipe closes, as it does when we die, and ends what has the folder's name in its
/// command, environment or working directory. The folder's name is in none of its own.
const REAPER: &str = r#"read -r dir
cat >/dev/null
round=0
while [ $round -lt 50 ]; do
    found=$( { printf '%s\n' "$dir" | grep -lsaF -f - /proc/[0-9]*/environ /proc/[0-9]*/cmdline
        find /proc -maxdepth 2 -name cwd \( -lname "$dir*" \) 2>/dev/null; } | cut -d/ -f3 | sort -u)
    [ -n "$found" ] || exit 0
    kill -9 $found 2>/dev/null
    round=$((round + 1))
done
"#;

// === impl Machines ===

impl Machines {
    /// No machine yet.
    ///
    /// # Errors
    /// When the folder cannot be made, or `gpuloom` or `gpuloom-sim` does not exist.
    pub fn new(options: BootOptions) -> io::Result<Self> {
        for program in [options.gpuloom.clone(), beside(&options, "gpuloom-sim")] {
            if !program.is_file() {
                let text = format!("{} does not exist: build it first", program.display());
                return Err(io::Error::new(io::ErrorKind::NotFound, text));
            }
        }
        // Jobs run as somebody else and have to get to their own folder.
        let dir = &options.dir;
        DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
        std::fs::set_permissions(dir, Permissions::from_mode(0o755))?;
        let mut reaper = Command::new("/bin/sh")
            .args(["-c", REAPER])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What ends our group, as Ctrl-C does, must not end it.
            .process_group(0)
            .spawn()?;
        if let Some(stdin) = &mut reaper.stdin {
            writeln!(stdin, "{}/", options.dir.display())?;
        }
        Ok(Self {
            inner: Arc::new(Inner {
                options,
                next: AtomicU32::new(1),
                reaper,
            }),
        })
    }

    /// Boots a machine: writes its folder and starts its user data. Does not wait for what that does.
    ///
    /// # Errors
    /// When its folder or its GPUs cannot be made, or the shell does not start.
    pub fn boot(&self, spec: MachineSpec) -> io::Result<Machine> {
        let number = self.inner.next.fetch_add(1, Ordering::SeqCst);
        let dir = self.inner.options.dir.join(format!("m{number}"));
        let sim = beside(&self.inner.options, "gpuloom-sim");
        Machine::boot(self.clone(), dir, &self.inner.options.gpuloom, &sim, spec)
    }

    /// The folder of the machines.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.inner.options.dir
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        processes::end(&self.options.dir);
        drop(self.reaper.stdin.take());
        self.reaper.wait().ok();
    }
}

fn beside(options: &BootOptions, name: &str) -> PathBuf {
    options.gpuloom.with_file_name(name)
}

#[cfg(test)]
mod tests;
