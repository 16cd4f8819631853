"""run.py --pg-bin DIR --pgweir PROGRAM [--pgbouncer PROGRAM] [SUITE...]

Runs the suites of drivers directly, through pgweir and, if asked to, through
PgBouncer, and compares test by test. Exits with 1 if a test was lost through
pgweir that known.toml does not name, or if known.toml names one that was not and
does not say that it is lost sometimes only.
"""

import argparse
import contextlib
import fnmatch
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections import Counter

import suites
from servers import Pgbouncer, Pgweir, Postgres

KNOWN = suites.HERE / "known.toml"
RESULTS = suites.HOME / "results"


@contextlib.contextmanager
def noise(port, database):
    command = [suites.PYTHON, suites.HERE / "noise.py", str(port), database]
    process = subprocess.Popen(command, env=suites.environment(), stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def results(suite, target):
    """The file for what a run prints; others beside it hold the rest."""
    return RESULTS / f"{suite.name.replace('/', '-')}.{target}.log"


def run(suite, target, program, bin):
    """What became of each test of the suite by way of `target`."""
    log = results(suite, target)
    with Postgres(bin) as postgres, contextlib.ExitStack() as stack:
        if suite.database != "postgres":
            postgres.sql("postgres", f"create database {suite.database}")
        if suite.prepare:
            postgres.sql(suite.database, *suite.prepare)
        server = postgres
        if program:
            kind = {"pgweir": Pgweir, "PgBouncer": Pgbouncer}[target]
            server = stack.enter_context(kind(program, postgres))
            stack.enter_context(noise(server.port, suite.database))
        began = time.monotonic()
        outcomes = suite.run(server.port, log)
        counts = ", ".join(f"{n} {o}" for o, n in Counter(outcomes.values()).most_common())
        seconds = round(time.monotonic() - began)
        print(f"{suite.name}, {target}: {counts}, in {seconds} s", file=sys.stderr)
        log.with_suffix(".server").write_text(server.log())
        return outcomes


def lost(direct, through):
    return sorted(t for t, o in direct.items() if o == "passed" and through.get(t) != "passed")


def sort_out(name, lost_tests, known):
    """Prints the lost tests; returns those that nobody knew of, and the
    patterns for which there are none although there always should be."""
    always, sometimes = (known.get(when, {}).get(name, {}) for when in ("always", "sometimes"))
    patterns = always | sometimes

    def fits(test, pattern):
        return test == pattern or fnmatch.fnmatchcase(test, pattern)

    unknown = [t for t in lost_tests if not any(fits(t, p) for p in patterns)]
    idle = [p for p in always if not any(fits(t, p) for t in lost_tests)]
    for test in unknown:
        print(f"LOST {name}: {test}")
    for pattern in idle:
        print(f"not lost any more, {name}: {pattern}")
    return unknown, idle


def table(rows):
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows)]
    for at, row in enumerate(rows):
        print("| " + " | ".join(str(c).ljust(w) for c, w in zip(row, widths)) + " |")
        if at == 0:
            print("|" + "|".join("-" * (w + 2) for w in widths) + "|")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pg-bin", required=True)
    parser.add_argument("--pgweir", required=True)
    parser.add_argument("--pgbouncer", help="also through this PgBouncer, for comparison")
    parser.add_argument("--keep", action="append", default=[], metavar="TARGET",
                        choices=["direct", "pgweir", "PgBouncer"],
                        help="do not repeat these runs, where their results are there")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="the quick ones")
    parser.add_argument("--list", action="store_true", help="print the suites' names")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="all, unless named")
    options = parser.parse_args()

    names = {suite.name: suite for suite in suites.SUITES if suite.quick or not options.quick}
    if options.list:
        print("\n".join(names))
        return
    if wrong := set(options.suites) - set(names):
        parser.error(f"no such suite: {', '.join(wrong)} (there are: {', '.join(names)})")
    targets = {"direct": None, "pgweir": options.pgweir}
    if options.pgbouncer:
        targets["PgBouncer"] = options.pgbouncer
    RESULTS.mkdir(parents=True, exist_ok=True)
    os.nice(5)
    # What was started ends with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))

    known = tomllib.loads(KNOWN.read_text())
    heads = ["suite", "version", "tests", "direct", "pgweir", "lost", "known"]
    rows = [heads + ["PgBouncer", "lost"] * bool(options.pgbouncer)]
    bad = False
    for name in options.suites or names:
        suite = names[name]
        suite.fetch()
        outcomes = {}
        for target, program in targets.items():
            kept = results(suite, target).with_suffix(".json")
            if target in options.keep and kept.exists():
                outcomes[target] = json.loads(kept.read_text())
                continue
            outcomes[target] = run(suite, target, program, options.pg_bin)
            kept.write_text(json.dumps(outcomes[target], indent=0))
        direct = outcomes["direct"]
        passed = {target: Counter(o.values())["passed"] for target, o in outcomes.items()}
        lost_tests = lost(direct, outcomes["pgweir"])
        unknown, idle = sort_out(name, lost_tests, known)
        # A suite of which nothing ran has shown nothing.
        bad = bad or bool(unknown or idle or not passed["direct"])
        row = [name, suite.version, len(direct), passed["direct"], passed["pgweir"]]
        row += [len(lost_tests), len(lost_tests) - len(unknown)]
        if options.pgbouncer:
            row += [passed["PgBouncer"], len(lost(direct, outcomes["PgBouncer"]))]
        rows.append(row)
    table(rows)
    sys.exit(bad)


main()
