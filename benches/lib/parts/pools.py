"""200 pools with 50 idle clients each: what a pooler does while nobody does anything."""

import time

from .. import load, rows
from ..poolers import Setup
from ..rows import Row

POOLS, CLIENTS_OF_EACH = 200, 50
# Longer than query_wait_notify, for which each pool wakes up once after somebody has waited.
SETTLE = 6


def run(bench):
    setup = Setup(databases=bench.many(POOLS))
    clients = setup.databases * CLIENTS_OF_EACH

    def measure(target):
        with load.idle(bench.stand, target, clients, "--databases", setup.databases):
            time.sleep(bench.seconds(SETTLE))
            cpu, slept, begin = target.cpu_seconds(), target.wake_ups(), time.monotonic()
            time.sleep(bench.seconds(10))
            passed = time.monotonic() - begin
            return {
                "percent": (target.cpu_seconds() - cpu) / passed * 100,
                "wake_ups": (target.wake_ups() - slept) / passed,
            }

    cell = {}
    # One after the other: each has a server connection for each pool.
    for candidate in bench.candidates:
        with bench.poolers(setup, [candidate]) as targets:
            cell |= rows.in_turn(targets, 1, measure) if targets else {}
    percent, wake_ups = rows.pick(cell, "percent"), rows.pick(cell, "wake_ups")
    what = f"{setup.databases} pools × {CLIENTS_OF_EACH} idle clients"
    return [
        Row(f"{what}: CPU, % of a core", ("at most", 0.1), percent, "{:.3f} %", percent, "{:.3f} %"),
        Row(f"{what}: wake-ups per second", None, wake_ups, "{:.1f}", rows.to_pgbouncer(wake_ups)),
    ]
