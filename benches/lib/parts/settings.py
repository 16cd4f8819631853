"""Clients with different settings, over few server connections, against clients that are all the same."""

import contextlib
import dataclasses
import re
import urllib.request

from .. import pgbench, rows
from ..poolers import OLD, Setup
from ..rows import Row
from ..stand import free_port

POOL_SIZE = 8
# The same number of clients in each of so many runs of pgbench side by side.
CLIENTS, KINDS = 8, 4
ZONES = "UTC", "Asia/Tokyo", "Europe/Berlin", "America/New_York"
EQUAL, DIFFERENT = "equal", "different"
COUNTED = REPLAYS, MOVES = "pgweir_parameter_syncs_total", "pgweir_server_handovers_total"


def run(bench):
    cpu, tps, counted = {}, {}, {what: {} for what in COUNTED}
    for candidate in bench.candidates:
        if not candidate.is_pgweir or candidate.name == OLD:
            continue
        with contextlib.ExitStack() as stack:
            targets = [start(bench, stack, candidate, kind) for kind in (EQUAL, DIFFERENT)]
            bench.warm_up(targets)
            cell = rows.in_turn(targets, bench.rounds(7), lambda target: measure(bench, target))
        equal, different = (cell[target.name] for target in targets)
        for found, what in ((cpu, "cpu_us"), (tps, "tps")):
            found[candidate.name] = {EQUAL: pick(equal, what), DIFFERENT: pick(different, what)}
        for what, found in counted.items():
            found[candidate.name] = {EQUAL: pick(equal, what), DIFFERENT: pick(different, what)}
    what = f"{CLIENTS * KINDS} clients with {KINDS} sets of settings over {POOL_SIZE} connections, -S, simple"
    return [
        row(f"tps to that of equal clients, {what}", ("at least", 0.9), tps, "{:,.0f}"),
        row(f"CPU per transaction to that of equal clients, {what}", None, cpu, "{:.1f} µs"),
        count(f"settings sent ahead of a transaction, {what}", counted[REPLAYS], DIFFERENT),
        count(f"connections moved to another worker per transaction, {what}", counted[MOVES], DIFFERENT),
        count(f"the same, {CLIENTS * KINDS} equal clients", counted[MOVES], EQUAL),
    ]


def pick(runs, measure):
    return [run[measure] for run in runs]


def row(what, goal, found, form):
    values = {name: kinds[DIFFERENT] for name, kinds in found.items()}
    return Row(what, goal, values, form, {name: rows.ratios(kinds, EQUAL)[DIFFERENT] for name, kinds in found.items()})


def count(what, found, kind):
    values = {name: kinds[kind] for name, kinds in found.items()}
    return Row(what, None, values, "{:.3f}", values)


def start(bench, stack, candidate, kind):
    setup = Setup(pool_size=POOL_SIZE, metrics_port=free_port())
    candidate = dataclasses.replace(candidate, name=f"{candidate.name}, {kind}")
    [target] = stack.enter_context(bench.poolers(setup, [candidate]))
    target.kind, target.metrics_port = kind, setup.metrics_port
    return target


def measure(bench, target):
    kinds = range(KINDS) if target.kind == DIFFERENT else [0] * KINDS
    before = counts(target)
    seen = pgbench.measure_together(
        bench.stand, target, "simple", CLIENTS, bench.seconds(4), [settings(kind) for kind in kinds],
    )
    after = counts(target)
    return seen | {what: (after[what] - before[what]) / seen["transactions"] for what in COUNTED}


def counts(target):
    with urllib.request.urlopen(f"http://127.0.0.1:{target.metrics_port}/metrics") as answer:
        text = answer.read().decode()
    return {what: sum(map(int, re.findall(rf"^{what}\{{.*\}} (\d+)", text, re.M))) for what in COUNTED}


def settings(kind):
    """What libpq puts into the startup packet."""
    return {
        "PGAPPNAME": f"kind {kind}",
        "PGTZ": ZONES[kind],
        "PGOPTIONS": f"-c search_path=public,kind_{kind} -c statement_timeout={kind + 1}min",
    }
