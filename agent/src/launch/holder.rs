//! `gpuloom jobs-holder`: the one process with privileges where the agent has none.
//!
//! ```text
//! agent (uid 0 or its own, no capability) --request, one of wire::Op--> holder --spawns--> shim
//! ```
//! It owns the cgroups of all jobs and starts their shims; nothing it is told is a pid, a user or a
//! path to act on: these follow from the attempt, whose directory must lie below its root, and from
//! a record that is checked for asking no more than a job may have. It keeps no state: killed and
//! started again it goes on, and shims and jobs never notice. SIGTERM ends every job.

use super::cgroup::{self, Hierarchy};
use super::error::{LaunchError, OnPath as _};
use super::fence::Fence;
use super::launcher::shim_command;
use super::process::{self, Identity};
use super::record::{self, AttemptRecord, ShimRecord, create_here, read_json};
use super::sys;
use super::wire::{self, Answer, MAX_CONNECTIONS, MESSAGE_WITHIN, Op, Request, Why};
use crate::notify::notify;
use gpuloom_fleet::{AttemptId, NodeId};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Component, Path, PathBuf};
use std::process::{Child, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Nodes whose cgroups are remembered; all are looked up again when there are more.
const MAX_NODES: usize = 64;
/// Bytes of stack of a thread that carries out one request.
const STACK: usize = 256 * 1024;
/// Between two looks for shims that have ended, without requests.
const LOOK_S: i64 = 1;
/// How long jobs may take to end by themselves after the holder's SIGTERM.
const END_GRACE: Duration = Duration::from_secs(30);
/// How long shims may take to record the end of their jobs after that.
const END_BOUND: Duration = Duration::from_secs(10);
/// Between two looks at jobs that are being ended.
const END_LOOK: Duration = Duration::from_millis(20);

/// What it is started with.
#[derive(Debug, Clone)]
struct Options {
    socket: PathBuf,
    /// Every node's data directory is below it.
    root: PathBuf,
    /// Besides root, who may ask.
    agent_uid: u32,
    /// The delegated cgroup; `None`: its own.
    cgroup: Option<PathBuf>,
    /// Program and first arguments of a shim.
    shim: Vec<OsString>,
}

#[derive(Debug)]
struct State {
    options: Options,
    parent: PathBuf,
    nodes: Mutex<BTreeMap<NodeId, Hierarchy>>,
    shims: Mutex<Vec<Child>>,
    busy: AtomicUsize,
}

/// An attempt's directory, opened without following a link: it stays the same whatever its path
/// leads to later.
struct Place {
    fd: OwnedFd,
    path: PathBuf,
}

const USAGE: &str = "usage: gpuloom jobs-holder --socket PATH [--root DIR] [--agent-uid UID] \
    [--cgroup DIR] | --stand-down (started by gpuloom-jobs.service, not by people)";

/// `gpuloom jobs-holder`: serves until SIGTERM, then ends all jobs. Must be called while the
/// process has one thread. Exits with 2 on a wrong argument, with 1 when it cannot serve.
pub fn holder_main(args: &[OsString]) -> ExitCode {
    if args.first().is_some_and(|a| a == "--stand-down") {
        return told(stand_down());
    }
    match Options::read(args) {
        Ok(options) => told(serve(options)),
        Err(wrong) => {
            eprintln!("gpuloom jobs-holder: {wrong}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn told(ended: Result<(), LaunchError>) -> ExitCode {
    let Err(error) = ended else {
        return ExitCode::SUCCESS;
    };
    eprintln!("gpuloom jobs-holder: {}", with_cause(&error));
    ExitCode::FAILURE
}

fn with_cause(error: &LaunchError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

fn refused(why: Why, message: impl Into<String>) -> LaunchError {
    LaunchError::Refused {
        why,
        message: message.into(),
    }
}

/// The cgroup of this service: of its main process, its holder leaf, or systemd's `.control`.
fn own_cgroup() -> Result<PathBuf, LaunchError> {
    let fix = "run it by gpuloom-jobs.service (Delegate=yes), or name a cgroup with --cgroup";
    let none = |why: &str| refused(Why::Failed, format!("{why}; {fix}"));
    let mount = cgroup::mount_point().ok_or_else(|| none("cgroup v2 is not mounted"))?;
    let me = i32::try_from(std::process::id()).unwrap_or(0);
    let own = process::cgroup_of(me).ok_or_else(|| none("it is in no cgroup v2"))?;
    let mut own = PathBuf::from(own.trim_start_matches('/'));
    if own.ends_with("holder") || own.ends_with(".control") {
        own.pop();
    }
    if own.as_os_str().is_empty() {
        return Err(none("it has no cgroup of its own"));
    }
    Ok(mount.join(own))
}

/// Moves this process out of the way: a cgroup that hands controllers on holds no processes.
fn move_to_leaf(parent: &Path) -> Result<(), LaunchError> {
    let leaf = parent.join("holder");
    cgroup::make(&leaf).on("make cgroup", &leaf)?;
    fs::write(leaf.join("cgroup.procs"), std::process::id().to_string()).on("join cgroup", leaf)
}

/// After its service's main process was killed: systemd puts the next one into the service's own
/// cgroup, which the kernel refuses while that hands controllers on. Limits come back with the
/// next holder.
fn stand_down() -> Result<(), LaunchError> {
    cgroup::disable_controllers(&own_cgroup()?);
    Ok(())
}

fn listen(socket: &Path) -> Result<UnixListener, LaunchError> {
    if UnixStream::connect(socket).is_ok() {
        let message = format!("another holder serves {}", socket.display());
        return Err(refused(Why::Failed, message));
    }
    match fs::remove_file(socket) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e).on("replace", socket),
        _ => {}
    }
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(socket);
    rustix::process::umask(before);
    let listener = bound.on("listen on", socket)?;
    listener.set_nonblocking(true).on("listen on", socket)?;
    Ok(listener)
}

fn serve(options: Options) -> Result<(), LaunchError> {
    let stop = sys::watch_stop().on("watch for", "SIGTERM")?;
    let parent = match &options.cgroup {
        Some(stated) => stated.clone(),
        None => {
            let own = own_cgroup()?;
            move_to_leaf(&own)?;
            own
        }
    };
    let socket = options.socket.clone();
    let listener = listen(&socket)?;
    let uid = (options.agent_uid != 0).then_some(options.agent_uid);
    std::os::unix::fs::chown(&socket, uid, None).on("hand over", &socket)?;
    let state = Arc::new(State {
        options,
        parent,
        nodes: Mutex::default(),
        shims: Mutex::default(),
        busy: AtomicUsize::new(0),
    });
    notify("READY=1");
    eprintln!("gpuloom jobs-holder: serves {}", socket.display());
    while !state.wait(&listener, &stop)? {
        state.reap();
        while state.busy.load(Ordering::Acquire) < MAX_CONNECTIONS {
            match listener.accept() {
                Ok((stream, _)) => state.begin(stream),
                Err(_) => break,
            }
        }
    }
    notify("STOPPING=1");
    drop(listener);
    fs::remove_file(&socket).on("remove", socket)?;
    state.end_jobs();
    Ok(())
}

// === impl Options ===

impl Options {
    fn read(args: &[OsString]) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|e| format!("no program: {e}"))?;
        let mut options = Self {
            socket: PathBuf::new(),
            root: "/var/lib/gpuloom".into(),
            agent_uid: 0,
            cgroup: None,
            shim: vec![program.into(), "shim".into()],
        };
        for pair in args.chunks(2) {
            let [flag, value] = pair else {
                return Err(format!("{:?} needs a value", pair[0]));
            };
            match flag.to_str() {
                Some("--socket") => options.socket = value.into(),
                Some("--root") => options.root = value.into(),
                Some("--cgroup") => options.cgroup = Some(value.into()),
                Some("--agent-uid") => {
                    let uid = value.to_str().and_then(|v| v.parse().ok());
                    options.agent_uid = uid.ok_or(format!("{value:?} is not a uid"))?;
                }
                _ => return Err(format!("{flag:?} is not an option")),
            }
        }
        if !options.socket.is_absolute() || !options.root.is_absolute() {
            return Err("--socket and --root are absolute paths".to_owned());
        }
        Ok(options)
    }
}

// === impl Place ===

impl Place {
    /// The directory `path` below `at`, no component of which is a link or leads above it.
    fn open(at: &OwnedFd, path: &Path, owners: [u32; 2]) -> Result<Self, LaunchError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let refuse = |why: String| {
            let message = format!("{} cannot be entered without links: {why}", path.display());
            refused(Why::OutsideRoot, message)
        };
        // One by one: where RestrictSUIDSGID= holds, there is no openat2.
        let mut fd = rustix::io::fcntl_dupfd_cloexec(at, 3).on("enter", path)?;
        for component in path.components() {
            let Component::Normal(name) = component else {
                return Err(refuse("it is not a plain path".to_owned()));
            };
            fd = rustix::fs::openat(&fd, name, flags, Mode::empty())
                .map_err(|e| refuse(e.to_string()))?;
        }
        let place = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        let owner = fs::metadata(&place).on("look at", path)?.uid();
        if !owners.contains(&owner) {
            let message = format!("{} belongs to uid {owner}", path.display());
            return Err(refused(Why::OutsideRoot, message));
        }
        Ok(Self { fd, path: place })
    }

    /// Hands the job's own directory over to its user.
    fn hand_over(&self, record: &AttemptRecord) -> Result<(), LaunchError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let work = rustix::fs::openat(&self.fd, "work", flags, Mode::empty());
        let work = work.on("open", "work")?;
        let user = record.plan.user.as_ref();
        std::os::unix::fs::fchown(&work, user.map(|u| u.uid), user.map(|u| u.gid))
            .on("hand over", "work")
    }
}

