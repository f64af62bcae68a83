//! What a cloud instance runs at its first boot: one shell script that everybody on it may read.

use std::fmt::Write as _;

use gpuloom_fleet::AgentSource;

use crate::instance::Role;

/// Most bytes of a script: AWS takes 16 KiB of user data.
pub const MAX_BOOT_BYTES: usize = 16 * 1024;
/// How long the script waits for a data disk to appear, in seconds.
const DISK_WAIT_S: u32 = 120;
/// The end of the configuration in the script; no configuration holds such a line.
const END: &str = "GPULOOM_CONFIG_END";

/// What an instance's agent starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// Lead or node.
    pub role: Role,
    /// The agent's configuration (TOML), without any secret.
    pub config: String,
    /// Where the agent comes from.
    pub agent: AgentSource,
    /// A disk of its own holds `/var/lib/gpuloom`.
    pub data_disk: bool,
}

/// A script that no cloud would take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BootError {
    /// Too long.
    #[error(
        "the boot script of the {role} has {bytes} bytes, at most {MAX_BOOT_BYTES} fit: use fewer or shorter labels"
    )]
    TooLong {
        /// Whose.
        role: Role,
        /// Its length.
        bytes: usize,
    },
    /// The configuration holds the line that ends it.
    #[error("the configuration of the {role} holds the line {END:?}: change that label")]
    Ends {
        /// Whose.
        role: Role,
    },
}

// === impl Boot ===

impl Boot {
    /// The script: POSIX sh, the same for the same `self`, run as root, any number of times. It honours `GPULOOM_ROOT`
    /// as prefix of every path it writes.
    ///
    /// # Errors
    /// [`BootError`].
    pub fn script(&self) -> Result<String, BootError> {
        let role = self.role;
        if self.config.lines().any(|l| l == END) {
            return Err(BootError::Ends { role });
        }
        let mut text = format!(
            "#!/bin/sh\n# gpuloom {role}: installs and starts the agent. Holds no secret.\nset -eu\n{HEAD}"
        );
        if let AgentSource::Package { url, sha256 } = &self.agent {
            // Writing to a String does not fail. Both were checked: no quotes in them.
            let _ = writeln!(text, "url='{url}'\nsha256='{sha256}'\n{INSTALL}");
        }
        if self.data_disk {
            let _ = writeln!(text, "disk_wait_s={DISK_WAIT_S}\n{DISK}");
        }
        let end = if self.config.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        let _ = write!(
            text,
            "umask 027\nmkdir -p \"$root/etc/gpuloom\"\n\
             cat > \"$root/etc/gpuloom/agent.toml.new\" <<'{END}'\n{}{end}{END}\n{START}",
            self.config
        );
        if text.len() > MAX_BOOT_BYTES {
            let bytes = text.len();
            return Err(BootError::TooLong { role, bytes });
        }
        Ok(text)
    }
}

const HEAD: &str = r#"root=${GPULOOM_ROOT:-}
say() { echo "gpuloom boot: $*" >&2; }
fail() { say "$*"; exit 1; }
"#;

/// The package is that of `cargo xtask package`: a zip (or a tar) with `scripts/install` in it.
const INSTALL: &str = r#"work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
curl -fsSL --retry 5 --connect-timeout 10 -o "$work/package" "$url" || fail "cannot download $url"
echo "$sha256  $work/package" | sha256sum -c - >&2 || fail "the package at $url has another checksum than $sha256"
mkdir "$work/in"
if unzip -q "$work/package" -d "$work/in" 2>/dev/null; then :
elif tar -xf "$work/package" -C "$work/in" 2>/dev/null; then :
elif python3 -m zipfile -e "$work/package" "$work/in" 2>/dev/null; then :
else fail "cannot unpack $url: it is no zip or tar, or unzip, tar and python3 are missing"; fi
install=$(find "$work/in" -path '*scripts/install' | head -n 1)
[ -n "$install" ] || fail "there is no scripts/install in $url"
chmod 0755 "$install" "$(dirname "$install")"/gpuloom*
"$install" ${root:+--root "$root"} >&2"#;

