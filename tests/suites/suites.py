"""The suites, each with how to fetch it, prepare its database and run it."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

from servers import environment

HERE = Path(__file__).parent
HOME = HERE.parent.parent / "target/suites"
PYTHON = HOME / "venv/bin/python"
# Of one test, in seconds; most take none.
TIMEOUT = 60
# Of a suite.
LIMIT = 1800


def requirements():
    """Names and versions of the Python packages, in lower case."""
    lines = (HERE / "requirements.txt").read_text().lower().split()
    return dict(re.sub(r"\[.*\]", "", line).split("==") for line in lines)


@dataclass
class Suite:
    name: str
    # The package of a registry in which its tests are.
    package: str
    # The database that it uses, and what the superuser does there first.
    database: str = "postgres"
    prepare: tuple[str, ...] = ()
    # What is not run at all: it starts servers of its own or tests no driver.
    left_out: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    # Some seconds, with nothing but Python and Node: it runs with every test.
    quick: bool = False

    @property
    def dir(self):
        return HOME / "src" / f"{self.package}-{self.version}"

    def env(self, port, **more):
        where = {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "postgres"}
        own = {name: value.format(port=port) for name, value in self.environment.items()}
        return environment(PGDATABASE=self.database, **where, **own, **more)

    def command(self, command, log, env, **more):
        """Runs it; a suite with failures fails, and that is no error yet."""
        with open(log, "wb") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env,
                start_new_session=True, **more,
            )  # fmt: skip
            try:
                process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                print(f"{self.name} takes more than {LIMIT} s", file=sys.stderr)
            finally:
                # Some start programs of their own, which may hang.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


@dataclass
class PythonSuite(Suite):
    """In the source package of a driver whose wheel is installed."""

    # What of the package is copied: without a driver's own code, which would
    # stand before the installed one.
    parts: tuple[str, ...] = ("tests",)

    @property
    def version(self):
        installed = requirements()
        name = self.package.lower()
        return installed.get(name) or installed[f"{name}-binary"]

    def fetch(self):
        if self.dir.exists():
            return
        downloads = HOME / "downloads"
        requirement = f"{self.package}=={self.version}"
        pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"]
        pip += ["--no-deps", "--no-binary", self.package, "-d", downloads, requirement]
        subprocess.run(pip, check=True, stdout=sys.stderr)
        archive = downloads / f"{self.package.lower()}-{self.version}.tar.gz"
        shutil.unpack_archive(archive, downloads)
        unpacked = downloads / archive.name.removesuffix(".tar.gz")
        self.dir.parent.mkdir(parents=True, exist_ok=True)
        copy = self.dir.with_suffix(".new")
        shutil.rmtree(copy, ignore_errors=True)
        for part in self.parts:
            source = unpacked / part
            target = copy / part
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
        shutil.rmtree(unpacked)
        copy.rename(self.dir)


@dataclass
class Pytest(PythonSuite):
    arguments: tuple[str, ...] = ("tests",)

    def run(self, port, log):
        report = log.with_suffix(".xml")
        pytest = [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--timeout={TIMEOUT}"]
        pytest += ["--tb=native", f"--junitxml={report}", "-o", "junit_family=xunit1"]
        for test in self.left_out:
            option = "--deselect" if "::" in test else "--ignore"
            pytest.append(f"{option}={test}")
        pytest += [part.format(port=port) for part in self.arguments]
        self.command(pytest, log, self.env(port), cwd=self.dir)
        return dict(self.outcomes(report)) if report.exists() else {}

    @staticmethod
    def outcomes(report):
        for case in ElementTree.parse(report).iter("testcase"):
            kinds = {child.tag for child in case}
            outcome = "passed"
            if kinds & {"failure", "error"}:
                outcome = "failed"
            elif "skipped" in kinds:
                outcome = "skipped"
            yield f"{case.get('classname')}.{case.get('name')}", outcome


@dataclass
class Django(PythonSuite):
    parts: tuple[str, ...] = ("tests",)
    labels: tuple[str, ...] = ()

    def run(self, port, log):
        report = log.with_suffix(".json")
        report.unlink(missing_ok=True)
        env = self.env(port, PYTHONPATH=str(HERE), DJANGO_REPORT=str(report))
        command = [PYTHON, "runtests.py", "--settings=django_settings", "--parallel=1"]
        command += ["--noinput", "--keepdb", "--timing", *self.labels]
        self.command(command, log, env, cwd=self.dir / "tests")
        return json.loads(report.read_text()) if report.exists() else {}


@dataclass
class Crate(Suite):
    """In a crate."""

    version: str = ""
    arguments: tuple[str, ...] = ()
    # The port that its tests name, and where.
    address: str = ""
    sources: str = "tests/**/*.rs"

    def fetch(self):
        """Cargo fetches it, as a dependency of a package without code."""
        wanted = HOME / "crates"
        (wanted / "src").mkdir(parents=True, exist_ok=True)
        (wanted / "src/lib.rs").touch()
        (wanted / "Cargo.toml").write_text(
            f"""
            package = {{ name = "wanted", edition = "2024" }}
            dependencies = {{ {self.package} = "={self.version}" }}
            workspace = {{}}
            """
        )
        cargo = ["cargo", "metadata", "--format-version=1"]
        metadata = subprocess.run(cargo, cwd=wanted, check=True, stdout=subprocess.PIPE).stdout
        for package in json.loads(metadata)["packages"]:
            if package["name"] == self.package:
                source = Path(package["manifest_path"]).parent
        if not self.dir.exists():
            shutil.copytree(source, self.dir)
            with open(self.dir / "Cargo.toml", "a") as file:
                file.write("\n[workspace]\n")

    def run(self, port, log):
        # What was changed for the last port is changed back.
        for path in self.dir.glob(self.sources) if self.address else ():
            original = path.with_suffix(".rs.original")
            if not original.exists():
                shutil.copy(path, original)
            path.write_text(original.read_text().replace(self.address, str(port)))
        cargo = ["cargo", "test", "-q", "--no-fail-fast", *self.arguments]
        cargo += ["--", "--test-threads=2", "--format=pretty"]
        for test in self.left_out:
            cargo += ["--skip", test]
        env = self.env(port, CARGO_TARGET_DIR=str(HOME / "cargo"))
        self.command(cargo, log, env, cwd=self.dir)
        words = {"ok": "passed", "FAILED": "failed", "ignored": "skipped"}
        found = re.findall(r"^test (\S+)(?: - should panic)? \.\.\. (\w+)", log.read_text(), re.M)
        return {test: words[word] for test, word in found}


@dataclass
class Sqlx(Crate):
    """Its tests need a package that is not published: ours takes its place."""

    def fetch(self):
        super().fetch()
        shutil.copy(HERE / "sqlx_test.toml", self.dir / "Cargo.toml")
        shutil.copy(HERE / "sqlx_test.rs", self.dir)
        # It names another version of Rust than there may be.
        (self.dir / "rust-toolchain.toml").unlink(missing_ok=True)
        self.prepare = ((self.dir / "tests/postgres/setup.sql").read_text(),)


@dataclass
class Node(Suite):
    """In a package that test-drivers.sh has installed under another name; `package`
    is the driver beneath it."""

    modules = HOME / "node/node_modules"

    @property
    def dir(self):
        return self.modules / f"suite-of-{self.name}"

    @property
    def version(self):
        described = [self.dir, self.modules / self.package]
        versions = [json.loads((dir / "package.json").read_text())["version"] for dir in described]
        return "{}, {} {}".format(versions[0], self.package, versions[1])

    def fetch(self):
        pass

    def run(self, port, log):
        report = log.with_suffix(".report")
        report.unlink(missing_ok=True)
        mocha = ["node", self.modules / "mocha/bin/mocha.js", "--exit", "--timeout=60000"]
        mocha += ["--reporter=json", f"--reporter-option=output={report}"]
        # It ends the process at a warning.
        mocha += ["--exclude=test/setup.js"]
        if self.left_out:
            mocha += [f"--grep={'|'.join(map(re.escape, self.left_out))}", "--invert"]
        self.command(mocha, log, self.env(port), cwd=self.dir)
        if not report.exists():
            return {}
        run = json.loads(report.read_text())
        kinds = {"passed": "passes", "failed": "failures", "skipped": "pending"}
        return {test["fullTitle"]: o for o, kind in kinds.items() for test in run[kind]}


@dataclass
class Go(Suite):
    """In a package of the distribution, which holds the source of a module."""

    module: str = ""
    sources = Path("/usr/share/gocode")

    @property
    def version(self):
        query = ["dpkg-query", "-W", "-f", "${source:Upstream-Version}", self.package]
        return subprocess.run(query, check=True, capture_output=True, text=True).stdout

    def fetch(self):
        if not (self.sources / "src" / self.module).is_dir():
            raise SystemExit(f"{self.name} needs: apt-get install golang-go {self.package}")

    def run(self, port, log):
        go = ["go", "test", "-v", "-count=1", "-timeout=600s", self.module]
        if self.left_out:
            go.insert(-1, f"-skip=^({'|'.join(self.left_out)})$")
        home = {"GOPATH": str(self.sources), "GO111MODULE": "off", "GOCACHE": str(HOME / "go")}
        self.command(go, log, self.env(port, **home), cwd=self.sources / "src" / self.module)
        words = {"PASS": "passed", "FAIL": "failed", "SKIP": "skipped"}
        found = re.findall(r"^ *--- (PASS|FAIL|SKIP): (\S+)", log.read_text(), re.M)
        return {test: words[word] for word, test in found}


PGX = "host=127.0.0.1 port={port} user=postgres database=pgx_test"

SUITES = [
    Pytest(
        "asyncpg",
        "asyncpg",
        left_out=(
            "tests/test__sourcecode.py",
            "tests/test__environment.py",
            # Whether the error comes before 4 MB are written is a matter of speed.
            "tests/test_execute.py::TestExecuteMany::test_executemany_server_failure_during_writes",
            # Fails if the garbage of an earlier test is collected while it runs.
            "tests/test_pool.py::TestPool::test_pool_config_persistence",
            # Gives a query 50 ms.
            "tests/test_cancellation.py::TestCancellation::test_cancellation_02",
        ),
    ),
    Pytest(
        "psycopg2",
        "psycopg2",
        database="psycopg2_test",
        prepare=("create extension hstore",),
    ),
    Pytest(
        "pg8000",
        "pg8000",
        quick=True,
        parts=("test",),
        left_out=(
            "test/test_readme.py",
            # The driver's own part of it takes a minute.
            "test/native/test_query.py::test_max_parameters",
            *(
                f"test/{kind}/{part}"
                for kind in ("dbapi", "legacy", "native")
                for part in ("auth", "test_benchmarks.py")
            ),
            # Directly, too, the end of a connection may be a reset.
            *(
                f"test/{kind}/test_connection.py::test_broken_pipe_read"
                for kind in ("dbapi", "legacy", "native")
            ),
        ),
        prepare=("create extension hstore",),
        arguments=("test",),
    ),
    *(
        Pytest(
            f"SQLAlchemy ({driver})",
            "SQLAlchemy",
            parts=("lib", "test", "pyproject.toml", "setup.cfg"),
            database="test",
            prepare=(
                "create schema test_schema",
                "create schema test_schema_2",
                "create extension hstore",
                "create extension citext",
            ),
            left_out=(
                # It asks no database.
                "test/dialect/postgresql/test_compiler.py",
                # 9,000 combinations of ranges.
                "test/dialect/postgresql/test_types.py",
            ),
            arguments=(
                f"--dburi=postgresql+{driver}://postgres@127.0.0.1:{{port}}/test",
                "test/dialect/test_suite.py",
                "test/dialect/postgresql",
                "--maxfail=10000",
            ),
        )
        for driver in ("psycopg2", "psycopg", "asyncpg")
    ),
    Django(
        "Django",
        "Django",
        database="test_django",
        environment={"DJANGO_PORT": "{port}"},
        labels=(
            "backends",
            "postgres_tests",
            "transactions",
            "transaction_hooks",
            "select_for_update",
            "schema",
            "introspection",
            "migrations",
            "multiple_database",
            "inspectdb",
            "bulk_create",
            "db_utils",
            "test_utils",
        ),
    ),
    Node(
        "pg-pool",
        "pg",
        quick=True,
        left_out=(
            # Count after 100 ms, and give a login 100 ms.
            "emits acquire every time a client is acquired",
            "connection timeout",
            # Counts its text in pg_stat_activity, where connections that are idle show
            # their last one.
            "can only send 1 query at a time",
        ),
    ),
    # Gives 1000 round trips 10 s.
    Node("pg-cursor", "pg", quick=True, left_out=("read huge result",)),
    Crate(
        "tokio-postgres",
        "tokio-postgres",
        version="0.7.18",
        address="5433",
        arguments=("--all-features", "--test", "test"),
        prepare=(
            "create role pass_user login password 'password'",
            "set password_encryption = 'md5'",
            "create role md5_user login password 'password'",
            "set password_encryption = 'scram-sha-256'",
            "create role scram_user login password 'password'",
            "create extension hstore",
            "create extension citext",
            "create extension ltree",
        ),
    ),
    Crate(
        "postgres",
        "postgres",
        version="0.19.14",
        address="5433",
        sources="src/test.rs",
        arguments=("--lib",),
    ),
    Crate(
        "deadpool-postgres",
        "deadpool-postgres",
        version="0.14.2",
        arguments=("--features=serde", "--test=postgres"),
        environment={
            "PG__HOST": "127.0.0.1",
            "PG__PORT": "{port}",
            "PG__USER": "postgres",
            "PG__DBNAME": "postgres",
        },
    ),
    Sqlx(
        "sqlx",
        "sqlx",
        version="0.9.0",
        database="sqlx",
        environment={"DATABASE_URL": "postgres://postgres@127.0.0.1:{port}/sqlx"},
    ),
    Go(
        "pgx",
        "golang-github-jackc-pgx-v4-dev",
        module="github.com/jackc/pgx/v4",
        database="pgx_test",
        prepare=("create extension hstore", "create domain uint64 as numeric(20,0)"),
        environment={"PGX_TEST_DATABASE": PGX},
    ),
    Go(
        "pgconn",
        "golang-github-jackc-pgconn-dev",
        module="github.com/jackc/pgconn",
        database="pgx_test",
        environment={"PGX_TEST_CONN_STRING": PGX},
    ),
    Go(
        "lib/pq",
        "golang-github-lib-pq-dev",
        module="github.com/lib/pq",
        database="pqgotest",
        environment={"PGSSLMODE": "disable"},
    ),
]
