use super::adoption::shim_pid;
use super::rig::{Holder, Kind, Rig, attempt, order, this_program};
use gpuloom_agent::launch::{Launcher, MAX_MESSAGE, Why};
use gpuloom_fleet::Exit;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const WAITS: &str = "while ! test -e go; do sleep 0.05; done; exit 3";

/// Lets a job that [`WAITS`] end.
fn let_go(rig: &Rig, id: &str) {
    let work = rig.launcher.dir_of(attempt(id)).join("work");
    std::fs::write(work.join("go"), "").expect("writes");
}

fn send(stream: &mut UnixStream, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("short");
    stream.write_all(&length.to_be_bytes()).expect("sends");
    stream.write_all(bytes).expect("sends");
}

fn answer(stream: &mut UnixStream) -> Value {
    let mut length = [0u8; 4];
    stream.read_exact(&mut length).expect("answers");
    let mut json = vec![0; usize::try_from(u32::from_be_bytes(length)).expect("short")];
    stream.read_exact(&mut json).expect("answers");
    serde_json::from_slice(&json).expect("is JSON")
}

fn connect(rig: &Rig) -> UnixStream {
    let socket = rig.dir.path().join("jobs.sock");
    UnixStream::connect(socket).expect("connects")
}

/// What the holder says to `op` on the attempts in `dir`.
fn ask(rig: &Rig, dir: &Path, op: &Value) -> Value {
    let mut stream = connect(rig);
    let request = json!({"node": rig.config.node, "attempts": dir, "op": op});
    send(&mut stream, request.to_string().as_bytes());
    answer(&mut stream)
}

fn why(answer: &Value) -> &str {
    answer["refused"]["why"].as_str().unwrap_or("not refused")
}

pub(crate) fn jobs_go_on_without_it_and_with_the_next_one(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.launch(order("1#1", &["sh", "-c", WAITS]))
        .expect("starts");
    rig.launch(order("2#1", &["sh", "-c", WAITS]))
        .expect("starts");
    rig.holder.as_mut().expect("a holder").kill();
    // One ends while there is no holder; its shim alone sees to it.
    let_go(&rig, "1#1");
    assert_eq!(rig.gone("1#1").exit, Some(Exit::Code(3)));
    rig.holder.as_mut().expect("a holder").start_again();
    rig.stop("2#1", Duration::ZERO);
    assert_eq!(rig.gone("2#1").exit, Some(Exit::Signal(9)));
    rig.launch(order("3#1", &["true"]))
        .expect("the next one starts jobs");
    assert_eq!(rig.gone("3#1").exit, Some(Exit::Code(0)));
    rig.launcher
        .forget(attempt("1#1"))
        .expect("what its job wrote is removed");
    assert!(!rig.launcher.dir_of(attempt("1#1")).exists());
}

pub(crate) fn it_is_waited_for_while_it_is_started_again(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.holder.as_mut().expect("a holder").kill();
    let record = rig
        .launcher
        .record(order("1#1", &["true"]))
        .expect("records");
    let launcher = rig.launcher.clone();
    let launching = rig
        .runtime
        .spawn(async move { launcher.launch(&record).await });
    rig.holder.as_mut().expect("a holder").start_again();
    rig.run(launching).expect("ends").expect("starts");
    assert_eq!(rig.gone("1#1").exit, Some(Exit::Code(0)));
}

pub(crate) fn it_acts_below_its_root_alone(kind: Kind) {
    let rig = Rig::new(kind);
    rig.launch(order("1#1", &["true"])).expect("starts");
    rig.gone("1#1");
    let elsewhere = super::rig::open_dir();
    let victim = elsewhere.path().join("1-1/work");
    std::fs::create_dir_all(&victim).expect("makes");
    let link = rig.dir.path().join("link");
    std::os::unix::fs::symlink(elsewhere.path(), &link).expect("links");
    let above = rig.config.dir.join("..").join("..").join("tmp");
    let remove = json!({"remove": {"attempt": "1#1"}});
    for dir in [
        elsewhere.path(),
        &link,
        &above,
        rig.dir.path(),
        Path::new("/"),
        Path::new("x"),
    ] {
        assert_eq!(
            why(&ask(&rig, dir, &remove)),
            "outside_root",
            "{}",
            dir.display()
        );
    }
    // An attempt's directory that is a link, or a job's own.
    let linked = rig.config.dir.join("7-1");
    std::os::unix::fs::symlink(elsewhere.path().join("1-1"), &linked).expect("links");
    let op = json!({"remove": {"attempt": "7#1"}});
    assert_eq!(why(&ask(&rig, &rig.config.dir, &op)), "outside_root");
    std::fs::remove_file(linked).expect("is ours");
    let owned = rig.config.dir.join("8-1");
    std::fs::create_dir(&owned).expect("makes");
    std::os::unix::fs::chown(&owned, Some(65_534), None).expect("hands over");
    let op = json!({"start": {"attempt": "8#1"}});
    assert_eq!(why(&ask(&rig, &rig.config.dir, &op)), "outside_root");
    let op = json!({"kill": {"attempt": "../../1#1"}});
    assert_eq!(why(&ask(&rig, &rig.config.dir, &op)), "malformed");
    assert!(victim.exists());
    // A job may have put a link in its own place: nothing is followed when it is removed.
    let work = rig.launcher.dir_of(attempt("1#1")).join("work");
    std::os::unix::fs::symlink(&victim, work.join("out")).expect("links");
    rig.launcher.forget(attempt("1#1")).expect("forgets");
    assert!(victim.exists() && !work.exists());
}

