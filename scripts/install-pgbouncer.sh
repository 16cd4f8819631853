#!/usr/bin/env bash
# Puts a newer PgBouncer than the distribution's into a folder, without touching
# the system and without root: Debian's package of another suite, with the loader and the
# libraries that it was built for. Prints the program, a script that starts it with these.
# Does nothing when it is there already.
#
#   scripts/install-pgbouncer.sh [SUITE [DIRECTORY]]
#
# SUITE is trixie (1.24, the default) or forky, DIRECTORY target/pgbouncer/SUITE. The
# packages come from the mirror that apt is set up with, and apt checks their signatures
# with the keys of the package debian-archive-keyring.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

suite=${1:-trixie}
dir=${2:-$ROOT/target/pgbouncer/$suite}
keys=/usr/share/keyrings/debian-archive-keyring.gpg

if [ ! -x "$dir/pgbouncer" ]; then
    have apt-get || die "there is no apt-get: the packages are Debian's"
    [ -e "$keys" ] || die "$keys is missing (package debian-archive-keyring)"
    # Of the archive itself, not of its security updates.
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
    [ -n "$mirror" ] || die "apt has read no list of Debian's packages yet (apt-get update)"

    mkdir -p "$dir"
    dir=$(cd "$dir" && pwd)
    work=$(mktemp -d "$dir/apt.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    : >"$work/status"
    echo "deb [signed-by=$keys] $mirror $suite main" >"$work/sources.list"
    # What the machine says of proxies and the like stays as it is. Its hooks would clean
    # its own cache. Nothing counts as installed, so that all libraries are fetched; and
    # apt's own user could not write here.
    cat >"$work/apt.conf" <<CONF
#clear APT::Update;
#clear DPkg;
Dir::State "$work";
Dir::State::status "$work/status";
Dir::Cache "$work/cache";
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
APT::Get::Assume-Yes "true";
Debug::NoLocking "true";
CONF
    # with_apt PROGRAM ARGUMENTS...: one of apt's programs, within this folder.
    with_apt() { "$1" --config-file "$work/apt.conf" -qq "${@:2}"; }

    say "fetching PgBouncer of Debian $suite and its libraries (10 MB)"
    with_apt apt-get update >&2
    # Its other dependencies are programs that manage a system.
    libraries=$(with_apt apt-cache depends pgbouncer | sed -n 's/^ *Depends: \(lib[^ ]*\)$/\1/p')
    [ -n "$libraries" ] || die "$suite has no pgbouncer, or it needs nothing"
    # shellcheck disable=SC2086 # a list of package names
    with_apt apt-get install --download-only $libraries >&2
    (cd "$work/cache/archives" && with_apt apt-get download pgbouncer >&2)
    rm -rf "$dir/root"
    for package in "$work"/cache/archives/*.deb; do
        dpkg-deb --extract "$package" "$dir/root"
    done

    loader=$(find "$dir/root" -name 'ld-linux*.so.*' -type f -printf '%P\n')
    [ -n "$loader" ] || die "$suite's libc6 has no loader"
    cat >"$work/pgbouncer" <<WRAPPER
#!/bin/sh
root=\$(dirname "\$(readlink -f "\$0")")/root
exec "\$root/$loader" --argv0 "\$0" --library-path "\$root/${loader%/*}" "\$root/usr/sbin/pgbouncer" "\$@"
WRAPPER
    chmod +x "$work/pgbouncer"
    mv "$work/pgbouncer" "$dir/pgbouncer"
fi
"$dir/pgbouncer" --version | sed -n 1p >&2
echo "$dir/pgbouncer"
