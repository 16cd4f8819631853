"""TLS logins and nothing else, from a client that is cheaper than pgbench: two workers against one."""

from .. import load, rows
from ..poolers import Setup
from ..rows import Row, short

CLIENTS = 16


def run(bench):
    with bench.poolers(Setup(tls=True)) as targets:
        cell = rows.in_turn(
            targets, bench.rounds(3),
            lambda target: load.measure(bench.stand, target, "login", CLIENTS, bench.seconds(4), tls=True),
        )
    logins = rows.pick(cell, "per_second")
    one, two = (f"pgweir workers={n}" for n in (1, 2))
    speed_up = {two: rows.ratios(logins, one)[two]} if one in logins and two in logins else {}
    cpu = rows.pick(cell, "cpu_us")
    own = "; ".join(f"{short(name)} {bench.median(runs):.0f} µs" for name, runs in rows.pick(cell, "load_cpu_us").items())
    bench.remark(f"CPU of the load generator per TLS login, beside the pooler's: {own}")
    return [
        Row("TLS logins per second, 2 workers against 1", ("at least", 1.7), logins, "{:,.0f}", speed_up),
        Row("CPU per TLS login", None, cpu, "{:.0f} µs", rows.to_pgbouncer(cpu)),
    ]