// === impl State ===

impl State {
    fn nodes(&self) -> MutexGuard<'_, BTreeMap<NodeId, Hierarchy>> {
        // A cache, whole whenever it is not being changed.
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shims(&self) -> MutexGuard<'_, Vec<Child>> {
        self.shims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a request, at most [`LOOK_S`]; true when it is to end.
    fn wait(&self, listener: &UnixListener, stop: &OwnedFd) -> Result<bool, LaunchError> {
        let full = self.busy.load(Ordering::Acquire) >= MAX_CONNECTIONS;
        let mut fds = vec![PollFd::new(stop, PollFlags::IN)];
        if !full {
            fds.push(PollFd::new(listener, PollFlags::IN));
        }
        let timeout = Timespec {
            tv_sec: if full { 0 } else { LOOK_S },
            tv_nsec: if full { 10_000_000 } else { 0 },
        };
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(_) => Ok(fds[0].revents().contains(PollFlags::IN)),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(e) => Err(e).on("wait for requests on", &self.options.socket),
        }
    }

    fn reap(&self) {
        self.shims()
            .retain_mut(|shim| matches!(shim.try_wait(), Ok(None)));
    }

    fn begin(self: &Arc<Self>, stream: UnixStream) {
        self.busy.fetch_add(1, Ordering::AcqRel);
        let state = Arc::clone(self);
        let thread = std::thread::Builder::new().stack_size(STACK);
        let begun = thread.spawn(move || {
            if let Err(error) = state.talk(stream) {
                eprintln!("gpuloom jobs-holder: a request was broken off: {error}");
            }
            state.busy.fetch_sub(1, Ordering::AcqRel);
        });
        if let Err(error) = begun {
            self.busy.fetch_sub(1, Ordering::AcqRel);
            eprintln!("gpuloom jobs-holder: a request was not taken: {error}");
        }
    }

    fn talk(&self, mut stream: UnixStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(MESSAGE_WITHIN))?;
        stream.set_write_timeout(Some(MESSAGE_WITHIN))?;
        let peer = rustix::net::sockopt::socket_peercred(&stream)?.uid.as_raw();
        // Read in any case: who is refused would otherwise see a broken connection alone.
        let answer = match wire::receive::<serde_json::Value>(&mut stream) {
            Ok(_) if !self.owners().contains(&peer) => {
                let message = format!("uid {peer} may not ask: only root and the agent's uid may");
                Err(refused(Why::NotAllowed, message))
            }
            Ok(request) => serde_json::from_value(request)
                .map_err(|e| refused(Why::Malformed, e.to_string()))
                .and_then(|request| self.carry_out(request)),
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                Err(refused(Why::Malformed, e.to_string()))
            }
            // Someone who asks whether there is a holder says nothing.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(e) => return Err(e),
        };
        let answer = answer.unwrap_or_else(|error| {
            let message = with_cause(&error);
            eprintln!("gpuloom jobs-holder: {message}");
            match error {
                LaunchError::Refused { why, message } => Answer::Refused { why, message },
                _ => Answer::Refused {
                    why: Why::Failed,
                    message,
                },
            }
        });
        wire::send(&mut stream, &answer)
    }

    fn owners(&self) -> [u32; 2] {
        [0, self.options.agent_uid]
    }

    fn attempts(&self, path: &Path) -> Result<Place, LaunchError> {
        let root = &self.options.root;
        let below = path.strip_prefix(root).ok().filter(|below| {
            let plain = below
                .components()
                .all(|c| matches!(c, Component::Normal(_)));
            plain && !below.as_os_str().is_empty()
        });
        let below = below.ok_or_else(|| {
            let (path, root) = (path.display(), root.display());
            let message = format!("{path} is not below {root}: put data_dir there");
            refused(Why::OutsideRoot, message)
        })?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let at = rustix::fs::open(root, flags, Mode::empty()).on("open", root)?;
        Place::open(&at, below, self.owners())
    }

    /// The node's cgroups; the first time, present attempts get their limits again.
    fn hierarchy(&self, node: &NodeId, attempts: &Place) -> Result<Hierarchy, LaunchError> {
        if matches!(node.as_str(), "." | "..") {
            return Err(refused(Why::OutsideRoot, "a node is not named by dots"));
        }
        if let Some(known) = self.nodes().get(node) {
            return Ok(known.clone());
        }
        let made = Hierarchy::probe(Some(&self.parent), node.as_str());
        if let Some(why) = made.lacks() {
            return Err(refused(Why::Failed, format!("there are no cgroups: {why}")));
        }
        let mut nodes = self.nodes();
        for entry in fs::read_dir(&attempts.path).into_iter().flatten().flatten() {
            let record = read_json::<AttemptRecord>(&entry.path(), record::SPEC);
            let Ok(Some(record)) = record else { continue };
            let leaf = made.leaf(record.attempt).filter(|leaf| leaf.exists());
            if let Some(dir) = leaf.as_deref().and_then(Path::parent) {
                made.limit(dir, record.plan.limits)?;
            }
        }
        if nodes.len() >= MAX_NODES {
            nodes.clear();
        }
        nodes.insert(node.clone(), made.clone());
        Ok(made)
    }

    fn carry_out(&self, request: Request) -> Result<Answer, LaunchError> {
        let Request { node, attempts, op } = request;
        let attempts = self.attempts(&attempts)?;
        let hierarchy = self.hierarchy(&node, &attempts)?;
        let dir = |attempt: AttemptId| {
            let name = attempt.path_name();
            Place::open(&attempts.fd, Path::new(&name), self.owners())
        };
        let fence = |attempt| {
            let leaf = hierarchy.leaf(attempt).unwrap_or_default();
            Fence::Cgroup { leaf }
        };
        match op {
            Op::Open => return Ok(Answer::Opened(hierarchy)),
            Op::Start {
                attempt,
                failpoints,
            } => {
                let shim = self.start(&hierarchy, &dir(attempt)?, attempt, failpoints)?;
                return Ok(Answer::Started(shim));
            }
            Op::Terminate { attempt } => fence(attempt).signal(Signal::TERM, None),
            Op::Kill { attempt } => fence(attempt).kill(None),
            Op::KillShim { attempt } => self.kill_shim(&dir(attempt)?)?,
            Op::RemoveCgroup { attempt } => {
                fence(attempt)
                    .remove()
                    .on("remove the cgroup of", attempt.path_name())?;
            }
            Op::Remove { attempt } => {
                let name = attempt.path_name();
                fence(attempt).remove().on("remove the cgroup of", &name)?;
                match fs::remove_dir_all(dir(attempt)?.path.join("work")) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => {
                        return Err(e).on("remove what was written by", name);
                    }
                    _ => {}
                }
            }
            Op::RemoveUnused { keep } => hierarchy.remove_unused(&keep),
            Op::Release => {
                self.nodes().remove(&node);
                hierarchy.release();
            }
        }
        Ok(Answer::Done)
    }

    fn start(
        &self,
        hierarchy: &Hierarchy,
        place: &Place,
        attempt: AttemptId,
        failpoints: Option<String>,
    ) -> Result<Identity, LaunchError> {
        let record = read_json::<AttemptRecord>(&place.path, record::SPEC)?;
        let record = record.filter(|r| r.attempt == attempt);
        let record = record.ok_or(LaunchError::Unknown { attempt })?;
        let leaf = hierarchy.leaf(attempt).unwrap_or_default();
        let jobs = leaf.ancestors().nth(2).unwrap_or(&leaf);
        // The shim checks what it reads once more: the record may be changed meanwhile.
        record.check_held(jobs)?;
        place.hand_over(&record)?;
        hierarchy.create(&leaf, record.plan.limits)?;
        let log = create_here(&place.path.join("shim.log")).on("write", "shim.log")?;
        let shim = &self.options.shim;
        let mut command = shim_command(shim, Path::new(".")).ok_or(LaunchError::NotStarted {
            message: "the shim's program is not configured".to_owned(),
        })?;
        command.arg("--jobs-cgroup").arg(jobs);
        command.current_dir(&place.path);
        command.stdout(Stdio::null()).stderr(log);
        if cfg!(debug_assertions) {
            command.envs(failpoints.map(|f| ("GPULOOM_FAILPOINTS", f)));
        }
        let child = command.spawn().on("run the shim", command.get_program())?;
        let pid = i32::try_from(child.id()).unwrap_or(0);
        // Nobody reaps it before it is among the children: its pid is its own.
        let shim = Identity::of(pid).unwrap_or(Identity { pid, start_time: 0 });
        self.shims().push(child);
        Ok(shim)
    }

    fn kill_shim(&self, place: &Place) -> Result<(), LaunchError> {
        let claim = read_json::<ShimRecord>(&place.path, record::SHIM)?;
        let Some(shim) = claim.and_then(|c| c.shim).filter(|s| s.is_alive()) else {
            return Ok(());
        };
        // Whoever wrote the file may have named any process.
        let ours = "shim".as_bytes();
        let line = fs::read(format!("/proc/{}/cmdline", shim.pid)).unwrap_or_default();
        if line.split(|b| *b == 0).nth(1) != Some(ours) {
            let message = format!("process {} is not a shim", shim.pid);
            return Err(refused(Why::Privileged, message));
        }
        if let Some(pid) = shim.as_pid() {
            process::kill(pid);
        }
        Ok(())
    }

    fn leaves(&self) -> Vec<Fence> {
        let list = |dir: PathBuf| {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            entries
                .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
                .map(|e| e.path())
        };
        let nodes = list(self.parent.join("gpuloom"));
        nodes
            .flat_map(|node| list(node.join("jobs")))
            .map(|attempt| Fence::Cgroup {
                leaf: attempt.join("work"),
            })
            .collect()
    }

    /// Ends every job, and waits until its shim has recorded that.
    fn end_jobs(&self) {
        let live = || self.leaves().into_iter().filter(|l| l.is_populated(None));
        let until = |bound: Duration, done: &dyn Fn() -> bool| {
            let since = Instant::now();
            while !done() && since.elapsed() < bound {
                std::thread::sleep(END_LOOK);
            }
        };
        live().for_each(|leaf| leaf.signal(Signal::TERM, None));
        until(END_GRACE, &|| live().next().is_none());
        live().for_each(|leaf| leaf.kill(None));
        let alone = || {
            self.reap();
            let leaf = self.parent.join("holder");
            // Shims of an earlier holder are in its leaf as well.
            self.shims().is_empty() && cgroup::processes(&leaf).len() <= 1
        };
        until(END_BOUND, &alone);
    }
}
