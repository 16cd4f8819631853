"""Tokens as PostgreSQL's own scanner (libpg_query) sees them.

Reads one JSON string per line; writes for each one JSON line: either
{"tokens": [[start, end, name], ...]} with offsets in bytes of the UTF-8 text,
end exclusive, or {"error": message}.
"""

import json
import sys

from pglast.parser import ParseError, scan


def byte_offsets(text):
    offsets = [0]
    for char in text:
        offsets.append(offsets[-1] + len(char.encode()))
    return offsets


def tokens(text):
    offsets = byte_offsets(text)
    return [[offsets[t.start], offsets[t.end + 1], t.name] for t in scan(text)]


def main():
    for line in sys.stdin:
        try:
            answer = {"tokens": tokens(json.loads(line))}
        except ParseError as error:
            answer = {"error": str(error.args[0])}
        print(json.dumps(answer), flush=False)


main()
