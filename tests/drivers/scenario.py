"""What the driver scripts share: `SCRIPT SCENARIO DSN` runs one scenario."""

import asyncio
import inspect
import sys


def options(dsn):
    """The parts of a libpq connection string without quotes."""
    return dict(part.split("=", 1) for part in dsn.split())


def main(scenarios):
    name, dsn = sys.argv[1:3]
    run = scenarios[name]
    if inspect.iscoroutinefunction(run):
        asyncio.run(asyncio.wait_for(run(dsn), 100))
    else:
        run(dsn)
    print("ok")
