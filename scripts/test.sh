#!/usr/bin/env bash
# Installs what the tests need and runs every test.
#
#   scripts/test.sh [ARGUMENTS FOR cargo test...]
#   scripts/test.sh --matrix [...]   the same on each PostgreSQL to be had (15, 16, 18)
#
# Without arguments the quick suites of drivers are run as well.
#
# PG_BIN=<dir> chooses one PostgreSQL. At the end stands one line per
# PostgreSQL with the number of tests that passed, failed and were ignored.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

matrix=false
if [ "${1:-}" = --matrix ]; then
    matrix=true
    shift
fi

ensure_rust
bin=$(ensure_postgres)
PG_BIN=$bin "$ROOT/scripts/install-test-deps.sh"
bins=("$bin")
if $matrix; then
    bins=()
    for dir in /usr/lib/postgresql/*/bin; do
        [ ! -x "$dir/postgres" ] || bins+=("$dir")
    done
    for major in 16 18; do
        bin=$("$ROOT/scripts/postgres-from-wheel.sh" "$major")
        bins+=("$bin")
    done
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
summary=()
status=0

# run_tests BIN NAME ARGUMENTS...: one run of cargo, and its line of the summary.
run_tests() {
    local bin=$1 name=$2 verdict counts failure
    shift 2
    say "testing on $name ($bin)"
    if (cd "$ROOT" && PG_BIN=$bin cargo test --locked --no-fail-fast "$@") 2>&1 | tee "$log"; then
        verdict=ok
    else
        verdict=FAILED
        status=1
    fi
    counts=$(awk '/^test result:/ { passed += $4; failed += $6; ignored += $8 }
        END { printf "%d passed, %d failed, %d ignored", passed, failed, ignored }' "$log")
    # A run without a single test has shown nothing.
    case $counts in "0 passed"*) verdict=FAILED status=1 ;; esac
    summary+=("$verdict: $name: $counts")
    while IFS= read -r failure; do
        summary+=("    $failure")
    done < <(grep -E '^test .* \.\.\. FAILED$' "$log")
}

for bin in "${bins[@]}"; do
    run_tests "$bin" "$("$bin/postgres" --version)" "$@"
done
if [ $# -eq 0 ]; then
    # What depends most on the kind of configuration.
    PGWEIR_TEST_CONFIG=ini run_tests "${bins[0]}" "a pgbouncer.ini" --test postgres -- \
        auth:: parameters:: prepared:: refusals:: wire::
    say "testing with suites of drivers"
    if PG_BIN=${bins[0]} "$ROOT/scripts/test-drivers.sh" --quick; then
        summary+=("ok: suites of drivers")
    else
        summary+=("FAILED: suites of drivers (docs/drivers.md)")
        status=1
    fi
    # A second build, of the program alone, for what the first leaves out.
    run_tests "${bins[0]}" "LDAP and PAM" --features ldap,pam --test entrusted
fi

echo
echo "summary"
printf '  %s\n' "${summary[@]}"
exit $status
