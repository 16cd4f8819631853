"""One run of pgbench, and what it says."""

import glob
import os
import re
import subprocess
import time

from .poolers import PGBOUNCER, RELAYS, follows_prepared_statements
from .stand import DATABASE, BenchError, sslmode

# What pgbench asks before it starts (the scale, whether tables are partitioned).
QUESTIONS_OF_ITS_OWN = 5


def protocol_for(target, protocol):
    """The protocol that the target can be asked for: what it cannot do is replaced and marked."""
    if protocol == "prepared" and target.name == PGBOUNCER and not follows_prepared_statements(target.version):
        return "extended"
    return protocol


def understands(target, protocol):
    """The relay knows no names of statements."""
    return target.name not in RELAYS or protocol != "prepared"


def label(target, protocol):
    asked = protocol_for(target, protocol)
    return target.name if asked == protocol else f"{target.name} ({asked})"


def run(stand, target, protocol, clients, *options, tls=False):
    """pgbench -S. A failed transaction is an error: a run with errors is no measurement."""
    report = stand.run(
        f"{stand.bin}/pgbench", "-S", "-n", "-p", target.port, "-M", protocol_for(target, protocol),
        "-c", clients, "-j", min(clients, 2), *options, env={"PGSSLMODE": sslmode(tls)},
    )
    failed = re.search(r"^number of failed transactions: (\d+)", report, re.M)
    if "aborted" in report or (failed and failed[1] != "0"):
        raise BenchError(f"{target.name}: a run with errors is no measurement\n{report}")
    return report


def processed(report):
    return int(re.search(r"^number of transactions actually processed: (\d+)", report, re.M)[1])


def measure(stand, target, protocol, clients, seconds, *options, tls=False):
    """{tps, mean_ms, p50_ms, p99_ms, cpu_us, user_us, system_us, transactions}; CPU is the target's, per transaction."""
    prefix = os.path.join(stand.dir, "latency")
    cpu, user = target.cpu_seconds(), target.user_seconds()
    report = run(
        stand, target, protocol, clients, "-T", seconds, "-l", f"--log-prefix={prefix}", *options, tls=tls,
    )
    cpu, user = target.cpu_seconds() - cpu, target.user_seconds() - user
    latencies = []
    for path in glob.glob(prefix + ".*"):
        with open(path) as f:
            latencies.extend(int(line.split(" ", 3)[2]) for line in f)
        os.unlink(path)
    latencies.sort()
    transactions = len(latencies)
    if transactions == 0 or transactions != processed(report):
        raise BenchError(f"{target.name}: {transactions} transactions in the log\n{report}")
    return {
        "tps": float(re.search(r"^tps = ([\d.]+)", report, re.M)[1]),
        "mean_ms": sum(latencies) / transactions / 1000,
        "p50_ms": latencies[transactions // 2] / 1000,
        "p99_ms": latencies[int(transactions * 0.99)] / 1000,
        "cpu_us": cpu / transactions * 1e6,
        "user_us": user / transactions * 1e6,
        "system_us": (cpu - user) / transactions * 1e6,
        "transactions": transactions,
    }


def measure_together(stand, target, protocol, clients, seconds, environments):
    """{tps, cpu_us, user_us, system_us, transactions} of runs of pgbench side by side, each with an environment of its own."""
    cpu, user, begun = target.cpu_seconds(), target.user_seconds(), time.monotonic()
    runs = [
        stand.popen(
            f"{stand.bin}/pgbench", "-S", "-n", "-p", target.port, "-M", protocol, "-c", clients, "-T", seconds,
            env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for environment in environments
    ]
    reports = [process.communicate()[0] for process in runs]
    took = time.monotonic() - begun
    cpu, user = target.cpu_seconds() - cpu, target.user_seconds() - user
    for process, report in zip(runs, reports):
        stand.end(process)
        if process.returncode != 0 or "aborted" in report:
            raise BenchError(f"{target.name}: a run with errors is no measurement\n{report}")
    transactions = sum(processed(report) for report in reports)
    return {
        "tps": transactions / took,
        "cpu_us": cpu / transactions * 1e6,
        "user_us": user / transactions * 1e6,
        "system_us": (cpu - user) / transactions * 1e6,
        "transactions": transactions,
    }


def warm_up(stand, target, clients=32, protocols=("simple",), tls=False):
    """Opens the server connections, and makes sure that the pooler counts the transactions that pgbench does."""
    for protocol in protocols:
        before = transactions_served(stand, target, tls)
        asked = processed(run(stand, target, protocol, clients, "-t", 100, tls=tls))
        served = transactions_served(stand, target, tls) - before
        # PREPARE of each client is one of its own.
        extra = QUESTIONS_OF_ITS_OWN + (clients if protocol == "prepared" else 0)
        if not asked <= served <= asked + extra:
            raise BenchError(f"{target.name} has served {served} transactions of pgbench's {asked} ({protocol})")


def transactions_served(stand, target, tls):
    """What the pooler itself says, on its console."""
    text = stand.run(
        f"{stand.bin}/psql", "-XqA", "-P", "footer=off", "-p", target.port, "-d", "pgbouncer", "-c", "SHOW STATS_TOTALS",
        env={"PGSSLMODE": sslmode(tls)},
    )
    head, *rows = [line.split("|") for line in text.splitlines()]
    return sum(int(row[head.index("xact_count")]) for row in rows if row[0] == DATABASE)
