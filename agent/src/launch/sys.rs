//! The few system calls that have no safe wrapper: fork, exec, and dropping privileges between.
#![expect(
    unsafe_code,
    reason = "a launcher forks, drops privileges and executes; each call says why it is sound"
)]

use super::user::JobUser;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What the forked child does, in this order, each with its name for the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Step {
    Cgroup = 1,
    Session,
    OwnWorkdir,
    Stdio,
    Limits,
    Groups,
    User,
    Capabilities,
    Workdir,
    Exec,
}

/// Everything the child needs, made before the fork: the child allocates nothing.
#[derive(Debug)]
pub(crate) struct Child<'a> {
    pub(crate) cgroup_procs: Option<BorrowedFd<'a>>,
    pub(crate) stdin: BorrowedFd<'a>,
    pub(crate) stdout: BorrowedFd<'a>,
    pub(crate) stderr: BorrowedFd<'a>,
    pub(crate) workdir: CString,
    pub(crate) own_workdir: bool,
    pub(crate) user: Option<JobUser>,
    /// Full paths to try, first to last.
    pub(crate) programs: Vec<CString>,
    pub(crate) argv: Vec<CString>,
    pub(crate) envp: Vec<CString>,
    /// Open files: soft limit.
    pub(crate) nofile: u64,
}

/// What the child could not do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChildError {
    pub(crate) step: Step,
    pub(crate) errno: i32,
}

type Failed = (Step, i32);

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn check(step: Step, rc: i32) -> Result<(), Failed> {
    if rc < 0 { Err((step, errno())) } else { Ok(()) }
}

/// A descriptor that is readable when a child changed state; SIGCHLD is blocked from here on, and
/// signals meant for terminals and services are ignored: a shim ends when its job has.
pub(crate) fn watch_children() -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the process has one thread, so nobody else sets dispositions.
    unsafe {
        for ignored in [
            libc::SIGTERM,
            libc::SIGINT,
            libc::SIGHUP,
            libc::SIGPIPE,
            libc::SIGQUIT,
            libc::SIGUSR1,
            libc::SIGUSR2,
        ] {
            libc::signal(ignored, libc::SIG_IGN);
        }
    }
    watch(&[libc::SIGCHLD])
}

/// A descriptor that is readable when the process is asked to end; children started by the
/// standard library begin with nothing blocked.
pub(crate) fn watch_stop() -> io::Result<OwnedFd> {
    watch(&[libc::SIGTERM, libc::SIGINT])
}

fn watch(signals: &[libc::c_int]) -> io::Result<OwnedFd> {
    // SAFETY: `set` is initialised by sigemptyset before use; the pointers live for the calls; the
    // process has one thread, so the mask is the process's. signalfd's result is owned by us alone.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// `fd` on the runtime's reactor; an error when there is no room for it.
pub(crate) fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the result owns `fd`: it stays open, and the same, for as long as it is registered.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
}

/// Forks and executes. The parent gets the child's pid and the reading end of a pipe that says
/// what failed; it is closed empty when exec succeeded.
pub(crate) fn spawn(child: &Child<'_>) -> io::Result<(i32, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let argv = pointers(&child.argv);
    let envp = pointers(&child.envp);
    // SAFETY: the process has one thread, so the child may do anything the parent may; it only
    // makes system calls on memory prepared above and leaves by execve or _exit.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let (step, errno) = match become_job(child, &argv, &envp) {
                Ok(never) => match never {},
                Err(failed) => failed,
            };
            let mut message = [0u8; 5];
            message[0] = step as u8;
            message[1..].copy_from_slice(&errno.to_ne_bytes());
            // SAFETY: writes from a live buffer to our own pipe (5 bytes are written whole), then
            // leaves without running the parent's exit handlers.
            unsafe {
                libc::write(write.as_raw_fd(), message.as_ptr().cast(), message.len());
                libc::_exit(127);
            }
        }
        pid => Ok((pid, read)),
    }
}

/// What the child wrote to its pipe; `None` when exec succeeded.
pub(crate) fn read_failure(pipe: OwnedFd) -> io::Result<Option<ChildError>> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut std::fs::File::from(pipe), &mut bytes)?;
    let Some((step, errno)) = bytes.split_first() else {
        return Ok(None);
    };
    let step = [
        Step::Cgroup,
        Step::Session,
        Step::OwnWorkdir,
        Step::Stdio,
        Step::Limits,
        Step::Groups,
        Step::User,
        Step::Capabilities,
        Step::Workdir,
        Step::Exec,
    ]
    .into_iter()
    .find(|s| *s as u8 == *step);
    let errno = errno.try_into().map(i32::from_ne_bytes);
    match (step, errno) {
        (Some(step), Ok(errno)) => Ok(Some(ChildError { step, errno })),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    let ends = std::iter::once(std::ptr::null());
    strings.iter().map(|s| s.as_ptr()).chain(ends).collect()
}

