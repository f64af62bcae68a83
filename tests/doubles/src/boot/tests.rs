//! Machines with a stand-in for the agent: a script that notes how it was started and waits.

use super::*;
use std::fs;
use std::time::{Duration, Instant};

const AGENT: &str = "#!/bin/sh\ncp \"$3\" \"$GPULOOM_MACHINE/run/seen\"\necho \"$WHO $PPID\" > \"$GPULOOM_MACHINE/run/agent\"\nsleep 1000\n";
const SIM: &str = "#!/bin/sh\necho \"$*\" > \"$2\"\n";
const USER_DATA: &str = r#"#!/bin/sh
set -eu
mkdir -p "$GPULOOM_ROOT/etc/gpuloom" "$GPULOOM_ROOT/var/lib/gpuloom"
cat > "$GPULOOM_ROOT/etc/gpuloom/agent.toml" <<'X'
data_dir = "/var/lib/gpuloom"
[node]
backend = "nvml"
jobs_socket = "/run/gpuloom/jobs.sock"
X
disk=$GPULOOM_ROOT/dev/disk/by-id/data
if [ -e "$disk" ]; then
    known=0; blkid "$disk" || known=$?
    [ $known = 0 ] || mkfs.ext4 -q "$disk"
    mount "$disk" "$GPULOOM_ROOT/var/lib/gpuloom"
    mountpoint -q "$GPULOOM_ROOT/var/lib/gpuloom"
    echo once >> "$GPULOOM_ROOT/var/lib/gpuloom/boots"
fi
systemctl daemon-reload
systemctl enable --now gpuloom-agent
"#;

/// Programs and a folder for machines.
fn ground() -> (tempfile::TempDir, Machines) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (name, text) in [("gpuloom", AGENT), ("gpuloom-sim", SIM)] {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("ours");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("ours");
    }
    let options = BootOptions {
        gpuloom: dir.path().join("gpuloom"),
        dir: dir.path().join("m"),
    };
    let machines = Machines::new(options).expect("machines");
    (dir, machines)
}

fn spec(id: &str) -> MachineSpec {
    MachineSpec {
        id: id.to_owned(),
        user_data: USER_DATA.to_owned(),
        gpus: Some("1xT4".to_owned()),
        address: Address::claim().expect("one is free"),
        env: vec![("WHO".to_owned(), id.to_owned())],
        disks: Vec::new(),
    }
}

#[track_caller]
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match look() {
            Some(found) => return found,
            None => assert!(Instant::now() < deadline, "not within 30 s: {what}"),
        }
        std::thread::yield_now();
    }
}

fn read(machine: &Machine, file: &str) -> Option<String> {
    let text = fs::read_to_string(machine.dir().join(file)).ok()?;
    (!text.is_empty()).then_some(text)
}

#[test]
fn user_data_starts_an_agent_whose_gpus_are_simulated_and_a_power_cut_ends_it() {
    let (_dir, machines) = ground();
    let machine = machines.boot(spec("i-1")).expect("boots");
    let who = until("the agent starts", || read(&machine, "run/agent"));
    assert!(who.starts_with("i-1 "), "{who}");
    let config = until("its configuration", || read(&machine, "run/seen"));
    let root = machine.dir().join("root").display().to_string();
    assert!(
        config.contains(&format!("data_dir = \"{root}/var/lib/gpuloom\"")),
        "{config}"
    );
    assert!(
        config.contains("backend = \"simulated\"\nsim_state = "),
        "{config}"
    );
    assert!(
        !config.contains("jobs_socket") && !config.contains("nvml"),
        "{config}"
    );
    let made = read(&machine, "gpus.state").expect("its GPUs are made");
    assert!(made.contains("create 1xT4 --seed "), "{made}");

    assert!(!machine.processes().is_empty());
    machine.cut_power().expect("it ends");
    assert!(machine.processes().is_empty());
    assert_eq!(machine.power(), Power::Off);
    fs::remove_file(machine.dir().join("run/agent")).expect("it was there");
    machine.start().expect("starts");
    until("the agent starts again", || read(&machine, "run/agent"));
}

#[test]
fn a_kept_disk_is_formatted_once_and_comes_back_with_what_was_on_it() {
    let (dir, machines) = ground();
    let disk = || Disk {
        device: "/dev/disk/by-id/data".to_owned(),
        folder: dir.path().join("disk"),
    };
    for boot in 1..=2 {
        let mut spec = spec("i-1");
        spec.disks.push(disk());
        let machine = machines.boot(spec).expect("boots");
        until("the agent starts", || read(&machine, "run/agent"));
        let boots = fs::read_to_string(dir.path().join("disk/boots")).expect("on the disk");
        assert_eq!(boots.lines().count(), boot, "{}", machine.logs());
    }
}

#[test]
fn an_agent_that_ends_is_started_again_and_the_end_of_all_machines_ends_it() {
    let (_dir, machines) = ground();
    let machine = machines.boot(spec("i-1")).expect("boots");
    until("the agent starts", || read(&machine, "run/agent"));
    let pid = until("its pid", || read(&machine, "run/agent.pid"));
    fs::remove_file(machine.dir().join("run/agent")).expect("it was there");
    let pid = rustix::process::Pid::from_raw(pid.trim().parse().expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it runs");
    until("another one", || read(&machine, "run/agent"));
    let folder = machines.dir().to_owned();
    drop((machine, machines));
    assert_eq!(processes::of(&folder), Vec::<i32>::new());
}

#[test]
fn machines_end_when_what_booted_them_is_gone_without_a_word() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut reaper = Command::new("/bin/sh")
        .args(["-c", REAPER])
        .stdin(Stdio::piped())
        .spawn()
        .expect("a shell");
    let path = dir.path().display().to_string();
    fs::create_dir(dir.path().join("m1")).expect("ours");
    let mut stdin = reaper.stdin.take().expect("piped");
    writeln!(stdin, "{path}/").expect("it reads");
    let in_folder = Command::new("sleep")
        .arg("60")
        .current_dir(dir.path().join("m1"))
        .spawn()
        .expect("sleeps");
    let marked = Command::new("sleep")
        .arg("60")
        .env("MARK", format!("{path}/m1/"))
        .spawn()
        .expect("sleeps");
    let mut other = Command::new("sleep").arg("60").spawn().expect("sleeps");
    drop(stdin);
    for mut child in [in_folder, marked] {
        child.wait().expect("it was killed");
    }
    assert!(reaper.wait().expect("it ends").success());
    assert!(
        other.try_wait().expect("ours").is_none(),
        "not of the folder"
    );
    other.kill().expect("ours");
    other.wait().expect("ours");
}

#[test]
fn user_data_that_is_no_script_is_refused() {
    let (_dir, machines) = ground();
    let mut spec = spec("i-1");
    spec.user_data = "#cloud-config\n".replace('#', "");
    let refused = machines.boot(spec).expect_err("no script");
    assert!(refused.to_string().contains("i-1"), "{refused}");
}
