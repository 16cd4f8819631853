"""5,000 active clients over 20 server connections, each against itself with 32."""

from .. import load, rows
from ..rows import Row

FEW, MANY = 32, 5_000


def run(bench):
    many = bench.many(MANY)

    def measure(target):
        options = "--rows", bench.rows_of_accounts
        few = load.measure(bench.stand, target, "query", FEW, bench.seconds(4), *options)
        crowd = load.measure(bench.stand, target, "query", many, bench.seconds(5), *options, "--warm-up", 2)
        return {"few": few["per_second"], "many": crowd["per_second"]} | {q: crowd[q] / 1000 for q in ("p50_us", "p99_us")}

    with bench.poolers() as targets:
        bench.warm_up(targets)
        cell = rows.in_turn(targets, bench.rounds(3), measure)
    few, tps, p50, p99 = (rows.pick(cell, name) for name in ("few", "many", "p50_us", "p99_us"))
    return [
        Row(f"tps of {many:,} active clients to {FEW}", ("at least", 0.9), tps, "{:,.0f}", rows.quotients(tps, few)),
        Row(f"p99 wait of {many:,} active clients to p50", ("at most", 1.5), p99, "{:.0f} ms", rows.quotients(p99, p50)),
    ]
