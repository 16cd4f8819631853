#!/usr/bin/env bash
# Instructions (user mode) per transaction of pgweir and PgBouncer; --help lists the
# options. PGWEIR and PGWEIR_OLD choose binaries, as for compare.sh.
set -euo pipefail
# shellcheck source=benches/prepare.sh
. "$(dirname "$0")/prepare.sh"
case " $* " in *" --floor "*) prepare_load ;; esac
have valgrind || apt_install valgrind
exec python3 -B "$ROOT/benches/callgrind.py" "$@"
