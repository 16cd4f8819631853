"""The test stand of the benchmarks: one PostgreSQL, and whatever is started in front of it.

Everything listens on 127.0.0.1. Everything is stopped and removed when the
`Stand` is left, whatever the reason.
"""

import contextlib
import os
import pwd
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from .poolers import DATABASE, MAX_CLIENTS, PASSWORD, PGBOUNCER, USER, Setup, configure, version_of

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DESCRIPTORS = MAX_CLIENTS + 1_000


class BenchError(Exception):
    """Something that makes the measurement worthless."""


def run_script(main):
    """Runs a script to its end: what goes wrong is said in a line."""
    try:
        main()
    except BenchError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


class Refused(Exception):
    """A pooler that says at start that it cannot do what it is asked for."""


def note(text):
    print(f"== {text}", file=sys.stderr, flush=True)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Target:
    """Something that pgbench can talk to: PostgreSQL or a pooler."""

    def __init__(self, name, version, port, process):
        self.name, self.version, self.port, self.process = name, version, port, process

    @property
    def pid(self):
        return self.process.pid

    def cpu_seconds(self):
        """User plus system time of all threads, those that have ended included."""
        return cpu_seconds(self.pid)

    def user_seconds(self):
        """Of cpu_seconds, those outside of the kernel, in the kernel's hundredths."""
        with open(f"/proc/{self.pid}/stat") as f:
            return int(f.read().rpartition(")")[2].split()[11]) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self):
        with open(f"/proc/{self.pid}/smaps_rollup") as f:
            return int(re.search(r"^Rss:\s+(\d+) kB", f.read(), re.M)[1]) * 1024

    def wake_ups(self):
        """How often its threads have slept so far."""
        total = 0
        for thread in os.listdir(f"/proc/{self.pid}/task"):
            with open(f"/proc/{self.pid}/task/{thread}/status") as f:
                total += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", f.read(), re.M)[1])
        return total

    def descriptors(self):
        with open(f"/proc/{self.pid}/limits") as f:
            return int(re.search(r"^Max open files\s+(\d+)", f.read(), re.M)[1])


def cpu_seconds(pid):
    # The clock of another process, in nanoseconds: clock_getcpuclockid(3), which
    # Python lacks; /proc/<pid>/stat counts in hundredths of a second.
    return time.clock_gettime((~pid << 3) | 2)


