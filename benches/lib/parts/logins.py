"""pgbench -C: a connection for each transaction."""

from .. import pgbench, rows
from ..poolers import Setup
from ..rows import Row

KINDS = {
    "trust": Setup(),
    "SCRAM": Setup(auth_type="scram-sha-256"),
    "TLS": Setup(tls=True),
}
CLIENTS = 8


def run(bench):
    found = []
    for kind, setup in KINDS.items():
        with bench.poolers(setup) as targets:
            bench.warm_up(targets, tls=setup.tls)
            cell = rows.in_turn(
                targets, bench.rounds(3),
                lambda target: pgbench.measure(
                    bench.stand, target, "simple", CLIENTS, bench.seconds(3), "-C", tls=setup.tls,
                ),
            )
            tps, cpu = rows.pick(cell, "tps"), rows.pick(cell, "cpu_us")
            what = f"tps with a new connection each (pgbench -C), {kind}"
            found.append(Row(what, ("at least", 1.3), tps, "{:,.0f}", rows.to_pgbouncer(tps)))
            what = f"CPU per login and transaction (pgbench -C), {kind}"
            found.append(Row(what, None, cpu, "{:.0f} µs", rows.to_pgbouncer(cpu)))
    return found
