#!/usr/bin/env bash
# CPU per transaction of one pgweir (PGWEIR) to that of another (PGWEIR_OLD); --help lists
# the options.
set -euo pipefail
# shellcheck source=benches/prepare.sh
. "$(dirname "$0")/prepare.sh"
exec python3 -B "$ROOT/benches/paired.py" "$@"
