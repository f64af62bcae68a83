//! Starts an agent that outlives us: own session, no descriptor but its log, own working directory.
#![expect(
    unsafe_code,
    reason = "a session of its own and closed descriptors have to be made between fork and exec"
)]

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;

/// In the environment of everything an instance starts: its directory. How a termination finds stragglers.
pub(crate) const MARK: &str = "GPULOOM_INSTANCE_DIR";

/// What an agent gets of our environment. It may be Terraform's, with the admin key, tokens and the
/// passwords of clouds in it, and an agent lives on when that is long over.
const KEPT: [&str; 9] = [
    "PATH",
    "HOME",
    "LANG",
    "TZ",
    "TMPDIR",
    "GPULOOM_LOG",
    "RUST_BACKTRACE",
    // Tests of debug builds: where processes end, and where they count what was run.
    "GPULOOM_FAILPOINTS",
    "LLVM_PROFILE_FILE",
];

/// Starts `binary agent --config <dir>/agent.toml`. The receiver gets the exit status if it ends while we live;
/// a thread waits for that, so that no zombie stays.
pub(crate) fn agent(binary: &Path, dir: &Path) -> io::Result<mpsc::Receiver<ExitStatus>> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(dir.join("agent.log"))?;
    let mut command = Command::new(binary);
    command
        .arg("agent")
        .arg("--config")
        .arg(dir.join("agent.toml"))
        .current_dir(dir)
        .env_clear()
        .envs(
            KEPT.iter()
                .filter_map(|name| Some((name, std::env::var_os(name)?))),
        )
        .env(MARK, dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    // SAFETY: `detach` makes system calls only; it neither allocates nor takes locks after the fork.
    unsafe { command.pre_exec(detach) };
    let mut child = command.spawn()?;
    let (ended, status) = mpsc::channel();
    std::thread::Builder::new()
        .name("agent-reaper".to_owned())
        .spawn(move || {
            if let Ok(exit) = child.wait() {
                // Nobody may be interested any more.
                let _ = ended.send(exit);
            }
        })?;
    Ok(status)
}

/// Runs in the child before exec.
fn detach() -> io::Result<()> {
    rustix::process::setsid()?;
    // SAFETY: marks descriptors of this process, which is about to exec; no memory is involved.
    let marked = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if marked == 0 {
        return Ok(());
    }
    // Kernels before 5.11: the first descriptors one by one.
    for fd in 3..4096 {
        // SAFETY: as above; a number that is no descriptor only gives an error.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}
