#!/usr/bin/env bash
# PostgreSQL, PgBouncer and pgweir side by side; --help lists the options, which
# may also come as ROUNDS, SECONDS, CLIENTS, PROTOCOLS, ONLY and IDLE.
# PGWEIR=<file> takes another binary than target/release/pgweir, and
# PGWEIR_OLD=<file> adds one more, so that two commits meet in one run.
set -euo pipefail
# bash gives SECONDS a life of its own: taken before anything else.
if [ "$SECONDS" -gt 0 ]; then export BENCH_SECONDS=$SECONDS; fi
BENCH_COMMAND="$0 $*"
export BENCH_COMMAND
# shellcheck source=benches/prepare.sh
. "$(dirname "$0")/prepare.sh"
exec python3 "$ROOT/benches/compare.py" "$@"
