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
#
# Some 1,500 tests share the machine with each other and with what else it does, and
# some have to take time as it comes. Up to three that fail are therefore run once
# more, one at a time with nothing beside them; the summary names each of them and what it
# then did. RETRIES=0: none is.
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
again=$(mktemp)
trap 'rm -f "$log" "$again"' EXIT
summary=()
status=0

# run_tests BIN NAME ARGUMENTS...: one run of cargo, and its line of the summary.
run_tests() {
    local bin=$1 name=$2 verdict counts failure
    shift 2
    say "testing on $name ($bin)"
    if (cd "$ROOT" && PG_BIN=$bin cargo test --locked --no-fail-fast "$@") 2>&1 | tee "$log"; then
        verdict=ok
    elif alone "$bin" "$@"; then
        verdict="ok at the second attempt"
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

# alone BIN ARGUMENTS...: whether each test that has failed passes by itself. Nothing else
# must have failed, such as a build, or a test that took its process with it.
alone() {
    local bin=$1 failed targets=() tests=()
    shift
    mapfile -t tests < <(sed -nE 's/^test (.*) \.\.\. FAILED$/\1/p' "$log")
    failed=$(awk '/^test result:/ { failed += $6 } END { print failed + 0 }' "$log")
    if [ "${#tests[@]}" -eq 0 ] || [ "${#tests[@]}" -gt "${RETRIES:-3}" ] || [ "${#tests[@]}" -ne "$failed" ] ||
        [ "$(grep -c '^error: test failed' "$log")" -ne "$(grep -c '^test result: FAILED' "$log")" ]; then
        return 1
    fi
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        targets+=("$1")
        shift
    done
    say "once more, one at a time: ${tests[*]}"
    (cd "$ROOT" && PG_BIN=$bin cargo test --locked --no-fail-fast "${targets[@]}" -- --exact --test-threads 1 "${tests[@]}") 2>&1 |
        tee "$again" || return 1
    # Each of them has run.
    [ "$(grep -cE '^test .* \.\.\. ok$' "$again")" -ge "${#tests[@]}" ]
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