/// Runs in the child. Returns only with what failed.
fn become_job(
    child: &Child<'_>,
    argv: &[*const libc::c_char],
    envp: &[*const libc::c_char],
) -> Result<std::convert::Infallible, Failed> {
    if let Some(procs) = child.cgroup_procs {
        // SAFETY: a write of one byte from a constant to an open descriptor; "0" is the writer.
        let n = unsafe { libc::write(procs.as_raw_fd(), b"0".as_ptr().cast(), 1) };
        check(Step::Cgroup, if n == 1 { 0 } else { -1 })?;
    }
    reset_signals();
    // SAFETY: setsid and umask take no pointers.
    unsafe {
        check(Step::Session, libc::setsid())?;
        libc::umask(0o022);
    }
    if child.own_workdir {
        enter(Step::OwnWorkdir, &child.workdir)?;
    }
    for (at, fd) in [(0, child.stdin), (1, child.stdout), (2, child.stderr)] {
        // SAFETY: both descriptors are valid; sources are above 2 (they were opened after stdio).
        check(Step::Stdio, unsafe { libc::dup2(fd.as_raw_fd(), at) })?;
    }
    // SAFETY: no pointers. Everything above stdio goes away at exec, the error pipe included.
    check(Step::Stdio, unsafe {
        let flags = i32::try_from(libc::CLOSE_RANGE_CLOEXEC).unwrap_or(0);
        libc::close_range(3, libc::c_uint::MAX, flags)
    })?;
    limit_resources(child.nofile)?;
    be_killed_as_others_are();
    if let Some(user) = &child.user {
        become_user(user)?;
    }
    if !child.own_workdir {
        enter(Step::Workdir, &child.workdir)?;
    }
    Err((Step::Exec, execute(&child.programs, argv, envp)))
}

fn enter(step: Step, dir: &CStr) -> Result<(), Failed> {
    // SAFETY: `dir` is NUL-terminated and lives for the call.
    check(step, unsafe { libc::chdir(dir.as_ptr()) })
}

fn reset_signals() {
    // SAFETY: dispositions and mask of this child alone; `set` is initialised before use.
    unsafe {
        for signal in 1..32 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

fn limit_resources(nofile: u64) -> Result<(), Failed> {
    let set = |resource, soft: u64, raise: bool| {
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: `limit` is a live rlimit both calls may read or write.
        unsafe {
            check(Step::Limits, libc::getrlimit(resource, &raw mut limit))?;
            if raise && limit.rlim_max < soft {
                let higher = libc::rlimit {
                    rlim_cur: soft,
                    rlim_max: soft,
                };
                // Takes CAP_SYS_RESOURCE; without it the limit stays.
                if libc::setrlimit(resource, &raw const higher) == 0 {
                    return Ok(());
                }
            }
            limit.rlim_cur = soft.min(limit.rlim_max);
            check(Step::Limits, libc::setrlimit(resource, &raw const limit))
        }
    };
    set(libc::RLIMIT_CORE, 0, false)?;
    set(libc::RLIMIT_NOFILE, nofile, false)?;
    // GPU libraries pin host memory.
    set(libc::RLIMIT_MEMLOCK, libc::RLIM_INFINITY, true)
}

/// The agent and its shims are spared when memory runs out; their jobs are not. Raising one's own
/// value takes no privilege, and where it cannot be done the job runs all the same.
fn be_killed_as_others_are() {
    // SAFETY: constant NUL-terminated path, constant bytes, and a descriptor of this child alone,
    // closed again.
    unsafe {
        let fd = libc::open(
            c"/proc/self/oom_score_adj".as_ptr(),
            libc::O_WRONLY | libc::O_CLOEXEC,
        );
        if fd >= 0 {
            libc::write(fd, b"0".as_ptr().cast(), 1);
            libc::close(fd);
        }
    }
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

fn become_user(user: &JobUser) -> Result<(), Failed> {
    // SAFETY: no call keeps a pointer; the capability structures match version 3 of the ABI: one
    // header and two sets of three words.
    unsafe {
        for capability in 0..=63 {
            let rc = libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
            if rc < 0 && errno() != libc::EINVAL {
                return Err((Step::Capabilities, errno()));
            }
        }
        check(Step::Groups, libc::setgroups(0, std::ptr::null()))?;
        check(Step::User, libc::setresgid(user.gid, user.gid, user.gid))?;
        check(Step::User, libc::setresuid(user.uid, user.uid, user.uid))?;
        let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL;
        let rc = libc::prctl(libc::PR_CAP_AMBIENT, clear, 0, 0, 0);
        check(Step::Capabilities, rc)?;
        let header = CapHeader {
            version: 0x2008_0522,
            pid: 0,
        };
        let none = [0u32; 6];
        let rc = libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr());
        check(Step::Capabilities, if rc == 0 { 0 } else { -1 })?;
        check(
            Step::Capabilities,
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        )
    }
}

/// Tries each program as execvp does; returns the error that tells most.
fn execute(
    programs: &[CString],
    argv: &[*const libc::c_char],
    envp: &[*const libc::c_char],
) -> i32 {
    let mut worst = libc::ENOENT;
    for program in programs {
        // SAFETY: all pointers are NUL-terminated, and the arrays end with a null pointer.
        unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
        match errno() {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => worst = libc::EACCES,
            other => return other,
        }
    }
    worst
}

// === impl Step ===

impl Step {
    /// What was tried, for people; follows "cannot".
    pub(crate) fn tried(self) -> &'static str {
        match self {
            Self::Cgroup => "join the attempt's cgroup",
            Self::Session => "start a session",
            Self::OwnWorkdir | Self::Workdir => "enter the working directory",
            Self::Stdio => "connect the output",
            Self::Limits => "limit resources",
            Self::Groups => "drop supplementary groups",
            Self::User => "become the job user",
            Self::Capabilities => "drop capabilities",
            Self::Exec => "execute",
        }
    }
}
