"""System calls per transaction of a pooler, by name, counted by strace.

Run it by syscalls.sh. strace slows the pooler down, so that more work may wait
when it looks: compare the poolers with each other, not with a run without it.
"""

import argparse
import collections
import os
import signal
import subprocess
import sys
import time

from lib import poolers
from lib.pgbench import label, protocol_for
from lib.stand import BenchError, Stand

LEAST = 0.005


def count(stand, target, protocol, clients, transactions):
    """{name of the system call: calls per transaction}"""
    path = os.path.join(stand.dir, "strace.txt")
    strace = subprocess.Popen(
        ["strace", "-f", "-c", "-U", "name,calls,errors", "-o", path, "-p", str(target.pid)],
        stderr=subprocess.PIPE, text=True, process_group=0,
    )
    stand.processes.append(strace)
    attached = strace.stderr.readline()
    if "attached" not in attached:
        raise BenchError(f"strace: {attached.strip()}")
    time.sleep(0.2)
    stand.run(
        f"{stand.bin}/pgbench", "-S", "-n", "-p", target.port, "-M", protocol_for(target, protocol),
        "-c", clients, "-j", 1, "-t", transactions // clients,
    )
    strace.send_signal(signal.SIGINT)
    strace.wait(timeout=10)
    counts = collections.Counter()
    with open(path) as f:
        for line in f:
            words = line.split()
            if len(words) >= 2 and words[1].isdigit():
                counts[words[0]] = int(words[1])
    return {name: n / (transactions // clients * clients) for name, n in counts.items()}


def main():
    parser = argparse.ArgumentParser(prog="benches/syscalls.sh", description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--transactions", type=int, default=20_000)
    parser.add_argument("--protocols", default="simple,extended,prepared")
    parser.add_argument("--workers", default="1", help="numbers of workers that pgweir is run with")
    args = parser.parse_args()
    candidates = poolers.candidates([int(n) for n in args.workers.split(",")])
    with Stand(scale=1) as stand, stand.poolers(candidates) as targets:
        for protocol in args.protocols.split(","):
            for target in targets:
                # The first run opens the server connections. What is left are
                # the clients' logins: some ten calls for each client.
                count(stand, target, protocol, args.clients, args.clients * 10)
                counts = count(stand, target, protocol, args.clients, args.transactions)
                rows = sorted(((c, n) for n, c in counts.items() if n != "total"), reverse=True)
                print(f"\n{protocol}, {args.clients} clients, {label(target, protocol)}: system calls per transaction")
                for calls, call in rows:
                    if calls >= LEAST:
                        print(f"  {calls:8.3f}  {call}")
                print(f"  {sum(c for c, _ in rows):8.3f}  in all", flush=True)


if __name__ == "__main__":
    try:
        main()
    except BenchError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
