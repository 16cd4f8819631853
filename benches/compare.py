"""Side by side: PostgreSQL, PgBouncer and pgweir under the same load, in turn.

Run it by compare.sh. docs/performance.md tells how to read the numbers.
"""

import argparse
import datetime
import glob
import os
import platform
import re
import statistics
import subprocess
import sys
import time

import idle_clients
from stand import POOL_SIZE, BenchError, Stand, follows_prepared_statements

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MEASURES = ("tps", "mean_ms", "p99_ms", "cpu_us")
BASE = "pgbouncer"


def arguments():
    env = os.environ.get
    parser = argparse.ArgumentParser(prog="benches/compare.sh", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=env("ROUNDS"), help="measurements of each kind (default 5)")
    parser.add_argument("--seconds", type=int, default=env("BENCH_SECONDS"), help="length of one (default 8)")
    parser.add_argument("--clients", default=env("CLIENTS", "1,32,200"), help="e.g. 1,32,200")
    parser.add_argument("--protocols", default=env("PROTOCOLS", "simple,extended,prepared"))
    parser.add_argument("--only", default=env("ONLY"), help="of postgresql,pgbouncer,pgweir,pgweir-old")
    parser.add_argument("--idle", type=int, default=env("IDLE", "5000"), help="idle clients to weigh, 0: none")
    parser.add_argument("--quick", action="store_true", help="one round of two seconds: proves only that it runs")
    parser.add_argument("--save", metavar="NAME", help="write benches/results/<date>-<NAME>.md as well")
    args = parser.parse_args()
    args.rounds = int(args.rounds or (1 if args.quick else 5))
    args.seconds = int(args.seconds or (2 if args.quick else 8))
    args.idle = min(int(args.idle), 500 if args.quick else 100_000)
    args.clients = [int(c) for c in args.clients.split(",")]
    args.protocols = args.protocols.split(",")
    return args


def start_targets(stand, only):
    pgweir = os.environ.get("PGWEIR", f"{ROOT}/target/release/pgweir")
    old = os.environ.get("PGWEIR_OLD")
    makers = {
        "postgresql": lambda: stand.direct,
        "pgbouncer": stand.start_pgbouncer,
        "pgweir": lambda: stand.start_pgweir(pgweir),
        "pgweir-2": lambda: stand.start_pgweir(pgweir, "pgweir-2", workers=2),
    }
    if old:
        makers["pgweir-old"] = lambda: stand.start_pgweir(old, "pgweir-old")
    names = only.split(",") if only else list(makers)
    unknown = [n for n in names if n not in makers]
    if unknown:
        raise BenchError(f"--only: there is no {unknown[0]} here (pgweir-old needs PGWEIR_OLD)")
    return [makers[n]() for n in names]


def protocol_for(target, protocol):
    """The protocol that the target can be asked for: what it cannot do is replaced and marked."""
    if protocol == "prepared" and target.name == "pgbouncer" and not follows_prepared_statements(target.version):
        return "extended"
    return protocol


def label(target, protocol):
    asked = protocol_for(target, protocol)
    return target.name if asked == protocol else f"{target.name} ({asked})"


def measure(stand, target, protocol, clients, seconds):
    """One run of pgbench: a value for each of MEASURES."""
    prefix = os.path.join(stand.dir, "latency")
    cpu = target.cpu_seconds() if target is not stand.direct else None
    report = stand.run(
        f"{stand.bin}/pgbench", "-S", "-n", "-p", target.port, "-M", protocol_for(target, protocol),
        "-c", clients, "-j", min(clients, 2), "-T", seconds, "-l", f"--log-prefix={prefix}",
    )
    if cpu is not None:
        cpu = target.cpu_seconds() - cpu
    latencies = []
    for path in glob.glob(prefix + ".*"):
        with open(path) as f:
            latencies.extend(int(line.split(" ", 3)[2]) for line in f)
        os.unlink(path)
    latencies.sort()
    transactions = len(latencies)
    if transactions == 0:
        raise BenchError(f"{target.name}: no transactions\n{report}")
    failed = re.search(r"^number of failed transactions: (\d+)", report, re.M)
    if "aborted" in report or (failed and failed[1] != "0"):
        raise BenchError(f"{target.name}: a run with errors is no measurement\n{report}")
    return {
        "tps": float(re.search(r"^tps = ([\d.]+)", report, re.M)[1]),
        "mean_ms": sum(latencies) / transactions / 1000,
        "p99_ms": latencies[int(transactions * 0.99)] / 1000,
        "cpu_us": None if cpu is None else cpu / transactions * 1e6,
    }


