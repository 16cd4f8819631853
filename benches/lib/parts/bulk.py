"""Much data through one client: a result set, COPY out and COPY in; CPU of the pooler per megabyte."""

import os

from .. import rows
from ..rows import Row
from ..stand import BenchError

LINE = 1_000
RESULT = f"SELECT repeat('x', {LINE - 1}) FROM generate_series(1, %d)"
COPY_OUT = "COPY pgbench_accounts TO STDOUT"
COPY_IN = "COPY copied FROM STDIN"


def run(bench):
    stand = bench.stand
    lines = bench.many(100_000)
    path = os.path.join(stand.dir, "accounts.txt")
    download(stand, stand.direct, COPY_OUT, path)
    expected = os.path.getsize(path)
    stand.psql(stand.direct.port, "CREATE UNLOGGED TABLE copied (LIKE pgbench_accounts)")

    def result_set(target):
        return download(stand, target, RESULT % lines, os.path.join(stand.dir, "result.txt"), lines * LINE)

    def copy_out(target):
        return download(stand, target, COPY_OUT, os.path.join(stand.dir, "out.txt"), expected)

    def copy_in(target):
        stand.psql(stand.direct.port, "TRUNCATE copied")
        before = target.cpu_seconds()
        with open(path) as f:
            stand.psql(target.port, COPY_IN, stdin=f)
        spent = target.cpu_seconds() - before
        if int(stand.psql(stand.direct.port, "SELECT count(*) FROM copied")) != bench.rows_of_accounts:
            raise BenchError(f"{target.name}: rows are missing after COPY")
        return {"us_per_mb": spent / expected * 1e12}

    kinds = {
        f"result set of {lines * LINE // 1_000_000} MB": result_set,
        f"COPY out of {bench.rows_of_accounts:,} rows": copy_out,
        f"COPY in of {bench.rows_of_accounts:,} rows": copy_in,
    }
    found = []
    with bench.poolers() as targets:
        for kind, measure in kinds.items():
            cost = rows.pick(rows.in_turn(targets, bench.rounds(5), measure), "us_per_mb")
            found.append(Row(f"CPU per MB, {kind}", ("at most", 0.8), cost, "{:.0f} µs", rows.to_pgbouncer(cost)))
    return found


def download(stand, target, sql, path, expected=None):
    """Into a file, whose length must be as expected."""
    before = target.cpu_seconds()
    with open(path, "w") as f:
        stand.psql(target.port, sql, stdout=f)
    spent, size = target.cpu_seconds() - before, os.path.getsize(path)
    if expected is not None:
        os.unlink(path)
        if size != expected:
            raise BenchError(f"{target.name}: {size} bytes instead of {expected}: {sql}")
    return {"us_per_mb": spent / size * 1e12}