/// The data disk: on AWS an EBS volume without partitions, on Google Cloud the device named gpuloom-data, on Azure
/// the first data disk. It is formatted only when it holds nothing (blkid answers 2).
const DISK: &str = r#"find_disk() {
    for d in "$root"/dev/disk/by-id/google-gpuloom-data "$root"/dev/disk/azure/data/by-lun/0 \
        "$root"/dev/disk/azure/scsi1/lun0 "$root"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol* \
        "$root"/dev/xvdf "$root"/dev/sdf; do
        [ -e "$d" ] || continue
        case $d in *-part[0-9]*) continue ;; esac
        [ -e "$d-part1" ] || [ -e "${d}1" ] && continue
        echo "$d"
        return 0
    done
    return 1
}
store=$root/var/lib/gpuloom
mkdir -p "$store"
if ! mountpoint -q "$store"; then
    waited=0
    until disk=$(find_disk); do
        [ "$waited" -lt "$disk_wait_s" ] || fail "no data disk appeared within $disk_wait_s s"
        sleep 1
        waited=$((waited + 1))
    done
    known=0
    blkid "$disk" >/dev/null 2>&1 || known=$?
    case $known in
        0) ;;
        2) mkfs.ext4 -q "$disk" ;;
        *) fail "cannot tell what is on $disk (blkid: $known)" ;;
    esac
    mount "$disk" "$store"
    mkdir -p "$root/etc/systemd/system/gpuloom-agent.service.d"
    # After a reboot the agent must not start beside its store.
    printf '[Unit]\nRequiresMountsFor=/var/lib/gpuloom\n' > "$root/etc/systemd/system/gpuloom-agent.service.d/store.conf"
    grep -qs " /var/lib/gpuloom " "$root/etc/fstab" ||
        echo "$disk /var/lib/gpuloom ext4 defaults,nofail 0 2" >> "$root/etc/fstab"
fi"#;

