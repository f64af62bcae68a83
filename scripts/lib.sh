# Shared by the scripts that must run before cargo exists. Sourced, not run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# A target directory outside the clone, so that fresh clones share compiled dependencies.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/gpuloom/target}"
# As in .cargo/config.toml: jitter entropy costs each start of the provider 60 ms.
export AWS_LC_SYS_NO_JITTER_ENTROPY=1
[ -d "$HOME/.cargo/bin" ] && PATH="$HOME/.cargo/bin:$PATH"

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
die() {
    printf 'error: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '       %s\n' "$line" >&2; done
    exit 1
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else return 1; fi; }

# A C compiler: SQLite and the TLS library hold C code.
need_cc() {
    command -v cc >/dev/null && return
    say "installing a C compiler"
    if command -v apt-get >/dev/null; then
        as_root apt-get update -q && as_root apt-get install -qy build-essential && return
    fi
    die "no C compiler (cc) was found" "install one, e.g.: apt-get install build-essential"
}

need_cargo() {
    need_cc
    command -v cargo >/dev/null && return
    die "cargo was not found" "install Rust with rustup: https://rustup.rs (the toolchain is named in rust-toolchain.toml)"
}

need_nextest() {
    command -v cargo-nextest >/dev/null && return
    say "installing the test runner cargo-nextest"
    cargo install --locked cargo-nextest --target-dir "$CARGO_TARGET_DIR/nextest" ||
        die "cargo-nextest could not be installed" "see https://nexte.st/docs/installation"
}

need_terraform() {
    if ! command -v terraform >/dev/null; then
        die "terraform was not found" \
            "install Terraform 1.11 or later: https://developer.hashicorp.com/terraform/install" \
            "then run this again"
    fi
}

# What the doubles of the clouds stand on: moto (EC2 and STS) and the discovery document of Compute Engine.
need_doubles() {
    command -v python3 >/dev/null ||
        die "python3 was not found" "the AWS double runs moto: install Python 3.9 or later"
    python3 -c 'import moto.server' 2>/dev/null || pip_install "moto[server]" moto.server \
        "without it no test of AWS runs"
    python3 -c 'import googleapiclient' 2>/dev/null || pip_install google-api-python-client googleapiclient \
        "without it the Google double checks no request against the contract"
}

pip_install() { # package module what-for
    say "installing the Python package $1"
    if python3 -m pip install -q "$1" || python3 -m pip install -q --user --break-system-packages "$1"; then
        python3 -c "import $2" && return
    fi
    die "the Python package $1 could not be installed" "$3" "install it by hand: python3 -m pip install '$1'"
}
