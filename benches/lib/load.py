"""The load generator of benches/load, where pgbench is too few clients or too costly."""

import contextlib
import os
import subprocess

from .poolers import DATABASE, PASSWORD, USER
from .stand import BenchError, cpu_seconds


class Load:
    """One of its runs, between its lines."""

    def __init__(self, stand, process):
        self.stand, self.process = stand, process

    def until(self, word):
        line = self.process.stdout.readline().strip()
        if line != word:
            self.process.wait(timeout=30)
            raise BenchError(f"load: {line or 'ended'}: {self.process.stderr.read().strip()[-2000:]}")

    def go(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()


@contextlib.contextmanager
def started(stand, target, work, clients, *options, tls=False):
    """Yields when all clients are logged in; they are gone when it is left."""
    process = stand.popen(
        os.environ["LOAD"], work, "--port", target.port, "--user", USER, "--database", DATABASE,
        "--password", PASSWORD, "--clients", clients, *(["--tls"] if tls else []), *options,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    load = Load(stand, process)
    try:
        load.until("ready")
        yield load
    finally:
        stand.end(process)
        for pipe in (process.stdin, process.stdout, process.stderr):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def storm(stand, target, clients, tls):
    """{answered, failed, per_second, p50_us, p99_us, longest_us}: all log in at once."""
    with started(stand, target, "storm", clients, tls=tls) as load:
        # What is judged is the pooler, not who gets the processor.
        os.setpriority(os.PRIO_PROCESS, load.process.pid, 19)
        load.go()
        load.until("begin")
        load.until("end")
        return result(load)


def result(load):
    """The last line."""
    words = load.process.stdout.readline().split()
    if not words:
        load.until("a result")
    return {name: float(value) for name, value in (word.split("=") for word in words)}


def measure(stand, target, work, clients, seconds, *options, tls=False):
    """{per_second, p50_us, p99_us, longest_us, cpu_us, load_cpu_us}; CPU is per answer."""
    with started(stand, target, work, clients, "--seconds", seconds, *options, tls=tls) as load:
        load.go()
        load.until("begin")
        before = target.cpu_seconds(), cpu_seconds(load.process.pid)
        load.until("end")
        after = target.cpu_seconds(), cpu_seconds(load.process.pid)
        seen = result(load)
    if seen["answered"] == 0:
        raise BenchError(f"{target.name}: no answer in {seconds} s")
    pooler, own = (b - a for a, b in zip(before, after))
    return seen | {"cpu_us": pooler / seen["answered"] * 1e6, "load_cpu_us": own / seen["answered"] * 1e6}


@contextlib.contextmanager
def idle(stand, target, clients, *options, tls=False):
    """Clients that have run one query each and wait. At the end each must still answer."""
    with started(stand, target, "idle", clients, *options, tls=tls) as load:
        yield
        load.go()
        load.until("alive")
