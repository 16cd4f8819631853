"""pgbench -S over 20 server connections: CPU per transaction, throughput and added latency."""

from .. import pgbench, rows
from ..rows import Row

CPU_GOALS = {32: {"simple": 0.92, "extended": 0.92, "prepared": 1.0}, 200: dict.fromkeys(("simple", "extended", "prepared"), 0.82)}
TPS_GOALS = {"simple": 0.90, "extended": 0.95, "prepared": 0.85}


def throughput(bench):
    found = []
    with bench.poolers(candidates=bench.candidates + bench.floor) as started:
        bench.warm_up(started, protocols=bench.protocols)
        for protocol in bench.protocols:
            targets = [target for target in started if pgbench.understands(target, protocol)]
            for clients in bench.clients:
                # At 32 clients PostgreSQL alone is measured as well.
                measured = ([bench.stand.direct] if clients == 32 else []) + targets
                cell = rows.in_turn(
                    measured, bench.rounds(5),
                    lambda target: pgbench.measure(bench.stand, target, protocol, clients, bench.seconds(4)),
                )
                bench.detail(protocol, clients, measured, cell)
                limit = CPU_GOALS.get(clients, {}).get(protocol)
                cpu = {name: runs for name, runs in rows.pick(cell, "cpu_us").items() if name != rows.DIRECT}
                what = f"CPU per transaction, -S, {clients} clients, {protocol}{baseline(targets, protocol)}"
                found.append(Row(what, limit and ("at most", limit), cpu, "{:.1f} µs", rows.to_pgbouncer(cpu)))
                if clients == 32:
                    tps = rows.pick(cell, "tps")
                    what = f"tps to a direct connection, {clients} clients, {protocol}{baseline(targets, protocol)}"
                    goal = "at least", TPS_GOALS[protocol]
                    found.append(Row(what, goal, tps, "{:,.0f}", rows.ratios(tps, rows.DIRECT)))
    return found


def baseline(targets, protocol):
    """Says so where PgBouncer is asked for another protocol."""
    base = next((t for t in targets if t.name == rows.PGBOUNCER), None)
    return f" (PgBouncer: {pgbench.protocol_for(base, protocol)})" if base and pgbench.protocol_for(base, protocol) != protocol else ""


def alone(bench):
    """What a pooler adds to the mean latency of a client that has it for itself."""
    found = []
    with bench.poolers(candidates=bench.candidates + bench.floor) as started:
        bench.warm_up(started)
        for protocol in bench.protocols:
            targets = [target for target in started if pgbench.understands(target, protocol)]
            measured = [bench.stand.direct, *targets]
            cell = rows.in_turn(
                measured, bench.rounds(5),
                lambda target: pgbench.measure(bench.stand, target, protocol, 1, bench.seconds(3)),
            )
            bench.detail(protocol, 1, measured, cell)
            mean = rows.pick(cell, "mean_ms")
            added = {
                name: [(run - direct) * 1000 for run, direct in zip(runs, mean[rows.DIRECT])]
                for name, runs in mean.items() if name != rows.DIRECT
            }
            what = f"latency added to a direct connection, 1 client, {protocol}{baseline(targets, protocol)}"
            found.append(Row(what, ("at most", 1.0), added, "{:.0f} µs", rows.to_pgbouncer(added)))
    return found
