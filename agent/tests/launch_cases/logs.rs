use super::rig::{Kind, Rig, attempt, order};
use gpuloom_agent::launch::{LaunchError, LogRequest, MAX_LOG_READERS};
use gpuloom_fleet::Exit;
use std::time::Duration;

pub(crate) fn output_is_rotated_and_read_back_in_order(kind: Kind) {
    let rig = Rig::with(kind, |config| {
        config.log_file_bytes = 1000;
        config.log_files = 3;
    });
    let script = "i=1; while [ $i -le 1000 ]; do echo line $i; i=$((i+1)); done; echo bad >&2";
    rig.launch(order("1#1", &["sh", "-c", script]))
        .expect("starts");
    assert_eq!(rig.gone("1#1").exit, Some(Exit::Code(0)));
    let (out, err) = rig.output("1#1");
    assert_eq!(err, "bad\n");
    let all: String = (1..=1000).map(|i| format!("line {i}\n")).collect();
    assert!(all.ends_with(&out), "{out}");
    assert!((2001..=3000).contains(&out.len()), "{}", out.len());
    let dir = rig.launcher.dir_of(attempt("1#1"));
    assert!(dir.join("out.log.2").exists() && !dir.join("out.log.3").exists());
}

pub(crate) fn a_follower_sees_everything_and_ends_with_the_job(kind: Kind) {
    let rig = Rig::with(kind, |config| {
        config.log_file_bytes = 500;
        config.log_files = 100;
    });
    let script = "echo before; while ! test -e go; do sleep 0.05; done; \
        i=1; while [ $i -le 2000 ]; do echo line $i; i=$((i+1)); done; printf end";
    rig.launch(order("1#1", &["sh", "-c", script]))
        .expect("starts");
    let request = LogRequest {
        stdout: true,
        follow: true,
        tail_bytes: Some(1 << 30),
        ..LogRequest::default()
    };
    let work = rig.launcher.dir_of(attempt("1#1")).join("work");
    let text = rig.run(async {
        let mut chunks = rig
            .launcher
            .read_log(attempt("1#1"), request)
            .expect("reads");
        let mut text = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            text.extend(chunk.expect("reads").data);
            // Only a follower that has the first line lets the job go on.
            std::fs::write(work.join("go"), "").expect("writes");
        }
        String::from_utf8(text).expect("text")
    });
    let all: String = (1..=2000).map(|i| format!("line {i}\n")).collect();
    assert_eq!(text, format!("before\n{all}end"));
}

pub(crate) fn a_reader_too_many_is_refused(kind: Kind) {
    let rig = Rig::new(kind);
    rig.launch(order("1#1", &["sleep", "1000"]))
        .expect("starts");
    let request = LogRequest {
        stdout: true,
        follow: true,
        ..LogRequest::default()
    };
    rig.run(async {
        let read = || rig.launcher.read_log(attempt("1#1"), request);
        let readers: Vec<_> = (0..MAX_LOG_READERS)
            .map(|_| read().expect("reads"))
            .collect();
        assert!(matches!(read(), Err(LaunchError::Limit { .. })));
        drop(readers);
        // Those that were dropped make room.
        while read().is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let unknown = rig.run(async { rig.launcher.read_log(attempt("2#1"), request) });
    assert!(matches!(unknown, Err(LaunchError::Unknown { .. })));
}