class Stand:
    def __init__(self, scale=10):
        self.bin = os.environ["PG_BIN"]
        self.scale = scale
        self.processes = []
        self.refusals = []
        self.standbys = []
        self.owner = None
        if os.geteuid() == 0:
            names = [n for n in ("postgres", "nobody") if has_user(n)]
            self.owner = pwd.getpwnam(names[0])

    def __enter__(self):
        raise_descriptors()
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: sys.exit(128 + number))
        self.dir = tempfile.mkdtemp(prefix="pgweir-bench-")
        try:
            self.own(self.dir)
            self.direct = self.start_postgres()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for process in reversed(self.processes):
            stop(process)
        shutil.rmtree(self.dir, ignore_errors=True)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def own(self, path):
        if self.owner:
            os.chown(path, self.owner.pw_uid, self.owner.pw_gid)

    def environment(self, more):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        mine = {"LC_ALL": "C", "PGHOST": "127.0.0.1", "PGUSER": USER, "PGDATABASE": DATABASE, "PGPASSWORD": PASSWORD}
        # Whoever wants TLS says so: libpq's own default would try it everywhere.
        return kept | mine | {"PGSSLMODE": "disable", "PGGSSENCMODE": "disable"} | more

    def command(self, *args, as_owner=False, env=None, **more):
        if as_owner and self.owner:
            more |= {"user": self.owner.pw_uid, "group": self.owner.pw_gid, "extra_groups": []}
        return {"args": [str(a) for a in args], "cwd": self.dir, "env": self.environment(env or {})} | more

    def run(self, *args, **more):
        """Runs a program to its end and returns what it says."""
        more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more
        done = subprocess.run(**self.command(*args, **more), text=True)
        if done.returncode != 0:
            raise BenchError(f"{args[0]} failed ({done.returncode}): {done.stderr.strip()[-2000:]}")
        return done.stdout

    def spawn(self, name, *args, as_owner=False):
        with open(os.path.join(self.dir, f"{name}.log"), "wb") as log:
            return self.popen(*args, as_owner=as_owner, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def popen(self, *args, **more):
        # A group of its own: Ctrl-C reaches the benchmark, which stops it.
        process = subprocess.Popen(**self.command(*args, process_group=0, **more))
        self.processes.append(process)
        return process

    def end(self, process):
        stop(process)
        self.processes.remove(process)

    def log_of(self, name):
        with open(os.path.join(self.dir, f"{name}.log"), errors="replace") as f:
            return [line.strip() for line in f if line.strip()]

    def write(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, "w") as f:
            f.write(text)
        self.own(path)
        return path

    def psql(self, port, sql, *options, database=DATABASE, **more):
        return self.run(f"{self.bin}/psql", "-XqAt", *options, "-p", port, "-d", database, "-c", sql, **more)

    def until_ready(self, target, database=DATABASE, tls=False):
        deadline = time.monotonic() + 20
        while True:
            try:
                return self.psql(target.port, "SELECT 1", database=database, env={"PGSSLMODE": sslmode(tls)})
            except BenchError as error:
                tail = self.log_of(target.name)[-15:]
                if target.process.poll() is not None:
                    raise Refused(" ".join(tail[-3:]) or "it ended without a word") from None
                if time.monotonic() > deadline:
                    raise BenchError(f"{target.name} does not answer: {error}\n" + "\n".join(tail)) from None
            time.sleep(0.05)

    def start_postgres(self):
        data = os.path.join(self.dir, "data")
        self.run(f"{self.bin}/initdb", "-N", "-A", "trust", "-U", USER, "--locale=C", "-E", "UTF8", "-D", data, as_owner=True)
        target = self.serve("postgresql", data)
        self.run(f"{self.bin}/createdb", "-p", target.port, DATABASE)
        self.run(f"{self.bin}/pgbench", "-p", target.port, "-i", "-q", "-s", self.scale)
        self.psql(target.port, "VACUUM ANALYZE")
        return target

    def serve(self, name, data):
        """A server with these files."""
        port = free_port()
        settings = {
            "listen_addresses": "127.0.0.1", "max_connections": 400, "shared_buffers": "512MB",
            "fsync": "off", "autovacuum": "off", "max_wal_size": "4GB",
        }
        options = [x for k, v in settings.items() for x in ("-c", f"{k}={v}")]
        program = f"{self.bin}/postgres"
        process = self.spawn(name, program, "-D", data, "-k", self.dir, "-p", port, *options, as_owner=True)
        target = Target(name, version_of(program), port, process)
        try:
            self.until_ready(target, "postgres")
        except Refused as why:
            raise BenchError(f"{name}: {why}") from None
        return target

    def replicas(self, count):
        """So many streaming replicas, which stay until the end."""
        while len(self.standbys) < count:
            name = f"replica{len(self.standbys)}"
            data = os.path.join(self.dir, name)
            copy = ("--write-recovery-conf", "--checkpoint=fast", "--no-sync")
            self.run(f"{self.bin}/pg_basebackup", "-p", self.direct.port, *copy, "-D", data, as_owner=True)
            self.standbys.append(self.serve(name, data))
        return self.standbys[:count]

    def start(self, candidate, setup=Setup(), before=()):
        """Starts a pooler. `before` is put before its command, e.g. valgrind."""
        port = free_port()
        command = configure(self, candidate, setup, port)
        # PgBouncer refuses root.
        process = self.spawn(candidate.name, *before, *command, as_owner=candidate.name == PGBOUNCER)
        target = Target(candidate.name, version_of(candidate.program), port, process)
        try:
            self.until_ready(target, DATABASE + ("0" if setup.databases else ""), setup.tls)
        except Refused as why:
            self.end(process)
            if candidate.may_refuse(setup):
                raise
            raise BenchError(f"{candidate.name}: {why}") from None
        if not before and target.descriptors() < DESCRIPTORS:
            raise BenchError(f"{candidate.name} may open {target.descriptors()} files only, {DESCRIPTORS} are needed")
        return target

    @contextlib.contextmanager
    def poolers(self, candidates, setup=Setup()):
        """Those of the candidates that can do it, with the same setup, for the length of a with block."""
        targets = []
        for candidate in candidates:
            try:
                targets.append(self.start(candidate, setup))
            except Refused as why:
                refusal = f"left out: {candidate.name} with {setup}: {why}".replace(self.dir + "/", "")
                note(refusal)
                self.refusals.append(refusal)
        try:
            yield targets
        finally:
            for target in targets:
                if target.process.poll() is not None:
                    raise BenchError(f"{target.name} has ended: {self.log_of(target.name)[-3:]}")
                self.end(target.process)

    def certificate(self):
        """(key, certificate), signed by itself: the recipe of PostgreSQL's manual, section "Creating Certificates"."""
        key, certificate = (os.path.join(self.dir, name) for name in ("server.key", "server.crt"))
        if not os.path.exists(key):
            self.run(
                "openssl", "req", "-new", "-x509", "-days", 2, "-nodes", "-newkey", "rsa:2048",
                "-subj", "/CN=localhost", "-keyout", key, "-out", certificate,
            )
            os.chmod(key, 0o600)
            self.own(key)
            self.own(certificate)
        return key, certificate


def sslmode(tls):
    return "require" if tls else "disable"


def raise_descriptors():
    """One per client, in this process's children; what they may open they take from here."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        hard = max(hard, DESCRIPTORS)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):
        raise BenchError(f"{DESCRIPTORS} open files are needed: raise the hard limit (ulimit -Hn)") from None


def has_user(name):
    try:
        return bool(pwd.getpwnam(name))
    except KeyError:
        return False


def stop(process):
    # SIGINT: PostgreSQL's fast shutdown, the poolers' orderly one.
    for wish in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        if process.poll() is not None:
            return
        process.send_signal(wish)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
