#!/usr/bin/env bash
# PgBouncer and pgweir side by side, and PostgreSQL alone; --help lists the options, which
# may also come as PARTS, ROUNDS, SECONDS, WORKERS, CLIENTS and PROTOCOLS.
# PGWEIR=<file> takes another binary than target/release/pgweir, and
# PGWEIR_OLD=<file> adds one more, so that two commits meet in one run.
# PGBOUNCER=<file> takes another PgBouncer than the distribution's.
set -euo pipefail
# bash gives SECONDS a life of its own: taken before anything else.
if [ "$SECONDS" -gt 0 ]; then export BENCH_SECONDS=$SECONDS; fi
BENCH_COMMAND="$0 $*"
export BENCH_COMMAND
case " $* " in
*" --help "* | *" -h "* | *" --readme"*) ;;
*)
    # shellcheck source=benches/prepare.sh
    . "$(dirname "$0")/prepare.sh"
    prepare_load
    ;;
esac
exec python3 -B "$(dirname "$0")/compare.py" "$@"
