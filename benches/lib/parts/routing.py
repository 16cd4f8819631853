"""Reads that are routed, over no, one and two replicas, against the same without routing."""

import contextlib
import dataclasses
import time

from .. import pgbench, rows
from ..poolers import OLD, Setup
from ..rows import Row
from ..stand import BenchError

CLIENTS = 32
REPLICAS = (0, 1, 2)
OFF = "routing off"
READ = "SELECT abalance FROM pgbench_accounts WHERE aid = 1"


def run(bench):
    cpu, tps = {}, {}
    for candidate in bench.candidates:
        if candidate.is_pgweir and candidate.name != OLD:
            cell = compare(bench, candidate)
            cpu[candidate.name], tps[candidate.name] = rows.pick(cell, "cpu_us"), rows.pick(cell, "tps")
    found = []
    for count in REPLICAS:
        what = f"{count} replicas, -S, {CLIENTS} clients, simple"
        cost = {
            name: [on - off for on, off in zip(runs[routed(count)], runs[OFF])] for name, runs in cpu.items()
        }
        # Over more connections each wake-up brings less: that is not what routing costs.
        goal = None if count else ("at most", 1.0)
        found.append(Row(f"CPU per transaction that routing adds, {what}", goal, cost, "{:.2f} µs", cost, "{:.2f} µs"))
        ratios = {name: rows.ratios(runs, OFF)[routed(count)] for name, runs in tps.items()}
        values = {name: runs[routed(count)] for name, runs in tps.items()}
        found.append(Row(f"tps with routing to without, {what}", None, values, "{:,.0f}", ratios))
    return found


def routed(count):
    return f"{count} replicas"


def compare(bench, candidate):
    """{OFF or routed(count): [measurement of each round]}"""
    stand = bench.stand
    setups = {OFF: Setup()} | {routed(count): Setup(replicas=count) for count in REPLICAS}
    with contextlib.ExitStack() as stack:
        targets = []
        for name, setup in setups.items():
            one = dataclasses.replace(candidate, name=f"{candidate.name}, {name}")
            [target] = stack.enter_context(bench.poolers(setup, [one]))
            target.replicas = setup.replicas
            if setup.replicas is not None:
                until_routed(stand, target)
            targets.append(target)
        bench.warm_up(targets)
        cell = rows.in_turn(targets, bench.rounds(5), lambda target: measure(stand, target, bench.seconds(4)))
        bench.detail("simple", CLIENTS, targets, cell)
    return {name: cell[target.name] for name, target in zip(setups, targets)}


def measure(stand, target, seconds):
    reads_before, lost_before = reads(stand, target)
    seen = pgbench.measure(stand, target, "simple", CLIENTS, seconds)
    reads_now, lost_now = reads(stand, target)
    # What a server did not answer is asked, and counted, again elsewhere.
    asked, served, repeated = seen["transactions"], reads_now - reads_before, lost_now - lost_before
    # pgbench asks a few questions of its own, which are reads too.
    if target.replicas is not None and not asked <= served - repeated <= asked + pgbench.QUESTIONS_OF_ITS_OWN:
        raise BenchError(f"{target.name}: {served} reads counted of {asked}, {repeated} of them repeated")
    return seen


def until_routed(stand, target):
    deadline = time.monotonic() + 20
    while reads(stand, target)[0] == 0:
        if time.monotonic() > deadline:
            raise BenchError(f"{target.name} routes nothing")
        stand.psql(target.port, READ)
        time.sleep(0.05)


def reads(stand, target):
    """How many the servers have had that should have them, the replicas or the primary without any; and lost."""
    role = "replica" if target.replicas else "primary"
    text = stand.run(
        f"{stand.bin}/psql", "-XqA", "-P", "footer=off", "-p", target.port, "-d", "pgbouncer", "-c", "SHOW HOSTS",
    )
    head, *hosts = [line.split("|") for line in text.splitlines()]
    of_role = [dict(zip(head, host)) for host in hosts if host[head.index("role")] == role]
    return [sum(int(host[column]) for host in of_role) for column in ("reads", "lost_reads")]
