"""What is printed and saved: the goals table, with all that is needed to repeat it."""

import datetime
import os
import platform
import re
import shutil
import statistics
import subprocess

from . import pgbench, rows
from .poolers import PGBOUNCER, version_of
from .stand import ROOT

MEASURES = {
    "tps": "{:,.0f}", "mean_ms": "{:.3f}", "p50_ms": "{:.3f}", "p99_ms": "{:.3f}",
    "cpu_us": "{:.1f}", "user_us": "{:.1f}", "system_us": "{:.1f}",
}
median = statistics.median


def details(protocol, clients, targets, cell):
    """Lines of the table of everything that pgbench said."""
    lines = []
    for target in targets:
        runs, base = cell[target.name], cell.get(PGBOUNCER)
        cells = []
        for name, form in MEASURES.items():
            direct_cpu = name.endswith("_us") and target.name == rows.DIRECT
            text = "–" if direct_cpu else form.format(median(run[name] for run in runs))
            if base and base is not runs and not direct_cpu:
                text += f" (×{median(run[name] / b[name] for run, b in zip(runs, base)):.2f})"
            cells.append(text)
        lines.append(f"| {protocol} | {clients} | {pgbench.label(target, protocol)} | " + " | ".join(cells) + " |")
    return lines


def whole(bench, found, load_before, seconds):
    stand = bench.stand
    lines = [
        f"- {datetime.date.today()}, pgweir {revision()}; {seconds / 60:.0f} minutes",
        f"- {machine()}, load average {load_before:.1f} at the start",
        f"- {stand.direct.name}: {stand.direct.version}",
        *(f"- {c.name}: {version_of(c.program)}{place(c)}" for c in bench.candidates + bench.floor),
        "- all TCP on the loopback interface, transaction mode, 20 server connections where nothing else is said; the",
        "  median of the rounds, and of the rounds' ratios; a ratio is to PgBouncer in the same round, to a direct",
        "  connection or to the pooler itself where the row says so, and never to another run",
        *(f"- {remark}" for remark in bench.remarks),
        *(f"- {refusal}" for refusal in dict.fromkeys(stand.refusals)),
        *(["- **--quick: shows that it runs, and nothing else**"] if bench.args.quick else []),
        "",
        *rows.table(found, bench.judged()),
    ]
    if bench.details:
        lines += [
            "",
            "What pgbench -S said (×: to PgBouncer):",
            "",
            "| protocol | clients | through | tps | mean ms | p50 ms | p99 ms | CPU µs per transaction | user | system |",
            "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|",
            *bench.details,
        ]
    lines += ["", f"    {os.environ.get('BENCH_COMMAND', 'benches/compare.sh').strip()}"]
    return "\n".join(lines) + "\n"


def place(candidate):
    """Where a binary comes from that is not this checkout's: the revision above is not its own then."""
    own = [os.path.join(ROOT, "target", path) for path in ("release/pgweir", "load/release/relay")]
    return "" if candidate.program in (*own, shutil.which(PGBOUNCER)) else f" ({candidate.program})"


def save(name, text):
    path = f"{ROOT}/benches/results/{datetime.date.today()}-{name}.md"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(f"# {name}\n\n{text}")
    return os.path.relpath(path, ROOT)


def in_short(path):
    """The goals of a results file with what was reached, for the README."""
    with open(path) as f:
        lines = [line.strip() for line in f]
    start = next((i for i, line in enumerate(lines) if line.startswith("| what | goal |")), None)
    if start is None:
        return [f"there is no goals table in {path}"]
    head = [cell.strip() for cell in lines[start].strip("|").split("|")]
    workers = head[2].removeprefix("pgweir ").strip("()")
    short = [f"| pgweir against PgBouncer | goal | measured ({workers}) | met? |", "|---|---|---|---|"]
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        what, goal, _, _, ratio, met = (cell.strip() for cell in line.strip("|").split("|"))
        if goal != "–":
            short.append(f"| {what} | {goal} | {ratio} | {met} |")
    return short


def machine():
    with open("/proc/cpuinfo") as f:
        model = re.search(r"^model name\s*:\s*(.*)$", f.read(), re.M)
    return f"{model[1] if model else platform.machine()}, {os.cpu_count()} CPUs, {platform.platform()}"


def revision():
    done = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"