def rotated(items, by):
    by %= len(items)
    return items[by:] + items[:by]


def compare(stand, targets, args):
    """{(protocol, clients): {target name: [one dict per round]}}"""
    for target in targets:
        # The server connections exist before the first measurement.
        measure(stand, target, "simple", 32, 1)
    results = {}
    for protocol in args.protocols:
        for clients in args.clients:
            cell = results.setdefault((protocol, clients), {t.name: [] for t in targets})
            for round_ in range(args.rounds):
                for target in rotated(targets, round_):
                    cell[target.name].append(measure(stand, target, protocol, clients, args.seconds))
            note(f"{protocol}, {clients} clients: " + ", ".join(
                f"{name} {statistics.median(r['tps'] for r in runs):.0f} tps" for name, runs in cell.items()))
    return results


def shown(measure_name, runs, base_runs):
    """The median over the rounds, and the median of the rounds' ratios to the base."""
    if runs[0][measure_name] is None:
        return "–"
    value = statistics.median(run[measure_name] for run in runs)
    text = f"{value:,.0f}" if measure_name == "tps" else f"{value:.3f}" if measure_name.endswith("ms") else f"{value:.1f}"
    if base_runs and base_runs is not runs and base_runs[0][measure_name]:
        ratio = statistics.median(run[measure_name] / base[measure_name] for run, base in zip(runs, base_runs))
        text += f" (×{ratio:.2f})"
    return text


def table(results, targets):
    lines = [
        "| protocol | clients | through | tps | mean ms | p99 ms | CPU µs per transaction |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    for (protocol, clients), cell in results.items():
        for target in targets:
            runs, base = cell[target.name], cell.get(BASE)
            cells = [shown(m, runs, base) for m in MEASURES]
            lines.append(f"| {protocol} | {clients} | {label(target, protocol)} | " + " | ".join(cells) + " |")
    return lines


def weigh_idle(stand, targets, count):
    """Resident bytes that each of `count` logged-in, idle clients adds to a pooler."""
    lines = ["| through | bytes per idle client |", "|---|---:|"]
    weights = {}
    for target in targets:
        if target is stand.direct:
            continue
        with idle_clients.Opened(target.port, POOL_SIZE):
            before = target.resident_bytes()
            with idle_clients.Opened(target.port, count):
                time.sleep(1)
                weights[target.name] = (target.resident_bytes() - before) / count
        note(f"{target.name}: {weights[target.name]:.0f} bytes per idle client")
    for name, weight in weights.items():
        ratio = f" (×{weight / weights[BASE]:.2f})" if BASE in weights and name != BASE else ""
        lines.append(f"| {name} | {weight:,.0f}{ratio} |")
    return lines


def machine():
    with open("/proc/cpuinfo") as f:
        model = re.search(r"^model name\s*:\s*(.*)$", f.read(), re.M)
    return f"{model[1] if model else platform.machine()}, {os.cpu_count()} CPUs, {platform.platform()}"


def revision():
    done = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def note(text):
    print(f"== {text}", file=sys.stderr, flush=True)


def main():
    args = arguments()
    load_before = os.getloadavg()[0]
    with Stand() as stand:
        targets = start_targets(stand, args.only)
        results = compare(stand, targets, args)
        lines = [
            f"- {datetime.date.today()}, pgweir {revision()}",
            f"- {machine()}, load average {load_before:.1f} at the start",
            *(f"- {t.name}: {t.version}" for t in targets),
            f"- pgbench -S, all TCP on the loopback interface, {POOL_SIZE} server connections, trust, transaction mode;",
            f"  median of {args.rounds} rounds of {args.seconds} s in rotated order; (×) is the median of the rounds' ratios to {BASE}",
        ]
        if any(protocol_for(t, "prepared") != "prepared" for t in targets) and "prepared" in args.protocols:
            lines.append(f"- this {BASE} has no prepared statements in transaction mode: under `prepared` it runs extended")
        lines += ["", *table(results, targets)]
        if args.idle and len(targets) > (stand.direct in targets):
            lines += ["", f"{args.idle} clients that have logged in, run one query and wait:", ""]
            lines += weigh_idle(stand, targets, args.idle)
    lines += ["", f"    {os.environ.get('BENCH_COMMAND', 'benches/compare.sh')}"]
    text = "\n".join(lines) + "\n"
    print(text)
    if args.save:
        path = f"{ROOT}/benches/results/{datetime.date.today()}-{args.save}.md"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(f"# {args.save}\n\n{text}")
        note(f"written to {os.path.relpath(path, ROOT)}")


if __name__ == "__main__":
    try:
        main()
    except BenchError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
