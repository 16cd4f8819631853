"""libpq's own connection options: what it makes of each connection string.

`libpq.py connect 'STRING NEWLINE STRING ...'` prints a line for each.
"""

import re

import psycopg

import scenario


def attempt(dsn):
    try:
        with psycopg.connect(dsn, connect_timeout=10) as conn:
            conn.execute("select 1").fetchone()
            status = conn.info.parameter_status
            facts = {
                "ssl": conn.pgconn.ssl_in_use,
                "standby": status("in_hot_standby"),
                "read_only": status("default_transaction_read_only"),
            }
            return " ".join(f"{name}={value}" for name, value in facts.items())
    except psycopg.Error as error:
        # Which address it was is the test's own business.
        return re.sub(r'"[^"]*"|port \d+', "X", str(error)).replace("\n", " ")


def connect(dsns):
    for dsn in dsns.splitlines():
        print(attempt(dsn))


scenario.main({"connect": connect})
