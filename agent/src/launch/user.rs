//! The unprivileged user jobs run under.

use super::error::{LaunchError, OnPath as _};
use serde::{Deserialize, Serialize};

/// An account of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobUser {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

// === impl JobUser ===

impl JobUser {
    /// The account `user` of /etc/passwd; a bare uid need not be listed there (its gid is then the
    /// same number). Accounts known only to a directory service are given by uid.
    pub(crate) fn find(user: &str) -> Result<Self, LaunchError> {
        let path = "/etc/passwd";
        let table = std::fs::read_to_string(path).on("read", path)?;
        Self::find_in(&table, user).ok_or_else(|| LaunchError::NoSuchUser {
            user: user.to_owned(),
        })
    }

    fn find_in(table: &str, user: &str) -> Option<Self> {
        let listed = table.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let uid = fields.nth(1)?;
            let gid = fields.next()?;
            (name == user || uid == user).then_some(())?;
            Some(Self {
                name: name.to_owned(),
                uid: uid.parse().ok()?,
                gid: gid.parse().ok()?,
            })
        });
        listed.or_else(|| {
            // The largest number means "unchanged" to the kernel.
            let uid = user.parse().ok().filter(|uid| *uid != u32::MAX)?;
            Some(Self {
                name: user.to_owned(),
                uid,
                gid: uid,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_or_number() {
        let table = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65533::/:/bin/false\n";
        let found = |user| JobUser::find_in(table, user).map(|u| (u.name, u.uid, u.gid));
        assert_eq!(found("nobody"), Some(("nobody".into(), 65534, 65533)));
        assert_eq!(found("65534"), Some(("nobody".into(), 65534, 65533)));
        assert_eq!(found("1234"), Some(("1234".into(), 1234, 1234)));
        for bad in ["", "nobod", "-1", "4294967295", "x"] {
            assert_eq!(found(bad), None, "{bad}");
        }
    }
}
