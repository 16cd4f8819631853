#!/usr/bin/env bash
# System calls per transaction of pgweir and PgBouncer; --help lists the
# options. PGWEIR and PGWEIR_OLD choose binaries, as for compare.sh.
set -euo pipefail
# shellcheck source=benches/prepare.sh
. "$(dirname "$0")/prepare.sh"
have strace || apt_install strace
exec python3 -B "$ROOT/benches/syscalls.py" "$@"
