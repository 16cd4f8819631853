"""Instructions per transaction of a pooler, counted by valgrind's callgrind.

Run it by callgrind.sh. Instructions in user mode only: nothing that the kernel
does is in it, and no clock; therefore the number hardly wobbles.
"""

import argparse
import os
import re
import signal

from lib import poolers
from lib.pgbench import label, protocol_for, understands
from lib.stand import BenchError, Stand, run_script


def instructions(stand, candidate, protocol, clients, transactions):
    """Name and instructions of a whole life: start, one pgbench run, stop."""
    log, out = (os.path.join(stand.dir, n) for n in ("valgrind.log", "callgrind.out"))
    for path in (log, out):
        # The pooler may run as another user than we do.
        open(path, "w").close()
        stand.own(path)
    before = ["valgrind", "--tool=callgrind", f"--log-file={log}", f"--callgrind-out-file={out}"]
    target = stand.start(candidate, before=before)
    stand.run(
        f"{stand.bin}/pgbench", "-S", "-n", "-p", target.port, "-M", protocol_for(target, protocol),
        "-c", clients, "-j", 1, "-t", transactions // clients,
    )
    target.process.send_signal(signal.SIGINT)
    target.process.wait(timeout=60)
    with open(log) as f:
        collected = re.search(r"Collected : (\d+)", f.read())
    if not collected:
        raise BenchError(f"{candidate.name}: callgrind collected nothing")
    return label(target, protocol), int(collected[1])


def main():
    parser = argparse.ArgumentParser(prog="benches/callgrind.sh", description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--transactions", type=int, default=3_200)
    parser.add_argument("--protocols", default="simple,extended,prepared")
    parser.add_argument("--floor", action="store_true", help="the bare relay of benches/load as well")
    args = parser.parse_args()
    with Stand(scale=1) as stand:
        print("| protocol | through | instructions per transaction |\n|---|---|---:|")
        for protocol in args.protocols.split(","):
            for candidate in poolers.candidates([1]) + (poolers.relays()[:1] if args.floor else []):
                if not understands(candidate, protocol):
                    continue
                run = (stand, candidate, protocol, args.clients)
                # The difference of two lives leaves out start, logins and stop.
                _, short = instructions(*run, args.transactions // 4)
                through, long = instructions(*run, args.transactions)
                each = (long - short) / (args.transactions - args.transactions // 4)
                print(f"| {protocol} | {through} | {each:,.0f} |", flush=True)


if __name__ == "__main__":
    run_script(main)
