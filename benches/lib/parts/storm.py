"""Everybody logs in at once, by SCRAM over TLS, while a few clients work on."""

import concurrent.futures

from .. import load, rows
from ..poolers import Setup
from ..rows import Row

CLIENTS, WORKING = 10_000, 4


def run(bench):
    clients = bench.many(CLIENTS)
    # With a password PgBouncer 1.18 makes every client derive keys for a salt of its own.
    setup = Setup(auth_type="scram-sha-256", tls=True, verifier=True)

    def working(target, seconds, *options):
        options = "--rows", bench.rows_of_accounts, *options
        return load.measure(bench.stand, target, "query", WORKING, seconds, *options, tls=True)

    def measure(target):
        before = working(target, bench.seconds(4))
        with concurrent.futures.ThreadPoolExecutor() as background:
            logins = background.submit(load.storm, bench.stand, target, clients, tls=True)
            meanwhile = working(target, bench.seconds(4), "--warm-up", 0)
            storm = logins.result()
        growth = (meanwhile["p99_us"] - before["p99_us"]) / 1000
        return storm | {"growth_ms": growth, "seconds": storm["longest_us"] / 1e6}

    with bench.poolers(setup) as targets:
        bench.warm_up(targets, tls=True)
        cell = rows.in_turn(targets, bench.rounds(1), measure)
    failed, growth, seconds = (rows.pick(cell, name) for name in ("failed", "growth_ms", "seconds"))
    what = f"{clients:,} logins at once (SCRAM, TLS)"
    return [
        Row(f"{what}: failed", ("at most", 0), failed, "{:.0f}", failed, "{:.0f}"),
        Row(f"{what}: p99 of {WORKING} working clients grows by", ("at most", 20), growth, "{:.1f} ms", growth, "{:.1f}"),
        Row(f"{what}: until the last one is in", None, seconds, "{:.1f} s", rows.to_pgbouncer(seconds)),
    ]
