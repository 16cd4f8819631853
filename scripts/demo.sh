#!/usr/bin/env bash
# Shows pgweir at work: installs what is missing, builds, and runs `pgweir demo`
# with the arguments given here (--once ends by itself; --help lists them all).
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

ensure_rust
PG_BIN=$(ensure_postgres)
export PG_BIN
say "building pgweir (release)"
cargo build --release --locked --manifest-path "$ROOT/Cargo.toml" --bin pgweir
exec "${CARGO_TARGET_DIR:-$ROOT/target}/release/pgweir" demo "$@"
