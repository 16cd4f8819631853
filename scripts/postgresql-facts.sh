#!/usr/bin/env bash
# Writes src/sql/classify/postgresql.txt: what PostgreSQL brings along, the
# worst of every version to be had here (15, 16, 18). Run it for a new version.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
chmod 755 "$dir"

as_server() {
    if is_root; then
        setpriv --reuid=nobody --regid=nogroup --clear-groups env -i LC_ALL=C.UTF-8 "$@"
    else
        "$@"
    fi
}

facts() {
    local bin=$1 home
    home=$(mktemp -d "$dir/XXXX")
    is_root && chown nobody "$home"
    (
        cd "$home"
        as_server "$bin/initdb" -U postgres -A trust -N -D "$home/data" >/dev/null
        as_server "$bin/pg_ctl" -D "$home/data" -w -l "$home/log" \
            -o "-c listen_addresses= -c fsync=off -k $home" start >/dev/null
        psql -X -q -t -A -F ' ' -v ON_ERROR_STOP=1 -h "$home" -U postgres postgres \
            -f "$ROOT/scripts/postgresql-facts.sql" || true
        as_server "$bin/pg_ctl" -D "$home/data" -w -m immediate stop >/dev/null
    )
}

for bin in /usr/lib/postgresql/*/bin; do
    [ ! -x "$bin/postgres" ] || facts "$bin" >>"$dir/facts"
done
for major in 16 18; do
    facts "$("$ROOT/scripts/postgres-from-wheel.sh" "$major")" >>"$dir/facts"
done

python3 - "$dir/facts" >"$ROOT/src/sql/classify/postgresql.txt" <<'PY'
import sys

facts = {}
for line in open(sys.argv[1]):
    kind, name, about = line.rstrip("\n").split(" ")
    facts.setdefault((kind, name), set()).update(about.split(","))
for (kind, name), about in sorted(facts.items()):
    about = {max(about, key="isv".index)} if kind in "fo" else about - {""}
    print(" ".join([kind, name, *sorted(about)]))
PY
say "$(wc -l <"$ROOT/src/sql/classify/postgresql.txt") facts"
