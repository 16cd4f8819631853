# shellcheck shell=bash
# What every benchmark needs first. Source it: PG_BIN is set, and
# target/release/pgweir is up to date unless PGWEIR names another binary.
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"

have python3 || apt_install python3
PATH=$PATH:/usr/sbin
have "${PGBOUNCER:-pgbouncer}" || apt_install pgbouncer
PG_BIN=$(ensure_postgres)
export PATH PG_BIN
if [ -z "${PGWEIR:-}" ]; then
    ensure_rust
    say "building pgweir (release)"
    cargo build --quiet --release --locked --manifest-path "$ROOT/Cargo.toml" --bin pgweir
fi

# prepare_load: builds benches/load, sets LOAD and RELAY, and gets what certificates are made with.
prepare_load() {
    have openssl || apt_install openssl
    ensure_rust
    cargo build --quiet --release --locked --manifest-path "$ROOT/benches/load/Cargo.toml" --target-dir "$ROOT/target/load"
    LOAD="$ROOT/target/load/release/pgweir-load"
    RELAY="$ROOT/target/load/release/relay"
    export LOAD RELAY
}