pub(crate) fn it_starts_nothing_with_privileges(kind: Kind) {
    let rig = Rig::new(kind);
    let trace = rig.dir.path().join("trace");
    let touch = trace.display().to_string();
    let record = rig.launcher.record(order("1#1", &["touch", &touch]));
    let id = record.expect("records").attempt;
    let spec = rig.launcher.dir_of(id).join("spec.json");
    let whole: Value = serde_json::from_slice(&std::fs::read(&spec).expect("reads")).expect("JSON");
    let jobs = rig.launcher.cgroup().expect("cgroups").join("jobs");
    let root = json!({"name": "root", "uid": 0, "gid": 0});
    let group = json!({"name": "x", "uid": 65534, "gid": 0});
    let elsewhere = json!({"by": "cgroup", "leaf": rig.launcher.cgroup()});
    let unfenced = json!({"by": "marker", "entries": []});
    for (key, value) in [
        ("user", Value::Null),
        ("user", root),
        ("user", group),
        ("fence", elsewhere),
        ("fence", unfenced),
    ] {
        let mut changed = whole.clone();
        changed["plan"][key] = value;
        std::fs::write(&spec, changed.to_string()).expect("writes");
        let op = json!({"start": {"attempt": id}});
        let said = ask(&rig, &rig.config.dir, &op);
        assert_eq!(why(&said), "privileged", "{key}: {said}");
        // Were it changed only after the holder had looked: the shim looks once more.
        let shim = Command::new(this_program())
            .args(["shim", "--attempt-dir", ".", "--jobs-cgroup"])
            .arg(&jobs)
            .current_dir(rig.launcher.dir_of(id))
            .output()
            .expect("runs");
        assert!(!shim.status.success(), "{key}");
        let said = String::from_utf8_lossy(&shim.stderr).into_owned();
        assert!(said.contains("attempt 1#1 must run"), "{key}: {said}");
    }
    assert!(!trace.exists());
    // Nor does it kill what is no shim.
    let mut bystander = Command::new("sleep").arg("1000").spawn().expect("runs");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", bystander.id())).expect("lives");
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let start: u64 = fields
        .split_whitespace()
        .nth(19)
        .expect("a field")
        .parse()
        .expect("a time");
    let claim = json!({"shim": {"pid": bystander.id(), "start_time": start}});
    let place = rig.launcher.dir_of(id).join("shim.json");
    std::fs::write(&place, claim.to_string()).expect("writes");
    let op = json!({"kill_shim": {"attempt": id}});
    assert_eq!(why(&ask(&rig, &rig.config.dir, &op)), "privileged");
    assert_eq!(bystander.try_wait().expect("looks"), None);
    bystander.kill().expect("kills");
    bystander.wait().expect("ends");
    std::fs::remove_file(place).expect("is ours");
    std::fs::write(&spec, whole.to_string()).expect("writes");
}

/// What a connection of `uid` gets to hear, or nothing when it gets none.
fn asked_by(rig: &Rig, uid: u32) -> String {
    let request = json!({"node": rig.config.node, "attempts": rig.config.dir, "op": "open"});
    let request = request.to_string();
    let script = "import socket,struct,sys\n\
        s=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n\
        b=sys.argv[2].encode()\ns.sendall(struct.pack('>I',len(b))+b)\n\
        d=b''\nwhile True:\n c=s.recv(65536)\n if not c: break\n d+=c\n\
        print(d[4:].decode())";
    let output = Command::new("python3")
        .args(["-c", script])
        .arg(rig.dir.path().join("jobs.sock"))
        .arg(request)
        .uid(uid)
        .stderr(Stdio::null())
        .output()
        .expect("python3 runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn others_may_not_ask(kind: Kind) {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let rig = Rig::new(kind);
    let socket = rig.dir.path().join("jobs.sock");
    let meta = std::fs::metadata(&socket).expect("is there");
    assert_eq!((meta.mode() & 0o777, meta.uid()), (0o600, 65_533));
    assert!(
        asked_by(&rig, 65_533).contains("opened"),
        "the agent's uid may"
    );
    assert_eq!(
        asked_by(&rig, 65_534),
        "",
        "the file's mode keeps others out"
    );
    // Were the mode changed, the kernel still says who asks.
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o777)).expect("opens");
    let said = asked_by(&rig, 65_534);
    assert!(
        said.contains("not_allowed") && said.contains("65534"),
        "{said}"
    );
}

