"""Statements out of the test data of packages in the registry.

classify_corpus.py DIRECTORY [FILE...]: downloads the source packages that
corpus-requirements.txt names into DIRECTORY, unless they are there, and prints
one JSON string per statement; of these files alone, in their order, if some
are given.
"""

import ast
import json
import pathlib
import re
import subprocess
import sys
import tarfile

from pglast import split
from pglast.parser import ParseError

REQUIREMENTS = pathlib.Path(__file__).with_name("corpus-requirements.txt")
LONGEST = 20_000


def fetch(directory):
    done = directory / "requirements.txt"
    if done.exists() and done.read_text() == REQUIREMENTS.read_text():
        return
    directory.mkdir(parents=True, exist_ok=True)
    for requirement in REQUIREMENTS.read_text().split():
        package = requirement.partition("==")[0]
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", package]
        subprocess.run([*pip, "-d", directory, requirement], check=True, stdout=sys.stderr)
    for archive in directory.glob("*.tar.gz"):
        with tarfile.open(archive) as tar:
            tar.extractall(directory, filter="data")
    done.write_text(REQUIREMENTS.read_text())


def without_psql(text):
    """The text without what only psql reads: its commands and COPY data."""
    lines, data = [], False
    for line in text.splitlines():
        if data:
            data = line != "\\."
            continue
        if not line.startswith("\\"):
            lines.append(re.sub(r"\\(g\w*|;|crosstabview).*$", ";", line))
        data = re.match(r"(?i)copy\b.*\bfrom\s+stdin\b.*;\s*$", line) is not None
    return "\n".join(lines)


def statements(text):
    try:
        yield from split(text, with_parser=False)
    except ParseError:
        yield from re.split(r";\s*\n", text)


def python_strings(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.value


def files(directory, names):
    """The statements of PostgreSQL's regression tests of these names."""
    found = {path.name: path for path in directory.rglob("postgres_regress/*.sql")}
    for name in names:
        yield from statements(without_psql(found[name].read_text()))


def corpus(directory):
    for path in sorted(directory.rglob("*")):
        if path.suffix == ".sql":
            yield from statements(without_psql(path.read_text(errors="replace")))
        elif path.name in ("test_postgres.py", "test_parser.py", "test_optimizer.py"):
            yield from python_strings(path.read_text())


def main():
    directory = pathlib.Path(sys.argv[1])
    fetch(directory)
    names = sys.argv[2:]
    for statement in files(directory, names) if names else dict.fromkeys(corpus(directory)):
        if statement.strip() and "\0" not in statement and len(statement) < LONGEST:
            print(json.dumps(statement))


main()
