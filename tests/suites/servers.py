"""A throw-away PostgreSQL, and poolers in front of it."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

# Server connections of a pool: fewer than any suite opens.
POOL_SIZE = 4

# What a suite logs in with where it says so; anybody else needs no password.
HBA = """\
local all all trust
host all pass_user 127.0.0.1/32 password
host all md5_user 127.0.0.1/32 md5
host all scram_user 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
"""

SETTINGS = """\
listen_addresses = '127.0.0.1'
fsync = off
synchronous_commit = off
full_page_writes = off
autovacuum = off
max_connections = 200
max_prepared_transactions = 10
shared_buffers = 64MB
log_line_prefix = '%m [%p] %u@%d '
"""

PGWEIR = """\
[pgweir]
listen_addr = "127.0.0.1"
listen_port = {port}
unix_socket_dir = "{dir}"
pool_mode = "transaction"
default_pool_size = {pool_size}
# A client alone would get the same connection again and again.
server_round_robin = true
query_wait_timeout = "30s"
# Suites log in with mistakes, and look at what the server says each time.
server_login_retry = "0s"
auth_type = "hba"
auth_hba_file = "{dir}/hba.conf"
auth_user = "postgres"
auth_dbname = "postgres"
auth_query = "SELECT usename, coalesce(passwd, '') FROM pg_shadow WHERE usename = $1"
admin_users = ["postgres"]
max_client_conn = 1000

[databases."*"]
host = "{server_dir}"
port = {server_port}

[users.postgres]
password = ""
"""

PGBOUNCER = """\
[databases]
* = host={server_dir} port={server_port} auth_user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir = {dir}
pool_mode = transaction
default_pool_size = {pool_size}
server_round_robin = 1
query_wait_timeout = 30
server_login_retry = 0
auth_type = hba
auth_hba_file = {dir}/hba.conf
auth_file = {dir}/users.txt
auth_query = SELECT usename, coalesce(passwd, '') FROM pg_shadow WHERE usename = $1
max_client_conn = 1000
ignore_startup_parameters = extra_float_digits,options,search_path,jit,statement_timeout
"""


def server_user():
    """The user under which programs run that refuse root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            pass
    raise SystemExit("no user postgres or nobody")


def environment(**more):
    """Ours without what it says to libpq, and in plain English."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return env | {"LC_ALL": "C.UTF-8"} | more


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Daemon:
    """A program that listens on `port`, with a directory of its own."""

    name = "?"

    def __init__(self):
        self.dir = Path(tempfile.mkdtemp(prefix=f"pgweir-suite-{self.name}-"))
        self.dir.chmod(0o755)
        self.port = free_port()
        self.process = None
        self.user = server_user()
        if self.user:
            shutil.chown(self.dir, self.user.pw_uid, self.user.pw_gid)

    def file(self, name, text):
        path = self.dir / name
        path.write_text(text)
        if self.user:
            shutil.chown(path, self.user.pw_uid, self.user.pw_gid)
        return path

    def as_user(self):
        options = {"env": environment(HOME=str(self.dir)), "cwd": self.dir}
        if self.user:
            options |= {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}
        return options

    def start(self, *command):
        with open(self.dir / "log", "ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self.as_user()
            )
        give_up = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > give_up:
                    raise SystemExit(f"{self.name} does not start:\n{self.log()}") from None
                time.sleep(0.05)

    def log(self):
        return (self.dir / "log").read_text(errors="replace")

    def stop(self):
        if self.process:
            # Immediate shutdown, in the words of each of them.
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Postgres(Daemon):
    name = "postgres"

    def __init__(self, bin):
        super().__init__()
        self.bin = Path(bin)
        data = self.dir / "data"
        subprocess.run(
            [self.bin / "initdb", "--username=postgres", "--auth=trust", "--no-sync"]
            + ["--encoding=UTF8", "--locale=C.UTF-8", "--pgdata", data],
            check=True, stdout=subprocess.DEVNULL, **self.as_user(),
        )  # fmt: skip
        (data / "pg_hba.conf").write_text(HBA)
        (data / "postgresql.auto.conf").write_text(
            f"{SETTINGS}port = {self.port}\nunix_socket_directories = '{self.dir}'\n"
        )
        self.start(self.bin / "postgres", "-D", data)
        self.sql("postgres", "select 1")

    def sql(self, database, *statements):
        """Runs each as the superuser, past any pooler."""
        psql = [self.bin / "psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-d", database]
        psql += [part for statement in statements for part in ("-c", statement)]
        where = {"PGHOST": str(self.dir), "PGPORT": str(self.port), "PGUSER": "postgres"}
        give_up = time.monotonic() + 30
        while True:
            run = subprocess.run(psql, env=environment(**where), capture_output=True, text=True)
            if run.returncode == 0:
                return run.stdout
            # It listens before it takes connections.
            if run.returncode != 2 or time.monotonic() > give_up:
                raise SystemExit(run.stderr)
            time.sleep(0.1)


class Pooler(Daemon):
    def __init__(self, program, postgres, pool_size=POOL_SIZE):
        super().__init__()
        self.file("hba.conf", HBA)
        self.file("users.txt", '"postgres" ""\n')
        text = self.CONFIG.format(
            port=self.port,
            dir=self.dir,
            pool_size=pool_size,
            server_dir=postgres.dir,
            server_port=postgres.port,
        )
        self.start(program, self.file(self.FILE, text))


class Pgweir(Pooler):
    name = "pgweir"
    CONFIG, FILE = PGWEIR, "pgweir.toml"


class Pgbouncer(Pooler):
    name = "pgbouncer"
    CONFIG, FILE = PGBOUNCER, "pgbouncer.ini"
