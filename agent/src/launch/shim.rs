//! The shim: one small process per attempt that outlives the agent and sees how the job ends.
//!
//! ```text
//! claim shim.json -> fork, exec -> started.json -> copy output ... first process ends
//!                          | failed                                  -> kill what is left
//!                          +---------------------------------------> exit.json -> gone
//! ```
//! It runs in a session of its own, outside the job's cgroup, adopts the job's orphans, has one
//! thread and no runtime. It ignores SIGTERM: an attempt is stopped by signalling its processes.
//! When the shim itself is killed the job goes on until it next writes (its output has nowhere to
//! go: SIGPIPE), and its exit status is lost.

use super::error::{LaunchError, OnPath as _};
use super::log_write::RotatingLog;
use super::process::{self, Identity};
use super::record::{
    self, AttemptRecord, ExecPlan, Exited, ShimRecord, Started, now, read_json, write_json,
    write_json_once,
};
use super::sys::{self, Child, ChildError, Step};
use gpuloom_cloud::failpoint;
use gpuloom_fleet::{Exit, Millis};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::WaitOptions;
use std::ffi::{CString, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Open files a job may have at first; it may raise the limit to the hard one.
const JOB_OPEN_FILES: u64 = 65_536;
/// How long the shim waits before it tries again to write how the job ended (a full disk).
const EXIT_RETRY: Duration = Duration::from_secs(1);
/// Between two looks at a fence that is being emptied.
const KILL_POLL_MS: i64 = 5;

/// One stream from the job to its files.
struct Stream {
    pipe: Option<OwnedFd>,
    log: RotatingLog,
}

struct Shim {
    dir: PathBuf,
    me: Identity,
    plan: ExecPlan,
    children: OwnedFd,
    streams: [Stream; 2],
    /// How the first process ended, and when.
    ended: Option<(Exit, Millis)>,
}

/// `gpuloom shim --attempt-dir DIR [--jobs-cgroup DIR]`: runs the attempt recorded in DIR to its end. Must be called
/// while the process has one thread. Exits with 0 once exit.json is written, or when the place is
/// taken already; with 1, saying why on standard error, otherwise.
pub fn shim_main(args: &[OsString]) -> ExitCode {
    let ([flag, dir, held @ ..], true) = (args, matches!(args.len(), 2 | 4)) else {
        eprintln!("usage: gpuloom shim --attempt-dir DIR (started by the agent, not by people)");
        return ExitCode::from(2);
    };
    if flag != "--attempt-dir" {
        eprintln!("gpuloom shim: {flag:?} is not --attempt-dir");
        return ExitCode::from(2);
    }
    let jobs = match held {
        [flag, jobs] if flag == "--jobs-cgroup" => Some(Path::new(jobs)),
        [flag, ..] => {
            eprintln!("gpuloom shim: {flag:?} is not --jobs-cgroup");
            return ExitCode::from(2);
        }
        [] => None,
    };
    match run(Path::new(dir), jobs) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cause = std::error::Error::source(&error);
            let cause = cause.map(|c| format!(": {c}")).unwrap_or_default();
            eprintln!("gpuloom shim: {error}{cause}");
            ExitCode::FAILURE
        }
    }
}

fn run(dir: &Path, jobs: Option<&Path>) -> Result<(), LaunchError> {
    let Some(record) = read_json::<AttemptRecord>(dir, record::SPEC)? else {
        return Err(io::Error::from(io::ErrorKind::NotFound)).on("read", dir.join(record::SPEC));
    };
    if let Some(jobs) = jobs {
        record.check_held(jobs)?;
    }
    let me = rustix::process::getpid();
    let raw = me.as_raw_nonzero().get();
    if rustix::process::setsid().is_err() && process::session_of(raw) != Some(raw) {
        return Err(io::Error::from(io::ErrorKind::PermissionDenied))
            .on("start a session for", dir);
    }
    rustix::process::set_child_subreaper(Some(me)).on("adopt the orphans of", dir)?;
    let me = Identity::of(raw)
        .ok_or(io::Error::from(io::ErrorKind::NotFound))
        .on("read", "/proc/self/stat")?;
    failpoint::hit("shim.claim.before");
    let claim = ShimRecord { shim: Some(me) };
    if !write_json_once(dir, record::SHIM, &claim).on("write", dir.join(record::SHIM))? {
        return Ok(());
    }
    failpoint::hit("shim.claim.after");
    let children = sys::watch_children().on("watch the children of", dir)?;
    let mut plan = record.plan;
    if plan.own_workdir && jobs.is_some() {
        // As this directory was opened, whatever its path leads to by now.
        plan.workdir = dir.join("work");
    }
    match start(dir, &plan) {
        Ok((job, streams)) => {
            let shim = Shim {
                dir: dir.to_owned(),
                me,
                plan,
                children,
                streams,
                ended: None,
            };
            shim.supervise(job)
        }
        Err(message) => {
            let exited = Exited {
                exit: None,
                at: now(),
                launch_failed: Some(message),
                leftovers: 0,
                log_bytes_dropped: 0,
            };
            record_exit(dir, &exited)?;
            plan.fence.remove().on("remove the cgroup of", dir)
        }
    }
}

