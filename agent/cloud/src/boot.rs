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
