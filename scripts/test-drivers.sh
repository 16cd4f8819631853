#!/usr/bin/env bash
# Runs the test suites of drivers and frameworks directly and through pgweir in
# transaction mode, and compares them test by test; see docs/drivers.md.
#
#   scripts/test-drivers.sh [--pgbouncer] [SUITE...]      all suites, unless named
#   scripts/test-drivers.sh --quick      those that run with every test
#   scripts/test-drivers.sh --list
#
# PG_BIN=<dir>        chooses a PostgreSQL
# PGWEIR=<program>    a pgweir to test; unless set it is built, with its own checks
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

suites=$ROOT/tests/suites
home=$ROOT/target/suites
venv=$home/venv
node=$home/node

quick=false
arguments=()
for argument in "$@"; do
    case $argument in
        --pgbouncer)
            [ -x /usr/sbin/pgbouncer ] || apt_install pgbouncer
            arguments+=(--pgbouncer /usr/sbin/pgbouncer)
            ;;
        --quick)
            quick=true
            arguments+=(--quick)
            ;;
        *) arguments+=("$argument") ;;
    esac
done

ensure_rust
bin=$(ensure_postgres)
python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3 python3-venv
have node || apt_install nodejs
have npm || apt_install npm
if ! $quick; then
    have pg_config || apt_install libpq-dev
    apt_install golang-go golang-github-lib-pq-dev golang-github-jackc-pgx-v4-dev \
        golang-github-jackc-pgconn-dev golang-github-jackc-pgmock-dev golang-github-stretchr-testify-dev
fi

# A stamp holds what was installed last, so that a second run does nothing.
if ! cmp -s "$suites/requirements.txt" "$venv/requirements.txt"; then
    say "installing drivers and frameworks into $venv"
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check -r "$suites/requirements.txt"
    cp "$suites/requirements.txt" "$venv/requirements.txt"
fi

if ! cmp -s "$suites/package-lock.json" "$node/installed.json"; then
    say "installing packages of Node into $node"
    mkdir -p "$node"
    cp "$suites/package.json" "$suites/package-lock.json" "$node/"
    (cd "$node" && npm ci --silent --no-audit --no-fund --legacy-peer-deps)
    cp "$suites/package-lock.json" "$node/installed.json"
fi

if [ -z "${PGWEIR:-}" ]; then
    say "building pgweir"
    cargo build --locked --manifest-path "$ROOT/Cargo.toml" --bin pgweir
    PGWEIR=${CARGO_TARGET_DIR:-$ROOT/target}/debug/pgweir
fi
exec "$venv/bin/python" "$suites/run.py" --pg-bin "$bin" --pgweir "$(realpath "$PGWEIR")" "${arguments[@]}"
