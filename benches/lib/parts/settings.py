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


def run(bench):
    cpu, tps, replayed = {}, {}, {}
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
        replayed[candidate.name] = pick(different, "replayed")
    what = f"{CLIENTS * KINDS} clients with {KINDS} sets of settings over {POOL_SIZE} connections, -S, simple"
    return [
        row(f"tps to that of equal clients, {what}", ("at least", 0.9), tps, "{:,.0f}"),
        row(f"CPU per transaction to that of equal clients, {what}", None, cpu, "{:.1f} µs"),
        Row(f"transactions that settings are sent ahead of, {what}", None, replayed, "{:.3f}", replayed),
    ]


def pick(runs, measure):
    return [run[measure] for run in runs]


def row(what, goal, found, form):
    values = {name: kinds[DIFFERENT] for name, kinds in found.items()}
    return Row(what, goal, values, form, {name: rows.ratios(kinds, EQUAL)[DIFFERENT] for name, kinds in found.items()})


def start(bench, stack, candidate, kind):
    setup = Setup(pool_size=POOL_SIZE, metrics_port=free_port())
    candidate = dataclasses.replace(candidate, name=f"{candidate.name}, {kind}")
    [target] = stack.enter_context(bench.poolers(setup, [candidate]))
    target.kind, target.metrics_port = kind, setup.metrics_port
    return target


def measure(bench, target):
    kinds = range(KINDS) if target.kind == DIFFERENT else [0] * KINDS
    before = replays(target)
    seen = pgbench.measure_together(
        bench.stand, target, "simple", CLIENTS, bench.seconds(4), [settings(kind) for kind in kinds],
    )
    return seen | {"replayed": (replays(target) - before) / seen["transactions"]}


def replays(target):
    with urllib.request.urlopen(f"http://127.0.0.1:{target.metrics_port}/metrics") as answer:
        counts = re.findall(r"^pgweir_parameter_syncs_total\{.*\} (\d+)", answer.read().decode(), re.M)
    return sum(int(count) for count in counts)


def settings(kind):
    """What libpq puts into the startup packet."""
    return {
        "PGAPPNAME": f"kind {kind}",
        "PGTZ": ZONES[kind],
        "PGOPTIONS": f"-c search_path=public,kind_{kind} -c statement_timeout={kind + 1}min",
    }