const START: &str = r#"chmod 0640 "$root/etc/gpuloom/agent.toml.new"
mv -f "$root/etc/gpuloom/agent.toml.new" "$root/etc/gpuloom/agent.toml"
systemctl daemon-reload
systemctl enable --now gpuloom-agent
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;
    use std::process::{Command, Output};

    fn boot(agent: AgentSource, data_disk: bool) -> Boot {
        Boot {
            role: Role::Node,
            config: "data_dir = \"/var/lib/gpuloom\"\npool = \"$HOME `id` 'x'\"\n".to_owned(),
            agent,
            data_disk,
        }
    }

    /// A machine in `dir`: commands that note how they were called, `stubs` beside them.
    fn run(dir: &Path, script: &str, stubs: &[(&str, &str)]) -> Output {
        let bin = dir.join("bin");
        std::fs::create_dir_all(&bin).expect("a folder");
        let note = "#!/bin/sh\necho \"$(basename \"$0\") $*\" >> \"$MARK\"\n";
        for name in ["systemctl", "mount", "mkfs.ext4"] {
            put(&bin.join(name), note);
        }
        for (name, text) in stubs {
            put(&bin.join(name), &format!("{note}{text}\n"));
        }
        let path = format!("{}:/usr/bin:/bin", bin.display());
        let mut sh = Command::new("sh")
            .arg("-s")
            .env_clear()
            .env("PATH", path)
            .env("MARK", dir.join("mark"))
            .env("GPULOOM_ROOT", dir.join("root"))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut stdin = sh.stdin.take().expect("piped");
        stdin.write_all(script.as_bytes()).expect("written");
        drop(stdin);
        sh.wait_with_output().expect("it ends")
    }

    fn put(path: &Path, text: &str) {
        std::fs::write(path, text).expect("written");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("mode");
    }

    fn said(dir: &Path) -> String {
        std::fs::read_to_string(dir.join("mark")).unwrap_or_default()
    }

    #[test]
    fn a_baked_image_gets_its_configuration_as_it_is_and_starts() {
        let dir = tempfile::tempdir().expect("a folder");
        let boot = boot(AgentSource::Image, false);
        let script = boot.script().expect("fits");
        for _ in 0..2 {
            let out = run(dir.path(), &script, &[]);
            assert!(out.status.success(), "{out:?}");
        }
        let config = dir.path().join("root/etc/gpuloom/agent.toml");
        let text = std::fs::read_to_string(&config).expect("there");
        assert_eq!(text, boot.config, "nothing in it is expanded");
        let mode = config.metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert!(said(dir.path()).contains("systemctl enable --now gpuloom-agent"));
    }

    #[test]
    fn a_package_is_installed_only_when_its_checksum_is_right() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join("package/scripts");
        std::fs::create_dir_all(&folder).expect("a folder");
        put(&folder.join("gpuloom"), "#!/bin/sh\n");
        put(
            &folder.join("install"),
            "#!/bin/sh\necho \"install $*\" >> \"$MARK\"\n",
        );
        let archive = dir.path().join("gpuloom.tar");
        let packed = Command::new("tar")
            .arg("-cf")
            .arg(&archive)
            .arg("-C")
            .arg(dir.path().join("package"))
            .arg("scripts")
            .status();
        assert!(packed.expect("tar runs").success());
        let sum = Command::new("sha256sum").arg(&archive).output();
        let sum = String::from_utf8(sum.expect("it runs").stdout).expect("text");
        let good = sum[..64].to_owned();
        for (sha256, installs) in [("0".repeat(64), false), (good, true)] {
            let url = "https://example.test/gpuloom.tar".to_owned();
            let curl = format!(
                "for last; do :; done; while [ \"$1\" != -o ]; do shift; done; cp '{}' \"$2\"",
                archive.display()
            );
            let script = boot(AgentSource::Package { url, sha256 }, false)
                .script()
                .expect("fits");
            let out = run(dir.path(), &script, &[("curl", &curl)]);
            assert_eq!(out.status.success(), installs, "{out:?}");
            let root = dir.path().join("root");
            let installed =
                said(dir.path()).contains(&format!("install --root {}", root.display()));
            assert_eq!(installed, installs);
            assert_eq!(root.join("etc/gpuloom/agent.toml").exists(), installs);
        }
    }

    #[test]
    fn a_data_disk_is_formatted_only_when_it_is_known_to_be_empty() {
        for (blkid, formats, mounts) in [(2, true, true), (0, false, true), (4, false, false)] {
            let dir = tempfile::tempdir().expect("a folder");
            let disk = dir.path().join("root/dev/disk/by-id/google-gpuloom-data");
            std::fs::create_dir_all(disk.parent().expect("a parent")).expect("a folder");
            std::fs::write(&disk, "").expect("a disk");
            let script = boot(AgentSource::Image, true).script().expect("fits");
            let out = run(
                dir.path(),
                &script,
                &[
                    ("blkid", &format!("exit {blkid}")),
                    ("mountpoint", "exit 1"),
                ],
            );
            assert_eq!(out.status.success(), mounts, "{out:?}");
            let said = said(dir.path());
            assert_eq!(said.contains("mkfs.ext4 -q"), formats, "{said}");
            assert_eq!(said.contains("mount /"), mounts, "{said}");
            assert_eq!(said.contains("systemctl enable"), mounts, "{said}");
        }
    }

    #[test]
    fn a_script_that_no_cloud_would_take_is_refused_before_it_is_sent() {
        let mut long = boot(AgentSource::Image, false);
        let rest = MAX_BOOT_BYTES - long.script().expect("fits").len();
        long.config.push_str(&"#".repeat(rest - 1));
        long.config.push('\n');
        assert_eq!(long.script().map(|s| s.len()), Ok(MAX_BOOT_BYTES));
        long.config.push('\n');
        let bytes = MAX_BOOT_BYTES + 1;
        let role = Role::Node;
        assert_eq!(long.script(), Err(BootError::TooLong { role, bytes }));
        let mut ends = boot(AgentSource::Image, false);
        ends.config.push_str("GPULOOM_CONFIG_END\nreboot\n");
        assert_eq!(ends.script(), Err(BootError::Ends { role }));
    }
}
