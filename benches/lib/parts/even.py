"""40 clients over 40 server connections: nobody has to wait for one."""

from .. import pgbench, rows
from ..poolers import Setup
from ..rows import Row

CLIENTS = 40


def run(bench):
    with bench.poolers(Setup(pool_size=CLIENTS), bench.candidates + bench.floor) as targets:
        bench.warm_up(targets, clients=CLIENTS)
        cell = rows.in_turn(
            targets, bench.rounds(5),
            lambda target: pgbench.measure(bench.stand, target, "simple", CLIENTS, bench.seconds(3)),
        )
        bench.detail("simple", CLIENTS, targets, cell)
    found = []
    for name in ("p50", "p99"):
        values = rows.pick(cell, f"{name}_ms")
        what = f"{name} latency, {CLIENTS} clients over {CLIENTS} connections"
        found.append(Row(what, ("at most", 1.0), values, "{:.2f} ms", rows.to_pgbouncer(values)))
    return found
