"""The candidates, and how each is configured for the same job."""

import base64
import dataclasses
import hashlib
import hmac
import os
import shutil
import subprocess

DATABASE = USER = "bench"
PASSWORD = "bench-password"
MAX_CLIENTS = 15_000
PGBOUNCER, OLD = "pgbouncer", "pgweir-old"
RELAY, RELAY_BY_RING = RELAYS = "relay", "relay, io_uring"


@dataclasses.dataclass(frozen=True)
class Candidate:
    name: str
    program: str
    workers: int = 1

    # pgweir's setting.
    io_uring: str = "auto"

    @property
    def is_relay(self):
        return self.name in RELAYS

    @property
    def is_pgweir(self):
        return self.name != PGBOUNCER and not self.is_relay

    def may_refuse(self, setup):
        """Whether a binary may lack what is asked for, and is left out with a note then."""
        return self.is_pgweir and (self.workers != 1 or setup.tls)


@dataclasses.dataclass(frozen=True)
class Setup:
    pool_size: int = 20
    auth_type: str = "trust"
    tls: bool = False
    # What the poolers know of the user is a SCRAM verifier, and not the password.
    verifier: bool = False
    # 0: the one database. Else so many, numbered from 0, that are the same one to the server.
    databases: int = 0
    # Reads are routed (pgweir only) to so many replicas; None: they are not.
    replicas: int | None = None
    # Where the metrics are (pgweir only).
    metrics_port: int | None = None

    def __str__(self):
        return ("TLS, " if self.tls else "") + f"auth_type={self.auth_type}"


def candidates(workers, io_uring="auto"):
    """PgBouncer (the distribution's, or the file PGBOUNCER), PGWEIR with each number of workers, and PGWEIR_OLD if it is set."""
    found = []
    name = os.environ.get("PGBOUNCER", "pgbouncer")
    program = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")
    if not program:
        raise SystemExit(f"error: there is no {name} (apt-get install pgbouncer)")
    found.append(Candidate(PGBOUNCER, os.path.abspath(program)))
    here = os.path.dirname(os.path.abspath(__file__))
    pgweir = os.environ.get("PGWEIR", os.path.normpath(f"{here}/../../target/release/pgweir"))
    found += [Candidate(f"pgweir workers={n}", os.path.abspath(pgweir), n, io_uring) for n in workers]
    if old := os.environ.get("PGWEIR_OLD"):
        found.append(Candidate(OLD, os.path.abspath(old)))
    return found


def relays():
    """The least that a pooler can be, without io_uring and with it: benches/load/src/bin/relay.rs."""
    return [Candidate(name, os.environ["RELAY"]) for name in (RELAY, RELAY_BY_RING)]


def configure(stand, candidate, setup, port):
    """Writes the configuration and returns the command."""
    if candidate.is_relay:
        options = ("--server", stand.direct.port, "--connections", setup.pool_size, "--user", USER, "--database", DATABASE)
        if candidate.name == RELAY_BY_RING:
            options += ("--io-uring",)
        return [candidate.program, "--port", port, *options]
    if candidate.is_pgweir:
        name = candidate.name.replace(" ", "-")
        return [candidate.program, "run", stand.write(f"{name}.toml", pgweir_toml(stand, candidate, setup, port))]
    return [candidate.program, stand.write("pgbouncer.ini", pgbouncer_ini(stand, candidate, setup, port))]


def names(setup):
    return [f"{DATABASE}{n}" for n in range(setup.databases)] or [DATABASE]


def pgbouncer_ini(stand, candidate, setup, port):
    server = f"host=127.0.0.1 port={stand.direct.port} dbname={DATABASE} pool_size={setup.pool_size}"
    users = stand.write("users.txt", f'"{USER}" "{secret(setup)}"\n')
    lines = [
        "[databases]",
        *(f"{name} = {server}" for name in names(setup)),
        "[pgbouncer]",
        "listen_addr = 127.0.0.1",
        f"listen_port = {port}",
        "unix_socket_dir =",
        "pool_mode = transaction",
        f"auth_type = {setup.auth_type}",
        f"auth_file = {users}",
        f"stats_users = {USER}",
        f"max_client_conn = {MAX_CLIENTS}",
        "server_tls_sslmode = disable",
        "log_connections = 0",
        "log_disconnections = 0",
        "log_stats = 0",
    ]
    if follows_prepared_statements(version_of(candidate.program)):
        lines.append("max_prepared_statements = 200")
    if setup.tls:
        key, certificate = stand.certificate()
        lines += ["client_tls_sslmode = require", f"client_tls_key_file = {key}", f"client_tls_cert_file = {certificate}"]
    return "\n".join(lines) + "\n"


def pgweir_toml(stand, candidate, setup, port):
    lines = [
        "[pgweir]",
        f"workers = {candidate.workers}",
        *([] if candidate.io_uring == "auto" else [f'io_uring = "{candidate.io_uring}"']),
        'listen_addr = "127.0.0.1"',
        f"listen_port = {port}",
        'unix_socket_dir = ""',
        'pool_mode = "transaction"',
        f'auth_type = "{setup.auth_type}"',
        f'stats_users = ["{USER}"]',
        f"max_client_conn = {MAX_CLIENTS}",
        'server_tls_sslmode = "disable"',
        "log_connections = false",
        "log_disconnections = false",
        "log_stats = false",
    ]
    if setup.tls:
        key, certificate = stand.certificate()
        lines += ['client_tls_sslmode = "require"', f'client_tls_key_file = "{key}"', f'client_tls_cert_file = "{certificate}"']
    if setup.metrics_port:
        lines.append(f'stats_listen = "127.0.0.1:{setup.metrics_port}"')
    servers = [stand.direct, *stand.replicas(setup.replicas or 0)]
    hosts = ", ".join(f'{{ host = "127.0.0.1", port = {server.port} }}' for server in servers)
    for name in names(setup):
        lines += [
            f"[databases.{name}]",
            f"hosts = [{hosts}]",
            *(["route_reads = true"] if setup.replicas is not None else []),
            f'dbname = "{DATABASE}"',
            f"pool_size = {setup.pool_size}",
        ]
    lines += [f"[users.{USER}]", f'password = "{secret(setup)}"']
    return "\n".join(lines) + "\n"


def secret(setup):
    """What PostgreSQL would keep of the password (src/common/scram-common.c), or the password."""
    if not setup.verifier:
        return PASSWORD
    salt, iterations = b"salt of sixteen.", 4096
    salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), salt, iterations)
    client, server = (hmac.digest(salted, name, "sha256") for name in (b"Client Key", b"Server Key"))
    parts = (base64.b64encode(part).decode() for part in (salt, hashlib.sha256(client).digest(), server))
    return "SCRAM-SHA-256${}:{}${}:{}".format(iterations, *parts)


def version_of(program):
    """The first line of `--version`, e.g. `PgBouncer 1.18.0`."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True)
    return done.stdout.splitlines()[0].strip() if done.stdout else program


def follows_prepared_statements(pgbouncer_version):
    """PgBouncer does so in transaction mode since 1.21."""
    numbers = pgbouncer_version.split()[-1].split(".")
    return [int(n) for n in numbers[:2]] >= [1, 21]