/// The job's first process and its streams, or why it could not be started, for its owner.
fn start(dir: &Path, plan: &ExecPlan) -> Result<(i32, [Stream; 2]), String> {
    let told = |what: &str, e: &dyn std::fmt::Display| format!("cannot {what}: {e}");
    let log = |name: &str| {
        RotatingLog::create(dir.join(name), plan.log_file_bytes, plan.log_files)
            .map_err(|e| told("write its log", &e))
    };
    let pipe = || -> io::Result<(OwnedFd, OwnedFd)> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&read, true)?;
        if let Some(user) = &plan.user {
            // So that the job may open /dev/stdout by name.
            let (uid, gid) = (user.uid, user.gid);
            let uid = rustix::fs::Uid::from_raw(uid);
            rustix::fs::fchown(&write, Some(uid), Some(rustix::fs::Gid::from_raw(gid)))?;
        }
        Ok((read, write))
    };
    let (out_read, out_write) = pipe().map_err(|e| told("make a pipe", &e))?;
    let (err_read, err_write) = pipe().map_err(|e| told("make a pipe", &e))?;
    let stdin = File::open("/dev/null").map_err(|e| told("open /dev/null", &e))?;
    let procs = match &plan.fence {
        super::fence::Fence::Cgroup { leaf } => {
            let path = leaf.join("cgroup.procs");
            let open = OpenOptions::new().write(true).open(path);
            Some(open.map_err(|e| told("open its cgroup", &e))?)
        }
        super::fence::Fence::Marker { .. } => None,
    };
    let text = |s: &str| CString::new(s).map_err(|e| told("use a text with a NUL byte", &e));
    let path_text = |p: &Path| text(&p.to_string_lossy());
    let envp = plan.env.iter().map(|(k, v)| text(&format!("{k}={v}")));
    let child = Child {
        cgroup_procs: procs.as_ref().map(std::os::fd::AsFd::as_fd),
        stdin: stdin.as_fd(),
        stdout: out_write.as_fd(),
        stderr: err_write.as_fd(),
        workdir: path_text(&plan.workdir)?,
        own_workdir: plan.own_workdir,
        user: plan.user.clone(),
        programs: programs(plan)
            .iter()
            .map(|p| text(p))
            .collect::<Result<_, _>>()?,
        argv: plan
            .command
            .iter()
            .map(|a| text(a))
            .collect::<Result<_, _>>()?,
        envp: envp.collect::<Result<_, _>>()?,
        nofile: JOB_OPEN_FILES,
    };
    let streams = [(out_read, "out.log"), (err_read, "err.log")];
    let [out, err] = streams.map(|(pipe, name)| log(name).map(|log| (pipe, log)));
    let stream = |(pipe, log)| Stream {
        pipe: Some(pipe),
        log,
    };
    let (out, err) = (stream(out?), stream(err?));
    let (pid, failure) = sys::spawn(&child).map_err(|e| told("fork", &e))?;
    match sys::read_failure(failure) {
        Ok(None) => Ok((pid, [out, err])),
        Ok(Some(error)) => Err(say(plan, error)),
        Err(e) => Err(told("learn whether it started", &e)),
    }
}

/// Where the program may be, in the order of the job's PATH.
fn programs(plan: &ExecPlan) -> Vec<String> {
    let program = plan.command.first().map_or("", String::as_str);
    if program.contains('/') {
        return vec![program.to_owned()];
    }
    let path = plan.env.get("PATH").map_or("", String::as_str);
    let dirs = path.split(':').filter(|d| !d.is_empty());
    dirs.map(|dir| format!("{dir}/{program}")).collect()
}

/// What failed, for the job's owner, with what to do.
fn say(plan: &ExecPlan, error: ChildError) -> String {
    let reason = io::Error::from_raw_os_error(error.errno);
    let user = plan.user.as_ref().map_or("the agent's user", |u| &u.name);
    let on = match error.step {
        Step::Exec => format!(" {:?}", plan.command.first().map_or("", String::as_str)),
        Step::OwnWorkdir | Step::Workdir => format!(" {:?}", plan.workdir.display().to_string()),
        Step::User | Step::Groups => format!(" ({user})"),
        _ => String::new(),
    };
    let fix = match (error.step, error.errno) {
        (Step::Exec, libc::ENOENT) => {
            "; give a program that exists on the node, by path or in the job's PATH"
        }
        (Step::Exec, libc::EACCES) => "; make it executable and readable for the job user",
        (Step::Exec, libc::ENOEXEC) => "; start a script with #! and its interpreter",
        (Step::Workdir, _) => "; give a directory that exists and the job user may enter",
        _ => "",
    };
    format!("cannot {}{on} as {user}: {reason}{fix}", error.step.tried())
}

