"""Side by side: PgBouncer and pgweir (and PostgreSQL alone) under the same load, in turn.

Run it by compare.sh. docs/performance.md tells what is measured and how to read it.
"""

import argparse
import os
import time

from lib import pgbench, poolers, report, rows
from lib.parts import PARTS
from lib.poolers import Setup
from lib.stand import Stand, note, run_script

SCALE = 10


def arguments():
    env = os.environ.get
    parser = argparse.ArgumentParser(prog="benches/compare.sh", description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default=env("PARTS", ",".join(PARTS)), help=f"of {','.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=env("ROUNDS"), help="measurements of each kind, for all parts")
    parser.add_argument("--seconds", type=int, default=env("BENCH_SECONDS"), help="length of each, for all parts")
    parser.add_argument("--workers", default=env("WORKERS", "1,2"), help="numbers of workers that pgweir is run with")
    parser.add_argument("--clients", default=env("CLIENTS", "32,200"), help="in the part transactions")
    parser.add_argument("--protocols", default=env("PROTOCOLS", "simple,extended,prepared"))
    parser.add_argument("--floor", action="store_true", help="in transactions, alone and even a bare relay as well, the least that a pooler can be")
    parser.add_argument("--io-uring", default="auto", choices=["auto", "on", "off"], help="pgweir's setting io_uring")
    parser.add_argument("--quick", action="store_true", help="one round of a second, a tenth of the clients: shows only that it runs")
    parser.add_argument("--save", metavar="NAME", help="write benches/results/<date>-<NAME>.md as well")
    parser.add_argument("--readme", metavar="FILE", help="measure nothing: print a results file's table in short")
    args = parser.parse_args()
    for name in ("parts", "workers", "clients", "protocols"):
        setattr(args, name, getattr(args, name).split(","))
    unknown = [p for p in args.parts if p not in PARTS]
    if unknown:
        parser.error(f"--parts: there is no {unknown[0]}")
    args.workers, args.clients = ([int(n) for n in numbers] for numbers in (args.workers, args.clients))
    return args


class Bench:
    """What the parts need: the stand, the candidates, and how long and how large."""

    def __init__(self, stand, args):
        self.stand, self.args = stand, args
        self.candidates = poolers.candidates(args.workers, args.io_uring)
        self.floor = poolers.relays() if args.floor else []
        self.protocols, self.clients = args.protocols, args.clients
        self.rows_of_accounts = SCALE * 100_000
        self.details, self.remarks = [], []

    def judged(self):
        return [candidate.name for candidate in self.candidates if candidate.is_pgweir]

    def rounds(self, usual):
        return int(self.args.rounds or (1 if self.args.quick else usual))

    def seconds(self, usual):
        return int(self.args.seconds or (1 if self.args.quick else usual))

    def many(self, number):
        return number // 10 if self.args.quick else number

    def poolers(self, setup=Setup(), candidates=None):
        return self.stand.poolers(candidates or self.candidates, setup)

    def warm_up(self, targets, **more):
        for target in targets:
            # It has its connections from the start, and counts nothing.
            if target.name not in poolers.RELAYS:
                pgbench.warm_up(self.stand, target, **more)

    def detail(self, protocol, clients, targets, cell):
        self.details += report.details(protocol, clients, targets, cell)

    def remark(self, text):
        self.remarks.append(text)

    median = staticmethod(report.median)


def main():
    args = arguments()
    if args.readme:
        print("\n".join(report.in_short(args.readme)))
        return
    begin, load_before = time.monotonic(), os.getloadavg()[0]
    found = []
    with Stand(SCALE) as stand:
        bench = Bench(stand, args)
        for part in args.parts:
            note(f"{part}, after {time.monotonic() - begin:.0f} s")
            for row in PARTS[part](bench):
                found.append(row)
                for line in rows.table([row], bench.judged())[2:]:
                    note(line)
        text = report.whole(bench, found, load_before, time.monotonic() - begin)
    print(text)
    if args.save:
        note(f"written to {report.save(args.save, text)}")


if __name__ == "__main__":
    run_script(main)
