"""Resident memory that clients add which have logged in, run a query and wait."""

import time

from .. import load, rows
from ..poolers import Setup
from ..rows import Row

PLAIN = 5_000, 10_000
TLS = 10_000
TLS_BOUND = 16_000


def run(bench):
    found = []
    for count in map(bench.many, PLAIN):
        weights = weigh(bench, count, Setup())
        what = f"memory per idle client, {count:,} clients"
        found.append(Row(what, ("at most", 0.8), weights, "{:,.0f} bytes", rows.to_pgbouncer(weights)))
    weights = weigh(bench, bench.many(TLS), Setup(tls=True))
    what = f"memory per idle TLS client, {bench.many(TLS):,} clients, bytes"
    found.append(Row(what, ("at most", TLS_BOUND), weights, "{:,.0f} bytes", weights, "{:,.0f}"))
    return found


def weigh(bench, count, setup):
    """{name: [bytes per client]}; each pooler is a fresh process, because memory once used stays."""
    def measure(target):
        # What the first clients need, server connections included, is not the clients' own.
        with load.idle(bench.stand, target, setup.pool_size, tls=setup.tls):
            before = target.resident_bytes()
            with load.idle(bench.stand, target, count, tls=setup.tls):
                time.sleep(bench.seconds(1))
                return {"bytes": (target.resident_bytes() - before) / count}

    with bench.poolers(setup) as targets:
        return rows.pick(rows.in_turn(targets, 1, measure), "bytes")
