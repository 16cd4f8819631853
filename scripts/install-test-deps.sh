#!/bin/sh
# Installs what the tests need and is missing: PostgreSQL, PgBouncer, Python, Node
# and ss from the distribution (as root), a newer PgBouncer into target/pgbouncer, the
# drivers and PostgreSQL's grammar into target/venv and target/node, SQL to test with
# into target/corpus.
# Quick when everything is there. Without root it says what to install.
#
# PG_BIN    directory with initdb, postgres, psql and pgbench, if not installed
set -eu
cd "$(dirname "$0")/.."
drivers=tests/drivers
oracle=tests/oracle
venv=target/venv
node=target/node

say() { echo "install-test-deps: $*" >&2; }

has_postgres() {
    for dir in "${PG_BIN:-}" /usr/lib/postgresql/*/bin "$(pg_config --bindir 2>/dev/null || true)"; do
        [ -n "$dir" ] && [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ] && return 0
    done
    return 1
}

# Interpreters that stand first in PATH may lack venv; the distribution's has it.
python=
for candidate in python3 /usr/bin/python3; do
    if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
        python=$candidate
        break
    fi
done

missing=
has_postgres || missing="$missing postgresql"
[ -n "$python" ] || missing="$missing python3 python3-venv"
command -v node >/dev/null || missing="$missing nodejs"
command -v npm >/dev/null || missing="$missing npm"
[ -x /usr/sbin/pgbouncer ] || missing="$missing pgbouncer"
command -v ss >/dev/null || missing="$missing iproute2"
[ -x /usr/sbin/slapd ] || missing="$missing slapd"
[ -e /usr/include/security/pam_appl.h ] || missing="$missing libpam0g-dev"
ls /usr/lib/*/libpam_wrapper.so >/dev/null 2>&1 || missing="$missing libpam-wrapper"

if [ -n "$missing" ]; then
    if [ "$(id -u)" != 0 ]; then
        say "missing:$missing"
        say "install with: sudo apt-get install --no-install-recommends$missing"
        say "or set PG_BIN to the directory that holds initdb and postgres"
        exit 1
    fi
    say "installing$missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    # The packages would start a cluster of their own; the tests start theirs.
    if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
        mkdir -p /etc/postgresql-common
        echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
    fi
    # Nor does anybody want a directory of this package's own.
    if command -v debconf-set-selections >/dev/null; then
        echo 'slapd slapd/no_configuration boolean true' | debconf-set-selections
    fi
    # shellcheck disable=SC2086 # a list of package names
    apt-get install -q -y --no-install-recommends $missing
    # The tests start their own.
    case $missing in
        *pgbouncer*) systemctl disable --now pgbouncer 2>/dev/null || true ;;
    esac
    python=${python:-/usr/bin/python3}
fi

scripts/install-pgbouncer.sh trixie >/dev/null

# A stamp holds what was installed last, so that a second run does nothing.
if ! cmp -s "$drivers/requirements.txt" "$venv/requirements.txt"; then
    say "installing Python drivers into $venv"
    "$python" -m venv --clear "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check -r "$drivers/requirements.txt"
    cp "$drivers/requirements.txt" "$venv/requirements.txt"
fi

if ! cmp -s "$oracle/requirements.txt" "$venv/oracle-requirements.txt"; then
    say "installing PostgreSQL's grammar into $venv"
    "$venv/bin/python" -m pip install -q --disable-pip-version-check -r "$oracle/requirements.txt"
    cp "$oracle/requirements.txt" "$venv/oracle-requirements.txt"
fi

if ! cmp -s "$oracle/corpus-requirements.txt" target/corpus/requirements.txt; then
    say "fetching SQL to test with into target/corpus"
    "$venv/bin/python" "$oracle/classify_corpus.py" target/corpus >/dev/null
fi

if ! cmp -s "$drivers/package-lock.json" "$node/installed.json"; then
    say "installing Node drivers into $node"
    mkdir -p "$node"
    cp "$drivers/package.json" "$drivers/package-lock.json" "$node/"
    (cd "$node" && npm ci --silent --no-audit --no-fund)
    cp "$drivers/package-lock.json" "$node/installed.json"
fi
