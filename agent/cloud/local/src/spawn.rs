//! Starts an agent that outlives us: own session, no descriptor but its log, own working directory.
#![expect(
    unsafe_code,
    reason = "a session of its own and closed descriptors have to be made between fork and exec"
)]

use gpuloom_cloud::Role;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;

/// In the environment of everything an instance starts: its directory. How a termination finds stragglers.
pub(crate) const MARK: &str = "GPULOOM_INSTANCE_DIR";

/// What every agent gets of our environment. It may be Terraform's, with the admin key, tokens and the
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

/// What a lead gets beside, for pools on clouds: who it is there, and where identities of nodes are verified. A node
/// gets none of it: it launches nothing.
const KEPT_BY_LEADS: [&str; 21] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CA_BUNDLE",
    "AWS_EC2_METADATA_DISABLED",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "AZURE_TENANT_ID",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_AUTHORITY_HOST",
    "HTTPS_PROXY",
    "NO_PROXY",
    "GPULOOM_AWS_STS_ENDPOINT",
    "GPULOOM_GOOGLE_KEYS_URL",
    "GPULOOM_AZURE_ROOTS",
];

/// Starts `binary agent --config <dir>/agent.toml`. The receiver gets the exit status if it ends while we live;
/// a thread waits for that, so that no zombie stays.
pub(crate) fn agent(
    binary: &Path,
    dir: &Path,
    role: Role,
) -> io::Result<mpsc::Receiver<ExitStatus>> {
    let more: &[&str] = match role {
        Role::Lead => &KEPT_BY_LEADS,
        Role::Node => &[],
    };
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
                .chain(more)
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
