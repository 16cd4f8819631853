#!/usr/bin/env bash
# Runs the test suites of drivers and frameworks directly and through pgweir in
# transaction mode, and compares them test by test; see docs/drivers.md.
#
#   scripts/test-drivers.sh [--pgbouncer] [SUITE...]      all suites, unless named
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

arguments=()
for argument in "$@"; do
    case $argument in
        --pgbouncer)
            [ -x /usr/sbin/pgbouncer ] || apt_install pgbouncer
            arguments+=(--pgbouncer /usr/sbin/pgbouncer)
            ;;
        *) arguments+=("$argument") ;;
    esac
done

ensure_rust
bin=$(ensure_postgres)
python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3 python3-venv
have pg_config || apt_install libpq-dev
apt_install golang-go golang-github-lib-pq-dev golang-github-jackc-pgx-v4-dev \
    golang-github-jackc-pgconn-dev golang-github-jackc-pgmock-dev golang-github-stretchr-testify-dev

# A stamp holds what was installed last, so that a second run does nothing.
if ! cmp -s "$suites/requirements.txt" "$venv/requirements.txt"; then
    say "installing drivers and frameworks into $venv"
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check -r "$suites/requirements.txt"
    cp "$suites/requirements.txt" "$venv/requirements.txt"
fi

if [ -z "${PGWEIR:-}" ]; then
    say "building pgweir"
    cargo build --locked --manifest-path "$ROOT/Cargo.toml" --bin pgweir
    PGWEIR=${CARGO_TARGET_DIR:-$ROOT/target}/debug/pgweir
fi
exec "$venv/bin/python" "$suites/run.py" --pg-bin "$bin" --pgweir "$(realpath "$PGWEIR")" "${arguments[@]}"
