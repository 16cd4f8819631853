"""noise.py PORT DATABASE: clients that keep a pool's connections going round.

They share user and database with the suite, so that its pool is theirs; they
have settings, statements and channels of their own, which nobody else may see.
"""

import asyncio
import os
import random
import sys

import asyncpg

CLIENTS = 3
# At most so many transactions a second from each: the suite shall have the CPU.
RATE = 40

SETTINGS = {
    "application_name": "noise",
    "bytea_output": "escape",
    "datestyle": "German, DMY",
    "extra_float_digits": "0",
    "intervalstyle": "sql_standard",
    "search_path": "noise_of_others",
    "timezone": "Asia/Kathmandu",
}


async def client(number, port, database):
    # They start when the database is there, and come back when it is.
    while True:
        try:
            connection = await asyncpg.connect(
                host="127.0.0.1", port=port, user="postgres", database=database
            )
            try:
                await transactions(connection, number)
            finally:
                connection.terminate()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await asyncio.sleep(0.2)


async def transactions(connection, number):
    # The first lives as most applications do: with no settings at all.
    for name, value in SETTINGS.items() if number else ():
        await connection.execute(f"SET {name} = '{value}'")
    while True:
        async with connection.transaction():
            await connection.fetchval("SELECT $1::int + count(*) FROM pg_class", number)
            await connection.execute("SELECT pg_sleep(0.003)")
        await asyncio.sleep(random.uniform(0.5, 1.5) / RATE)


async def main():
    parent = os.getppid()
    port, database = int(sys.argv[1]), sys.argv[2]
    for number in range(CLIENTS):
        asyncio.ensure_future(client(number, port, database))
    while os.getppid() == parent:
        await asyncio.sleep(1)


asyncio.run(main())
