"""System calls of a pooler, counted by strace: per transaction by name, per pipeline, and per megabyte of a result.

Run it by syscalls.sh. strace slows the pooler down, so that more work may wait
when it looks: compare the poolers with each other, not with a run without it.
"""

import argparse
import collections
import contextlib
import os
import re
import signal
import subprocess
import time

from lib import poolers
from lib.pgbench import label, protocol_for
from lib.stand import BenchError, Stand, run_script

LEAST = 0.005
STATEMENT = "SELECT abalance FROM pgbench_accounts WHERE aid = 1;"
READS, WRITES = ("recvfrom", "recvmsg", "read", "readv"), ("sendto", "sendmsg", "write", "writev")
RESULT = "SELECT repeat('x', 999) FROM generate_series(1, %d)"


@contextlib.contextmanager
def strace(stand, target, *options):
    """Follows the target for the length of a with block; gives the path of what it saw."""
    path = os.path.join(stand.dir, "strace.txt")
    process = subprocess.Popen(
        ["strace", "-f", *options, "-o", path, "-p", str(target.pid)],
        stderr=subprocess.PIPE, text=True, process_group=0,
    )
    stand.processes.append(process)
    attached = process.stderr.readline()
    if "attached" not in attached:
        raise BenchError(f"strace: {attached.strip()}")
    time.sleep(0.2)
    yield path
    process.send_signal(signal.SIGINT)
    process.wait(timeout=10)


def count(stand, target, transactions, *options):
    """{name of the system call: calls per transaction} of a run of pgbench"""
    with strace(stand, target, "-c", "-U", "name,calls,errors") as path:
        stand.run(f"{stand.bin}/pgbench", "-n", "-p", target.port, "-j", 1, *options)
    counts = collections.Counter()
    with open(path) as f:
        for line in f:
            words = line.split()
            if len(words) >= 2 and words[1].isdigit() and words[0] != "total":
                counts[words[0]] = int(words[1])
    return {name: n / transactions for name, n in counts.items()}


def transactions(stand, targets, args):
    for protocol in args.protocols.split(","):
        for target in targets:
            def run(each):
                options = ["-S", "-M", protocol_for(target, protocol), "-c", args.clients, "-t", each]
                return count(stand, target, each * args.clients, *options)

            # The first run opens the server connections. What is left are
            # the clients' logins: some ten calls for each client.
            run(10)
            rows = sorted(((c, n) for n, c in run(args.transactions // args.clients).items()), reverse=True)
            print(f"\n{protocol}, {args.clients} clients, {label(target, protocol)}: system calls per transaction")
            for calls, call in rows:
                if calls >= LEAST:
                    print(f"  {calls:8.3f}  {call}")
            print(f"  {sum(c for c, _ in rows):8.3f}  in all", flush=True)


def pipelines(stand, targets, args):
    """One client, so that nothing is read or written for two at once."""
    each = min(args.transactions, 2_000)
    print("\nextended, 1 client, one pipeline with one Sync: system calls per pipeline")
    for target in targets:
        for statements in (1, 5):
            text = "\n".join(["\\startpipeline", *[STATEMENT] * statements, "\\endpipeline"]) + "\n"
            script = stand.write(f"pipeline{statements}.sql", text)
            options = ["-M", "extended", "-c", 1, "-f", script]
            count(stand, target, 10, *options, "-t", 10)
            counts = count(stand, target, each, *options, "-t", each)
            reads, writes = (sum(counts.get(n, 0) for n in names) for names in (READS, WRITES))
            print(
                f"  {sum(counts.values()):8.3f}  {reads:.3f} reads, {writes:.3f} writes: "
                f"{statements} statements, {target.name}", flush=True,
            )


def results(stand, targets, args):
    lines = 20_000
    print(f"\na result of {lines // 1000} MB: bytes per call")
    for target in targets:
        stand.psql(target.port, "SELECT 1")
        calls = ",".join(READS + WRITES)
        with strace(stand, target, "-s", "0", "-yy", "-e", f"trace={calls}") as path:
            with open(os.devnull, "w") as nowhere:
                stand.psql(target.port, RESULT % lines, stdout=nowhere)
        read, written = [], []
        line_of = re.compile(r"(\w+)\(\d+<TCP:\[[^]]*?:(\d+)->.*= (\d+)$")
        with open(path) as f:
            for line in f:
                found = line_of.search(line)
                if not found:
                    continue
                call, port, size = found[1], int(found[2]), int(found[3])
                if port == target.port and call in WRITES:
                    written.append(size)
                elif port != target.port and call in READS:
                    read.append(size)
        if sum(written) < lines * 1_000:
            raise BenchError(f"{target.name}: strace saw {sum(written)} bytes only")
        print(
            f"  {sum(read) / len(read):8,.0f}  from the server ({len(read)} reads), "
            f"{sum(written) / len(written):,.0f} to the client ({len(written)} writes), {target.name}", flush=True,
        )


PARTS = {"transactions": transactions, "pipelines": pipelines, "results": results}


def main():
    parser = argparse.ArgumentParser(prog="benches/syscalls.sh", description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default=",".join(PARTS), help="any of the default: %(default)s")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--transactions", type=int, default=20_000)
    parser.add_argument("--protocols", default="simple,extended,prepared")
    parser.add_argument("--workers", default="1", help="numbers of workers that pgweir is run with")
    args = parser.parse_args()
    unknown = set(args.parts.split(",")) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}")
    candidates = poolers.candidates([int(n) for n in args.workers.split(",")])
    with Stand(scale=1) as stand, stand.poolers(candidates) as targets:
        for part in args.parts.split(","):
            PARTS[part](stand, targets, args)


if __name__ == "__main__":
    run_script(main)
