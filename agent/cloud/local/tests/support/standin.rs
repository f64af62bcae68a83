//! Plays the agent in the tests of the local driver: takes the lock, says who it is, and waits to be ended.
//! As `driver` it is a driver that a failpoint can kill.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use gpuloom_cloud::{Cloud, LaunchRequest, Tags};
use gpuloom_cloud_local::{LocalCloud, LocalGpu, LocalOptions};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["agent", "--config", config] => agent(Path::new(config)),
        ["sleep"] => {
            // No test takes as long; one that was killed leaves nothing behind for ever.
            std::thread::sleep(std::time::Duration::from_secs(120));
            ExitCode::SUCCESS
        }
        ["driver", "launch", root, request] => {
            let request: LaunchRequest = serde_json::from_str(request).expect("request");
            drive(root, async |cloud| {
                cloud
                    .launch(&request)
                    .await
                    .map(|_| ())
                    .map_err(|e| e.to_string())
            })
        }
        ["driver", "sweep", root] => drive(root, async |cloud| {
            for i in cloud
                .list(&Tags::default())
                .await
                .map_err(|e| e.to_string())?
            {
                cloud.terminate(&i.id).await.map_err(|e| e.to_string())?;
            }
            Ok(())
        }),
        _ => {
            eprintln!("unknown arguments: {args:?}");
            ExitCode::from(2)
        }
    }
}

fn agent(config: &Path) -> ExitCode {
    let dir = config.parent().expect("a directory");
    let text = std::fs::read_to_string(config).expect("config");
    if text.contains("fails = true") {
        eprintln!("the configuration is not to my liking");
        return ExitCode::from(4);
    }
    let mut lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join("lock"))
        .expect("lock file");
    if lock.try_lock().is_err() {
        eprintln!("another agent holds the lock");
        return ExitCode::from(3);
    }
    let me = std::process::id();
    lock.set_len(0).expect("truncate");
    write!(lock, "{me} {}", start_time(me)).expect("write");
    lock.sync_all().expect("sync");
    if text.contains("job = true") {
        start_job(dir);
    }
    let fds = std::fs::read_dir("/proc/self/fd").expect("descriptors");
    let count = fds.count().to_string();
    std::fs::write(dir.join("attributes/descriptors"), count).expect("attribute");
    let environment: Vec<_> = std::env::vars().map(|(name, _)| name).collect();
    std::fs::write(dir.join("attributes/environment"), environment.join(" ")).expect("attribute");
    std::fs::write(dir.join("attributes/ca-pin"), "sha256:00\n").expect("attribute");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
            .expect("signal");
        std::fs::write(dir.join("attributes/ready"), "yes").expect("attribute");
        loop {
            term.recv().await;
            if !text.contains("deaf = true") {
                break;
            }
        }
    });
    drop::<File>(lock);
    ExitCode::SUCCESS
}

/// Two processes that survive the agent: one that is only recorded, one that is only marked.
fn start_job(dir: &Path) {
    use std::os::unix::process::CommandExt;
    let me = std::env::current_exe().expect("exe");
    let spawn = |command: &mut Command| {
        command
            .arg("sleep")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
            .process_group(0)
            .current_dir("/")
            .spawn()
            .expect("spawn")
            .id()
    };
    let recorded = spawn(Command::new(&me).env_clear());
    let marked = spawn(&mut Command::new(&me));
    let attempt = dir.join("attempts/1-1");
    std::fs::create_dir_all(&attempt).expect("attempt");
    let start = start_time(recorded);
    let shim = format!(r#"{{"shim": {{"pid": {recorded}, "start_time": {start}}}}}"#);
    std::fs::write(attempt.join("shim.json"), shim).expect("record");
    std::fs::write(
        dir.join("attributes/job-pids"),
        format!("{recorded} {marked}"),
    )
    .expect("attribute");
}

fn start_time(pid: u32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let rest = &stat[stat.rfind(')').expect("a name") + 2..];
    rest.split(' ').nth(19).expect("field 22").to_owned()
}

fn drive(root: &str, act: impl AsyncFnOnce(LocalCloud) -> Result<(), String>) -> ExitCode {
    let options: LocalOptions = LocalOptions {
        machine: PathBuf::from(root).join(".machine"),
        ..LocalOptions::new(
            PathBuf::from(root),
            std::env::current_exe().expect("exe"),
            vec![LocalGpu {
                id: "GPU-0".parse().expect("id"),
                model: gpuloom_fleet::GpuModel::new("T4").expect("model"),
            }],
        )
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    match runtime.block_on(act(LocalCloud::new(options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}
