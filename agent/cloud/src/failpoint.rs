//! Places at which a test ends this process: `GPULOOM_FAILPOINTS="name=kill@2,other=hang"`, debug builds only.
//!
//! An absolute path instead of a list is a folder in which places are armed while processes run: a file `<name>` that
//! says `kill`, or `kill <pid>` for one process only. Who passes there first renames it to `<name>.hit.<pid>` and does
//! what it said: once over all processes, and the test sees who did.

/// Passes the place `name`. With `name=kill` (or `kill@N`: at the Nth pass) the process gets SIGKILL here, with
/// `name=hang` this thread stops for good. Release builds do nothing and read nothing.
pub fn hit(name: &str) {
    #[cfg(debug_assertions)]
    armed::hit(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// True at a place set to `name=error` (or `error@N`): the caller answers with an error of its own.
/// Always false in release builds.
#[must_use]
pub fn fails(name: &str) -> bool {
    #[cfg(debug_assertions)]
    return armed::fails(name);
    #[cfg(not(debug_assertions))]
    {
        let _ = name;
        false
    }
}

#[cfg(debug_assertions)]
mod armed {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, OnceLock, PoisonError};

    /// Where it is said what happens.
    enum Source {
        List(BTreeMap<String, Armed>),
        Folder(PathBuf),
    }

    /// What happens at a place, and at which pass (0 = every one).
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub(super) struct Armed {
        pub(super) action: String,
        pub(super) pass: u64,
    }

    /// `name=action[@N]`, comma-separated; what does not read is left out.
    pub(super) fn parse(text: &str) -> BTreeMap<String, Armed> {
        text.split(',')
            .filter_map(|item| {
                let (name, action) = item.trim().split_once('=')?;
                let (action, pass) = match action.split_once('@') {
                    Some((action, n)) => (action, n.parse().ok()?),
                    None => (action, 0),
                };
                Some((
                    name.to_owned(),
                    Armed {
                        action: action.to_owned(),
                        pass,
                    },
                ))
            })
            .collect()
    }

    /// The action due at this pass of `name`, if it is one of `actions`.
    fn due(name: &str, actions: &[&str]) -> Option<String> {
        static ARMED: OnceLock<Source> = OnceLock::new();
        static PASSES: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());
        let source = ARMED.get_or_init(|| {
            let text = std::env::var("GPULOOM_FAILPOINTS").unwrap_or_default();
            if text.starts_with('/') {
                Source::Folder(PathBuf::from(text))
            } else {
                Source::List(parse(&text))
            }
        });
        let armed = match source {
            Source::List(armed) => armed,
            Source::Folder(folder) => return claim(folder, name, actions, std::process::id()),
        };
        let here = armed
            .get(name)
            .filter(|a| actions.contains(&a.action.as_str()))?;
        let mut passes = PASSES.lock().unwrap_or_else(PoisonError::into_inner);
        let pass = passes.entry(name.to_owned()).or_default();
        *pass += 1;
        (here.pass == 0 || here.pass == *pass).then(|| here.action.clone())
    }

    /// The action armed in `folder` for this process at `name`; taken, so that nobody does it again.
    pub(super) fn claim(folder: &Path, name: &str, actions: &[&str], pid: u32) -> Option<String> {
        let file = folder.join(name);
        let text = std::fs::read_to_string(&file).ok()?;
        let mut words = text.split_whitespace();
        let action = words.next().filter(|a| actions.contains(a))?.to_owned();
        if words.next().is_some_and(|whose| whose != pid.to_string()) {
            return None;
        }
        std::fs::rename(&file, folder.join(format!("{name}.hit.{pid}"))).ok()?;
        Some(action)
    }

    pub(super) fn hit(name: &str) {
        match due(name, &["kill", "hang"]).as_deref() {
            Some("kill") => {
                let me = rustix::process::getpid();
                let sent = rustix::process::kill_process(me, rustix::process::Signal::KILL);
                unreachable!("a process survived its own SIGKILL: {sent:?}");
            }
            Some(_) => loop {
                std::thread::park();
            },
            None => {}
        }
    }

    pub(super) fn fails(name: &str) -> bool {
        due(name, &["error"]).is_some()
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::armed::{Armed, claim, parse};

    #[test]
    fn a_place_armed_in_a_folder_is_taken_once_and_by_whom_it_is_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |pid| claim(folder.path(), "a.b.before", &["kill"], pid);
        assert_eq!(at(7), None, "nothing is armed");
        std::fs::write(folder.path().join("a.b.before"), "kill 7").expect("written");
        assert_eq!(at(8), None, "armed for another");
        assert_eq!(at(7).as_deref(), Some("kill"));
        assert_eq!(at(7), None, "taken");
        assert!(folder.path().join("a.b.before.hit.7").exists());
        std::fs::write(folder.path().join("a.b.before"), "hang").expect("written");
        assert_eq!(at(9), None, "hit knows it, fails does not");
    }

    #[test]
    fn a_list_of_places_reads() {
        let armed = parse("a.b.before=kill, c=hang@3,nonsense,d=kill@x");
        let is = |action: &str, pass| {
            Some(Armed {
                action: action.to_owned(),
                pass,
            })
        };
        assert_eq!(armed.get("a.b.before").cloned(), is("kill", 0));
        assert_eq!(armed.get("c").cloned(), is("hang", 3));
        assert_eq!(armed.len(), 2);
    }
}