/// Writes exit.json, waiting for a full disk; gives up only when the directory is gone.
fn record_exit(dir: &Path, exited: &Exited) -> Result<(), LaunchError> {
    failpoint::hit("shim.exit.before");
    loop {
        match write_json(dir, record::EXIT, exited) {
            Ok(()) => break,
            Err(e) if dir.exists() => {
                eprintln!("gpuloom shim: cannot record the exit, trying again: {e}");
                std::thread::sleep(EXIT_RETRY);
            }
            Err(e) => return Err(e).on("write", dir.join(record::EXIT)),
        }
    }
    failpoint::hit("shim.exit.after");
    Ok(())
}

// === impl Shim ===

impl Shim {
    fn supervise(mut self, job: i32) -> Result<(), LaunchError> {
        self.report_started(job)?;
        while self.ended.is_none() {
            self.wait(None)?;
            self.reap(job);
        }
        let leftovers = self.kill_leftovers(job)?;
        for stream in &mut self.streams {
            stream.copy();
        }
        let (exit, at) = match self.ended {
            Some((exit, at)) => (Some(exit), at),
            None => (None, now()),
        };
        let exited = Exited {
            exit,
            at,
            launch_failed: None,
            leftovers,
            log_bytes_dropped: self.streams.iter().map(|s| s.log.dropped()).sum(),
        };
        record_exit(&self.dir, &exited)?;
        self.plan
            .fence
            .remove()
            .on("remove the cgroup of", &self.dir)
    }

    fn report_started(&self, job: i32) -> Result<(), LaunchError> {
        failpoint::hit("shim.started.before");
        // It may have ended already: its start time is then no longer to be had.
        let job = Identity::of(job).unwrap_or(Identity {
            pid: job,
            start_time: 0,
        });
        let started = Started { job, at: now() };
        if let Err(error) = write_json(&self.dir, record::STARTED, &started) {
            // The job runs: it is kept, and its end is what counts.
            eprintln!("gpuloom shim: cannot record the start: {error}");
        }
        failpoint::hit("shim.started.after");
        // Closes the pipe to the agent: it reads the record now.
        let null = OpenOptions::new().write(true).open("/dev/null");
        let null = null.on("open", "/dev/null")?;
        rustix::stdio::dup2_stdout(&null).on("close", "standard output")
    }

    /// Waits until a child changed state, output came, or `timeout_ms` is over; copies output.
    fn wait(&mut self, timeout_ms: Option<i64>) -> Result<(), LaunchError> {
        let ready = {
            let mut fds = vec![PollFd::new(&self.children, PollFlags::IN)];
            let open = self.streams.iter().filter_map(|s| s.pipe.as_ref());
            fds.extend(open.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
            let timeout = timeout_ms.map(|ms| Timespec {
                tv_sec: 0,
                tv_nsec: ms * 1_000_000,
            });
            rustix::event::poll(&mut fds, timeout.as_ref())
        };
        match ready {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e).on("watch the processes of", &self.dir),
        }
        let mut signal = [0u8; 128];
        while rustix::io::read(&self.children, &mut signal).is_ok_and(|n| n > 0) {}
        for stream in &mut self.streams {
            stream.copy_some();
        }
        Ok(())
    }

    fn reap(&mut self, job: i32) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if pid.as_raw_nonzero().get() == job {
                let code = status.exit_status().map(Exit::Code);
                let exit = code.or_else(|| status.terminating_signal().map(Exit::Signal));
                self.ended = exit.map(|exit| (exit, now())).or(self.ended.take());
            }
        }
    }

    /// Kills what outlived the first process; returns how many processes that were, once none is.
    fn kill_leftovers(&mut self, job: i32) -> Result<u32, LaunchError> {
        let shim = Some(self.me.pid);
        let left = self.plan.fence.processes(shim).len();
        while self.plan.fence.is_populated(shim) {
            self.plan.fence.kill(shim);
            self.wait(Some(KILL_POLL_MS))?;
            self.reap(job);
        }
        Ok(u32::try_from(left).unwrap_or(u32::MAX))
    }
}

// === impl Stream ===

/// Copied per stream before the other one has its turn.
const COPY_TURN: usize = 64;

impl Stream {
    fn copy_some(&mut self) {
        let mut buffer = [0u8; 16 * 1024];
        for _ in 0..COPY_TURN {
            let Some(pipe) = &self.pipe else { return };
            match rustix::io::read(pipe, &mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(n) => self.log.write(&buffer[..n]),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => self.pipe = None,
            }
        }
    }

    /// Copies what is left in the pipe: nobody writes to it any more.
    fn copy(&mut self) {
        // A pipe holds at most 1 MiB for an unprivileged writer: one turn takes it whole.
        self.copy_some();
        self.pipe = None;
    }
}
