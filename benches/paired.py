"""CPU per transaction of one pgweir to that of another, in turn, with a confidence interval.

Run it by paired.sh. Many rounds of a second each, so that what slows the machine down for
a while meets both; what is shown is the median of the rounds' ratios and between which
ratios it lies for 19 of 20 samples drawn from them (bootstrap).
"""

import argparse
import random
import statistics

from lib import pgbench, poolers, rows
from lib.poolers import OLD
from lib.stand import BenchError, Stand, run_script

SAMPLES = 4_000


def interval(ratios):
    """Low and high end of what holds in 19 of 20 cases."""
    medians = sorted(statistics.median(random.choices(ratios, k=len(ratios))) for _ in range(SAMPLES))
    return medians[SAMPLES // 40], medians[-SAMPLES // 40]


def main():
    parser = argparse.ArgumentParser(prog="benches/paired.sh", description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--protocols", default="simple,extended,prepared")
    args = parser.parse_args()
    candidates = [candidate for candidate in poolers.candidates([1]) if candidate.is_pgweir]
    if len(candidates) < 2:
        raise BenchError("PGWEIR_OLD is to name the other binary")
    with Stand(scale=10) as stand, stand.poolers(candidates) as targets:
        for target in targets:
            pgbench.warm_up(stand, target)
        print("| protocol | CPU to PGWEIR_OLD | 19 of 20 | tps to PGWEIR_OLD |\n|---|---:|---|---:|")
        for protocol in args.protocols.split(","):
            found = rows.in_turn(
                targets, args.rounds, lambda target: pgbench.measure(stand, target, protocol, args.clients, 1)
            )
            [cpu], [tps] = (rows.ratios(rows.pick(found, what), OLD).values() for what in ("cpu_us", "tps"))
            low, high = interval(cpu)
            cpu, tps = statistics.median(cpu), statistics.median(tps)
            print(f"| {protocol} | {cpu:.3f} | {low:.3f} to {high:.3f} | {tps:.3f} |", flush=True)


if __name__ == "__main__":
    run_script(main)