pub(crate) fn what_does_not_read_is_refused(kind: Kind) {
    let rig = Rig::new(kind);
    let mut stream = connect(&rig);
    send(&mut stream, b"{\"op\":");
    assert_eq!(why(&answer(&mut stream)), "malformed");
    let mut stream = connect(&rig);
    let long = u32::try_from(MAX_MESSAGE).expect("fits") + 1;
    stream.write_all(&long.to_be_bytes()).expect("sends");
    let said = answer(&mut stream);
    assert!(said.to_string().contains("at most 1048576"), "{said}");
    // Who connects and says nothing is in nobody's way.
    let _silent: Vec<_> = (0..32).map(|_| connect(&rig)).collect();
    let said = ask(&rig, &rig.config.dir, &json!({"kill": {"attempt": "1#1"}}));
    assert_eq!(said, json!("done"), "what is gone is killed");
    let said = ask(&rig, &rig.config.dir, &json!({"start": {"attempt": "1#1"}}));
    assert_eq!(why(&said), "outside_root", "there is no such directory");
}

pub(crate) fn at_its_end_it_ends_all_jobs_and_their_ends_are_known(kind: Kind) {
    let mut rig = Rig::new(kind);
    for id in ["1#1", "2#1"] {
        rig.launch(order(id, &["sleep", "1000"])).expect("starts");
    }
    let polite = "trap 'exit 9' TERM; while :; do sleep 0.02; done";
    rig.launch(order("3#1", &["sh", "-c", polite]))
        .expect("starts");
    let shim = shim_pid(&rig, "1#1");
    let holder = rig.holder.as_mut().expect("a holder");
    // One shim is a child of this holder, not of the one that ends.
    holder.kill();
    holder.start_again();
    rig.reopen();
    let since = Instant::now();
    let ended = rig.holder.as_mut().expect("a holder").end();
    assert!(ended.success() && since.elapsed() < Duration::from_secs(25));
    rig.ended(&shim.to_string());
    assert_eq!(rig.gone("1#1").exit, Some(Exit::Signal(15)));
    assert_eq!(rig.gone("3#1").exit, Some(Exit::Code(9)));
    assert!(!rig.dir.path().join("jobs.sock").exists());
    rig.holder.as_mut().expect("a holder").start_again();
    rig.reopen();
}

pub(crate) fn it_refuses_to_share_a_socket_or_a_cgroup(kind: Kind) {
    let rig = Rig::new(kind);
    let cgroup = &rig.holder.as_ref().expect("a holder").cgroup;
    let said = |command: &mut Command| {
        let output = command.stderr(Stdio::piped()).output().expect("runs");
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let second = said(&mut Holder::command(rig.dir.path(), cgroup));
    assert!(second.contains("another holder serves"), "{second}");
    // No unit gave it a cgroup: it would end the jobs of others with its own.
    let nowhere =
        said(Command::new(this_program()).args(["jobs-holder", "--socket", "/nowhere/x"]));
    let in_root = std::fs::read_to_string("/proc/self/cgroup").is_ok_and(|c| c.contains("0::/\n"));
    if in_root {
        assert!(nowhere.contains("no cgroup of its own"), "{nowhere}");
    }
    let wrong = said(Command::new(this_program()).args(["jobs-holder", "--sock", "/x"]));
    assert!(wrong.contains("\"--sock\" is not an option"), "{wrong}");
    let mut elsewhere = rig.config.clone();
    elsewhere.dir = std::env::temp_dir().join(rig.config.node.as_str());
    let error = Launcher::open(elsewhere.clone()).expect_err("is not below the root");
    std::fs::remove_dir(elsewhere.dir).expect("is empty");
    assert!(
        matches!(
            error,
            gpuloom_agent::launch::LaunchError::Refused {
                why: Why::OutsideRoot,
                ..
            }
        ),
        "{error}"
    );
}
