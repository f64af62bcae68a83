//! Places at which a test ends this process: `GPULOOM_FAILPOINTS="name=kill@2,other=hang"`, debug builds only.

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
    use std::sync::{Mutex, OnceLock, PoisonError};

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
        static ARMED: OnceLock<BTreeMap<String, Armed>> = OnceLock::new();
        static PASSES: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());
        let armed =
            ARMED.get_or_init(|| parse(&std::env::var("GPULOOM_FAILPOINTS").unwrap_or_default()));
        let here = armed
            .get(name)
            .filter(|a| actions.contains(&a.action.as_str()))?;
        let mut passes = PASSES.lock().unwrap_or_else(PoisonError::into_inner);
        let pass = passes.entry(name.to_owned()).or_default();
        *pass += 1;
        (here.pass == 0 || here.pass == *pass).then(|| here.action.clone())
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
    use super::armed::{Armed, parse};

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
