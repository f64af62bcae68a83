//! The commands of a machine that would need a real one, as scripts that come first on its `PATH`.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Starts the agent's unit as systemd would: in a session of its own, again when it ends. Before its first start the
/// configuration gets what the machine's hardware is: its GPUs and its file system.
const SYSTEMCTL: &str = r#"#!/bin/sh
echo "systemctl $*" >> "$GPULOOM_MACHINE/log/commands"
case " $* " in
    *" gpuloom-agent"*) ;;
    *) exit 0 ;;
esac
case $1 in
    enable | start | restart) ;;
    is-active) [ -e "$GPULOOM_MACHINE/run/started" ]; exit ;;
    stop | disable)
        rm -f "$GPULOOM_MACHINE/run/started"
        [ ! -e "$GPULOOM_MACHINE/run/agent.pid" ] || kill "$(cat "$GPULOOM_MACHINE/run/agent.pid")" 2>/dev/null
        exit 0 ;;
    *) exit 0 ;;
esac
[ ! -e "$GPULOOM_MACHINE/run/started" ] || exit 0
: > "$GPULOOM_MACHINE/run/started"
config=$GPULOOM_ROOT/etc/gpuloom/agent.toml
sed -i -e "s|\"/var/lib/gpuloom|\"$GPULOOM_ROOT/var/lib/gpuloom|g" -e '/^ *jobs_socket *=/d' "$config"
if [ -e "$GPULOOM_MACHINE/gpus.state" ] && ! grep -q '^ *sim_state *=' "$config"; then
    sed -i -e '/^ *backend *=/d' \
        -e "s|^ *\[node\] *\$|&\nbackend = \"simulated\"\nsim_state = \"$GPULOOM_MACHINE/gpus.state\"|" "$config"
fi
mkdir -p "$GPULOOM_ROOT/var/lib/gpuloom"
chmod 0711 "$GPULOOM_ROOT/var/lib/gpuloom/." 2>/dev/null
setsid -f sh "$GPULOOM_MACHINE/stubs/unit" < /dev/null >> "$GPULOOM_MACHINE/log/agent" 2>&1
"#;

const UNIT: &str = r#"#!/bin/sh
cd "$GPULOOM_ROOT" || exit 1
while [ -e "$GPULOOM_MACHINE/run/started" ]; do
    "$GPULOOM_BIN" agent --config "$GPULOOM_ROOT/etc/gpuloom/agent.toml" &
    echo $! > "$GPULOOM_MACHINE/run/agent.pid"
    wait $!
    echo "unit: the agent ended with $?"
    sleep 1
done
"#;

/// A disk is a folder; formatted when it holds the mark.
const BLKID: &str = r#"#!/bin/sh
echo "blkid $*" >> "$GPULOOM_MACHINE/log/commands"
for disk; do :; done
[ -e "$disk/.formatted" ] || exit 2
echo "$disk: TYPE=\"ext4\""
"#;

const MKFS: &str = r#"#!/bin/sh
echo "mkfs.ext4 $*" >> "$GPULOOM_MACHINE/log/commands"
for disk; do :; done
rm -rf "$disk"/* && : > "$disk/.formatted"
"#;

const MOUNT: &str = r#"#!/bin/sh
echo "mount $*" >> "$GPULOOM_MACHINE/log/commands"
while [ $# -gt 2 ]; do shift; done
[ -e "$1/.formatted" ] || { echo "mount: $1: no file system" >&2; exit 32; }
rmdir "$2" 2>/dev/null
ln -sfn "$(readlink -f "$1")" "$2"
"#;

const MOUNTPOINT: &str = r#"#!/bin/sh
for path; do :; done
[ -L "$path" ]
"#;

/// Writes them into `dir`.
pub(super) fn write(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let files = [
        ("systemctl", SYSTEMCTL),
        ("unit", UNIT),
        ("blkid", BLKID),
        ("mkfs.ext4", MKFS),
        ("mount", MOUNT),
        ("mountpoint", MOUNTPOINT),
    ];
    for (name, text) in files {
        let path = dir.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    }
    Ok(())
}
