//! The units under a real systemd: one that is booted for the test, in namespaces and a cgroup of
//! its own, over a copy-on-write view of this machine.
//!
//! `systemd_live node-agent` is what `gpuloom-agent.service` runs here after its real program was
//! seen to start: the launcher of a node, in the sandbox of that very unit.

use gpuloom_agent::launch::{Found, LaunchConfig, Launcher, Order};
use gpuloom_fleet::{GpuRequest, JobSpec, NodeId, TenantName};
use gpuloom_tests::{Built, repository};
use libtest_mimic::{Arguments, Trial};
use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const BOOT: &str = r#"
set -euo pipefail
mount --make-rprivate /
mount -t tmpfs -o size=1g tmpfs "$T"
mkdir "$T"/up "$T"/work "$T"/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$T/up,workdir=$T/work" "$T/root"
R=$T/root
mount -t proc proc "$R/proc"
mount -t sysfs sysfs "$R/sys"
mount -t cgroup2 cgroup2 "$R/sys/fs/cgroup"
mount --rbind /dev "$R/dev"
for d in run tmp var/lib; do mount -t tmpfs -o mode=0755 tmpfs "$R/$d"; done
chmod 1777 "$R/tmp"
rm -rf "$R"/etc/systemd/system/*.wants
ln -sf /dev/null "$R/etc/systemd/system/systemd-firstboot.service"
echo 0123456789abcdef0123456789abcdef > "$R/etc/machine-id"
"$SOURCES/scripts/install" --root "$R" --from "$FROM"
install -D -m 0755 "$PROGRAM" "$R/usr/local/bin/systemd_live"
mkdir -p "$R/etc/gpuloom"
printf '%s' "$CONFIG" > "$R/etc/gpuloom/agent.toml"
printf '[Unit]\nDescription=rig\nDefaultDependencies=no\n' > "$R/etc/systemd/system/rig.target"
cd "$R"
mkdir -p oldroot
pivot_root . oldroot
umount -l oldroot
exec env -i container=rig /usr/lib/systemd/systemd --unit=rig.target
"#;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("node-agent") {
        return node_agent();
    }
    let trial = Trial::test("jobs_outlive_the_agents_unit_and_the_holder", || {
        jobs_outlive_the_agents_unit_and_the_holder();
        Ok(())
    });
    let trial = match lacks() {
        None => trial,
        Some(why) => trial.with_kind(why).with_ignored_flag(true),
    };
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}

/// Why no systemd can be booted here.
fn lacks() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root");
    }
    if !Path::new("/usr/lib/systemd/systemd").exists() {
        return Some("needs systemd");
    }
    let tries = "mount -t tmpfs t /mnt && mkdir /mnt/u /mnt/w /mnt/r /mnt/c && mount -t cgroup2 c /mnt/c && \
        mount -t overlay o -o lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w /mnt/r";
    let tried = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "sh", "-c", tries])
        .stderr(Stdio::null())
        .status();
    let works = tried.is_ok_and(|s| s.success()) && cgroup_mount().is_some();
    (!works).then_some("needs namespaces, overlay mounts and cgroup v2")
}

fn cgroup_mount() -> Option<&'static Path> {
    let mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
    mounts
        .into_iter()
        .find(|m| m.join("cgroup.controllers").exists())
}

/// A node's launcher: adopts the job, or starts it the first time.
fn node_agent() -> ExitCode {
    let node = NodeId::new("n-1").expect("an id");
    let dir = PathBuf::from("/var/lib/gpuloom/attempts");
    let mut config = LaunchConfig::new(dir, node).expect("a config");
    config.jobs_socket = Some("/run/gpuloom/jobs.sock".into());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let launcher = Launcher::open(config).expect("opens");
        let mut found = launcher.adopt().expect("adopts");
        let attempt = "1#1".parse().expect("an id");
        match found.pop().map(|a| a.found) {
            Some(Found::Running { orphan: false }) => {}
            Some(other) => panic!("the job did not go on: {other:?}"),
            None => {
                let record = launcher.record(order(attempt)).expect("records");
                launcher.launch(&record).await.expect("starts");
            }
        }
        let socket = std::env::var("NOTIFY_SOCKET").expect("systemd listens");
        let unbound = UnixDatagram::unbound().expect("a socket");
        unbound.send_to(b"READY=1", socket).expect("tells");
        if Path::new("/var/lib/gpuloom/stop").exists() {
            launcher.stop(attempt, Duration::ZERO).await.expect("stops");
            launcher.wait(attempt).await.expect("waits");
            launcher.forget(attempt).expect("forgets");
            std::fs::write("/var/lib/gpuloom/stopped", "").expect("writes");
        }
        std::future::pending::<()>().await;
    });
    ExitCode::SUCCESS
}

fn order(attempt: gpuloom_fleet::AttemptId) -> Order {
    let script = "echo $$ > pid; grep CapBnd /proc/self/status > caps; exec sleep 1000";
    Order {
        attempt,
        spec: JobSpec {
            name: "test".to_owned(),
            tenant: TenantName::new("research").expect("a name"),
            priority_class: None,
            pool: None,
            command: ["sh", "-c", script].map(str::to_owned).into(),
            env: BTreeMap::new(),
            workdir: None,
            request: GpuRequest::default(),
            walltime: None,
            retries: 0,
            array: None,
            depends_on: Vec::new(),
            labels: BTreeMap::new(),
            grace: None,
        },
        grants: Vec::new(),
    }
}

/// A booted systemd.
struct Machine {
    outer: Child,
    init: String,
    cgroup: PathBuf,
    /// The controller this machine did not hand on before.
    handed_on: std::cell::OnceCell<String>,
    _dir: tempfile::TempDir,
}

impl Machine {
    fn boot() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mount = cgroup_mount().expect("cgroup v2");
        let cgroup = mount.join(format!("gpuloom-live-{}", std::process::id()));
        std::fs::create_dir(&cgroup).expect("a cgroup");
        let config = format!(
            "instance_id = \"lead-ml\"\ndata_dir = \"/var/lib/gpuloom\"\nlisten = \"127.0.0.1:7443\"\n\
             [fleet]\nname = \"ml\"\n[lead]\nadmin_public_key = \"{KEY}\"\nlocal_root = \"/var/lib/gpuloom/local\"\n"
        );
        let join = "echo $$ > \"$CGROUP/cgroup.procs\"; exec unshare --cgroup --pid --fork \
            --kill-child --mount --uts --ipc --net bash -c \"$BOOT\"";
        let gpuloom = Built::find().gpuloom;
        let log = std::fs::File::create(dir.path().join("boot.log")).expect("a file");
        let outer = Command::new("bash")
            .args(["-c", join])
            .env("CGROUP", &cgroup)
            .env("BOOT", BOOT)
            .env("T", dir.path())
            .env("SOURCES", repository())
            .env("FROM", gpuloom.parent().expect("a folder"))
            .env("PROGRAM", std::env::current_exe().expect("a path"))
            .env("CONFIG", config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("bash starts");
        let children = format!("/proc/{0}/task/{0}/children", outer.id());
        let mut machine = Self {
            outer,
            init: String::new(),
            cgroup,
            handed_on: std::cell::OnceCell::new(),
            _dir: dir,
        };
        until("systemd runs", || {
            let text = std::fs::read_to_string(&children).unwrap_or_default();
            machine.init = text.trim().to_owned();
            !machine.init.is_empty() && machine.says("systemctl is-active rig.target") == "active"
        });
        machine
    }

    fn says(&self, command: &str) -> String {
        let output = Command::new("nsenter")
            .args(["-t", &self.init, "-a", "sh", "-c", command])
            .stderr(Stdio::null())
            .output()
            .expect("nsenter runs");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    #[track_caller]
    fn does(&self, command: &str) {
        let output = Command::new("nsenter")
            .args(["-t", &self.init, "-a", "sh", "-c", command])
            .output()
            .expect("nsenter runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let units =
            "systemctl status gpuloom-jobs gpuloom-agent --no-pager; journalctl --no-pager -n 40";
        assert!(
            output.status.success(),
            "{command}: {said}\n{}",
            self.says(units)
        );
    }

    /// As on a machine whose jobs have limits: the unit's cgroup hands a controller on, so that the
    /// kernel lets no process into it.
    fn hand_a_controller_on(&self) {
        let mount = cgroup_mount().expect("cgroup v2");
        let has = std::fs::read_to_string(mount.join("cgroup.controllers")).expect("reads");
        let Some(controller) = has.split_whitespace().last() else {
            return;
        };
        let control = mount.join("cgroup.subtree_control");
        let before = std::fs::read_to_string(&control).expect("reads");
        if !before.split_whitespace().any(|c| c == controller) {
            std::fs::write(&control, format!("+{controller}")).expect("is handed on");
            self.handed_on
                .set(controller.to_owned())
                .expect("is done once");
        }
        let outer = self.outer.id().to_string();
        std::fs::write(mount.join("cgroup.procs"), outer).expect("moves out of the way");
        let unit = self.says("systemctl show -P ControlGroup gpuloom-jobs");
        self.does(&format!(
            "for d in / /system.slice {unit}; do echo +{controller} > /sys/fs/cgroup$d/cgroup.subtree_control; done"
        ));
    }

    fn main_pid(&self, unit: &str) -> String {
        self.says(&format!("systemctl show -P MainPID {unit}"))
    }

    #[track_caller]
    fn active(&self, unit: &str, after: &str) {
        until(after, || {
            self.says(&format!("systemctl show -P ActiveState,SubState {unit}"))
                == "active\nrunning"
        });
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Ends its whole pid namespace with it.
        std::fs::write(self.cgroup.join("cgroup.kill"), "1").expect("kills");
        self.outer.wait().expect("ends");
        until("the cgroups are removed", || {
            Command::new("find")
                .arg(&self.cgroup)
                .args(["-depth", "-type", "d", "-delete"])
                .stderr(Stdio::null())
                .status()
                .is_ok()
                && !self.cgroup.exists()
        });
        if let (Some(controller), Some(mount)) = (self.handed_on.get(), self.cgroup.parent()) {
            let control = mount.join("cgroup.subtree_control");
            std::fs::write(control, format!("-{controller}")).expect("is as it was");
        }
    }
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(
            since.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

const KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==";

fn jobs_outlive_the_agents_unit_and_the_holder() {
    let machine = Machine::boot();
    machine.does("systemctl start gpuloom-agent");
    assert_eq!(
        machine.says("systemctl is-active gpuloom-jobs gpuloom-agent"),
        "active\nactive"
    );
    let caps =
        machine.says("grep -h CapEff /proc/$(systemctl show -P MainPID gpuloom-agent)/status");
    assert_eq!(
        caps, "CapEff:\t0000000000000000",
        "the agent has no privilege"
    );
    machine.does("systemctl stop gpuloom-agent");

    let dropin = "/etc/systemd/system/gpuloom-agent.service.d";
    machine.does(&format!(
        "mkdir {dropin}; printf '[Service]\\nWatchdogSec=0\\nExecStart=\\nExecStart=/usr/local/bin/systemd_live node-agent\\n' > {dropin}/t.conf"
    ));
    machine.does("systemctl daemon-reload");
    machine.does("systemctl start gpuloom-agent");
    let work = "/var/lib/gpuloom/attempts/1-1/work";
    let pid = || machine.says(&format!("cat {work}/pid"));
    until("the job runs", || !pid().is_empty());
    let job = pid();
    let lives = |after: &str| {
        assert_eq!(
            machine.says(&format!("cat /proc/{job}/comm")),
            "sleep",
            "after {after}"
        );
        assert_eq!(pid(), job, "after {after}");
    };
    assert_eq!(
        machine.says(&format!("cat {work}/caps")),
        "CapBnd:\t0000000000000000"
    );
    assert_eq!(machine.says(&format!("stat -c %U {work}/pid")), "nobody");

    machine.does("systemctl restart gpuloom-agent");
    lives("a restart of the agent");
    let agent = machine.main_pid("gpuloom-agent");
    machine.does(&format!("kill -9 {agent}"));
    until("the agent is started again", || {
        machine.main_pid("gpuloom-agent") != agent
    });
    machine.active("gpuloom-agent", "the agent was killed");
    lives("the agent was killed");
    machine.does("systemctl daemon-reload");
    lives("a daemon-reload");

    machine.hand_a_controller_on();
    let holder = machine.main_pid("gpuloom-jobs");
    machine.does(&format!("kill -9 {holder}"));
    until("the holder is started again", || {
        !["0", holder.as_str()].contains(&machine.main_pid("gpuloom-jobs").as_str())
    });
    machine.active("gpuloom-jobs", "the holder was killed");
    machine.active("gpuloom-agent", "the holder was killed");
    lives("the holder was killed");

    // The agent ends the job through the new holder, and what it wrote is removed.
    machine.does("touch /var/lib/gpuloom/stop; systemctl restart gpuloom-agent");
    until("the job is stopped", || {
        machine.says("test -e /var/lib/gpuloom/stopped && echo yes") == "yes"
    });
    assert_eq!(
        machine.says(&format!("test -e /proc/{job} || echo gone")),
        "gone"
    );
    assert_eq!(machine.says("ls /var/lib/gpuloom/attempts"), "forgotten");
    machine.does("systemctl stop gpuloom-jobs");
    assert_eq!(
        machine.says("systemctl is-active gpuloom-agent"),
        "inactive"
    );
}
