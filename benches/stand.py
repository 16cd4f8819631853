"""The test stand of the benchmarks: one PostgreSQL and the poolers in front of it.

Everything listens on 127.0.0.1, logs in without a password (so that no cost of
hashing hides the cost of pooling) and gets 20 server connections. Everything
is stopped when the `Stand` is left, whatever the reason.
"""

import os
import pwd
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

POOL_SIZE = 20
DATABASE = USER = "bench"


class BenchError(Exception):
    """Something that makes the measurement worthless."""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def find_pgbouncer():
    return shutil.which("pgbouncer", path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")


def version_of(program):
    """The first line of `--version`, e.g. `PgBouncer 1.18.0`."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True)
    return done.stdout.splitlines()[0].strip() if done.stdout else program


class Target:
    """Something that pgbench can talk to. `pid` is None for PostgreSQL itself."""

    def __init__(self, name, version, port, process=None):
        self.name, self.version, self.port, self.process = name, version, port, process

    @property
    def pid(self):
        return self.process and self.process.pid

    def cpu_seconds(self):
        """User plus system time of all threads, those that have ended included."""
        with open(f"/proc/{self.pid}/stat") as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self):
        with open(f"/proc/{self.pid}/smaps_rollup") as f:
            for line in f:
                if line.startswith("Rss:"):
                    return int(line.split()[1]) * 1024
        raise BenchError(f"{self.name}: no Rss in smaps_rollup")


class Stand:
    def __init__(self, scale=10):
        self.bin = os.environ["PG_BIN"]
        self.scale = scale
        self.processes = []
        self.owner = None
        if os.geteuid() == 0:
            names = [n for n in ("postgres", "nobody") if has_user(n)]
            self.owner = pwd.getpwnam(names[0])

    def __enter__(self):
        # Two descriptors per client, in this process and in each pooler.
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        self.dir = tempfile.mkdtemp(prefix="pgweir-bench-")
        try:
            self.own(self.dir)
            self.direct = self.start_postgres()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            stop(process)
        shutil.rmtree(self.dir, ignore_errors=True)

    def own(self, path):
        if self.owner:
            os.chown(path, self.owner.pw_uid, self.owner.pw_gid)

    def environment(self):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        return kept | {"LC_ALL": "C", "PGHOST": "127.0.0.1", "PGUSER": USER, "PGDATABASE": DATABASE}

    def command(self, *args, as_owner=False, **more):
        if as_owner and self.owner:
            more |= {"user": self.owner.pw_uid, "group": self.owner.pw_gid, "extra_groups": []}
        return {"args": [str(a) for a in args], "cwd": self.dir, "env": self.environment()} | more

    def run(self, *args, **more):
        done = subprocess.run(**self.command(*args, **more), capture_output=True, text=True)
        if done.returncode != 0:
            raise BenchError(f"{args[0]} failed ({done.returncode}): {done.stderr.strip()[-2000:]}")
        return done.stdout

    def spawn(self, name, *args, as_owner=False):
        log = open(os.path.join(self.dir, f"{name}.log"), "wb")
        # A group of its own: Ctrl-C reaches the benchmark, which stops it.
        more = {"stdout": log, "stderr": log, "stdin": subprocess.DEVNULL, "process_group": 0}
        process = subprocess.Popen(**self.command(*args, as_owner=as_owner, **more))
        log.close()
        self.processes.append(process)
        return process

    def write(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, "w") as f:
            f.write(text)
        self.own(path)
        return path

    def psql(self, port, sql, database=DATABASE):
        return self.run(f"{self.bin}/psql", "-XqAt", "-p", port, "-d", database, "-c", sql)

    def until_ready(self, target):
        deadline = time.monotonic() + 20
        while True:
            try:
                database = DATABASE if target is not self.starting else "postgres"
                return self.psql(target.port, "SELECT 1", database)
            except BenchError as error:
                if target.process.poll() is not None or time.monotonic() > deadline:
                    with open(os.path.join(self.dir, f"{target.name}.log")) as f:
                        tail = "".join(f.readlines()[-15:])
                    raise BenchError(f"{target.name} does not answer: {error}\n{tail}") from None
            time.sleep(0.05)

    starting = None

    def start_postgres(self):
        data = os.path.join(self.dir, "data")
        self.run(f"{self.bin}/initdb", "-N", "-A", "trust", "-U", USER, "--locale=C", "-E", "UTF8", "-D", data, as_owner=True)
        port = free_port()
        settings = {
            "listen_addresses": "127.0.0.1", "max_connections": 300, "shared_buffers": "256MB",
            "fsync": "off", "autovacuum": "off", "max_wal_size": "4GB",
        }
        options = [x for k, v in settings.items() for x in ("-c", f"{k}={v}")]
        process = self.spawn("postgresql", f"{self.bin}/postgres", "-D", data, "-k", self.dir, "-p", port, *options, as_owner=True)
        target = Target("postgresql", version_of(f"{self.bin}/postgres"), port, process)
        self.starting = target
        self.until_ready(target)
        self.starting = None
        self.run(f"{self.bin}/createdb", "-p", port, DATABASE)
        self.run(f"{self.bin}/pgbench", "-p", port, "-i", "-q", "-s", self.scale)
        return target

    def start_pgbouncer(self, before=()):
        """Debian's PgBouncer. `before` is put before the command, e.g. valgrind."""
        program = find_pgbouncer()
        if not program:
            raise BenchError("there is no pgbouncer (apt-get install pgbouncer)")
        port = free_port()
        users = self.write("users.txt", f'"{USER}" ""\n')
        ini = self.write("pgbouncer.ini", f"""\
[databases]
{DATABASE} = host=127.0.0.1 port={self.direct.port} pool_size={POOL_SIZE}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
pool_mode = transaction
auth_type = trust
auth_file = {users}
max_client_conn = 15000
log_connections = 0
log_disconnections = 0
log_stats = 0
{self.prepared_setting(version_of(program))}
""")
        process = self.spawn("pgbouncer", *before, program, ini, as_owner=True)
        target = Target("pgbouncer", version_of(program), port, process)
        self.until_ready(target)
        return target

    @staticmethod
    def prepared_setting(version):
        return "max_prepared_statements = 200" if follows_prepared_statements(version) else ""

    def start_pgweir(self, program, name="pgweir", before=(), workers=1):
        port = free_port()
        toml = self.write(f"{name}.toml", f"""\
[pgweir]
listen_addr = "127.0.0.1"
listen_port = {port}
unix_socket_dir = ""
pool_mode = "transaction"
auth_type = "trust"
workers = {workers}
max_client_conn = 15000
log_connections = false
log_disconnections = false
log_stats = false

[databases.{DATABASE}]
hosts = [{{ host = "127.0.0.1", port = {self.direct.port} }}]
pool_size = {POOL_SIZE}

[users.{USER}]
password = "unused"
""")
        process = self.spawn(name, *before, os.path.abspath(program), "run", toml)
        target = Target(name, version_of(program), port, process)
        self.until_ready(target)
        return target


def has_user(name):
    try:
        return bool(pwd.getpwnam(name))
    except KeyError:
        return False


def follows_prepared_statements(pgbouncer_version):
    """PgBouncer does so in transaction mode since 1.21."""
    numbers = pgbouncer_version.split()[-1].split(".")
    return [int(n) for n in numbers[:2]] >= [1, 21]


def stop(process):
    # SIGINT: PostgreSQL's fast shutdown, the poolers' orderly one.
    for wish in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        if process.poll() is not None:
            return
        process.send_signal(wish)
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            pass
