"""asyncpg: always the extended protocol, always prepared, binary."""

import asyncio
import datetime
import io
import time

import asyncpg

import scenario

CLIENTS = 8


def connect(dsn, **more):
    parts = scenario.options(dsn)
    return asyncpg.connect(
        host=parts["host"],
        port=int(parts["port"]),
        user=parts["user"],
        database=parts["dbname"],
        ssl="prefer",
        **more,
    )


async def at_once(dsn, work, **more):
    async def run(number):
        conn = await connect(dsn, **more)
        try:
            await work(conn, number)
        finally:
            await conn.close()

    await asyncio.gather(*(run(number) for number in range(CLIENTS)))


async def prepared(dsn):
    async def work(conn, number):
        statement = await conn.prepare("select $1::int * 2, $2::text")
        for i in range(50):
            tag = f"{number}/{i}"
            assert tuple(await statement.fetchrow(i, tag)) == (i * 2, tag)
            # The statement cache closes the oldest: Close messages.
            assert await conn.fetchval(f"select $1::int + {i}", i) == 2 * i
            now = datetime.datetime.now(datetime.timezone.utc)
            assert await conn.fetchval("select $1::timestamptz", now) == now
        try:
            await conn.fetchval("select $1::int / 0", 1)
            raise AssertionError("no error")
        except asyncpg.DivisionByZeroError:
            pass
        assert tuple(await statement.fetchrow(1, "x")) == (2, "x")

    await at_once(dsn, work, statement_cache_size=10)


async def types(dsn):
    conn = await connect(dsn)
    await conn.execute("create type mood as enum ('sad', 'happy'); create type pair as (a int, b mood)")
    await conn.close()

    async def work(conn, number):
        # asyncpg looks the types up with a statement of its own.
        for _ in range(5):
            assert await conn.fetchval("select 'happy'::mood") == "happy"
            assert tuple(await conn.fetchval("select (1, 'sad')::pair")) == (1, "sad")
            assert await conn.fetchval("select array[1, 2]::int[]") == [1, 2]

    await at_once(dsn, work)


async def transactions(dsn):
    conn = await connect(dsn)
    await conn.execute("create table account (id int primary key, n int)")
    await conn.execute("insert into account values (0, 0), (1, 0), (2, 0)")

    async def work(conn, number):
        for i in range(30):
            async with conn.transaction():
                await conn.execute("update account set n = n + 1 where id = $1", number % 3)
                try:
                    async with conn.transaction():
                        await conn.execute("update account set n = 7 where id = $1", number % 3)
                        await conn.execute("select 1/0")
                except asyncpg.DivisionByZeroError:
                    pass
                total = 0
                async for row in conn.cursor("select generate_series(1, 30)", prefetch=7):
                    total += row[0]
                assert total == 465
            try:
                async with conn.transaction(isolation="serializable"):
                    await conn.fetchval("select count(*) from account")
                    raise ZeroDivisionError
            except ZeroDivisionError:
                pass

    await at_once(dsn, work)
    assert await conn.fetchval("select sum(n) from account") == CLIENTS * 30
    await conn.close()


async def pipeline(dsn):
    """executemany: all Bind and Execute messages go out before the Sync."""
    conn = await connect(dsn)
    await conn.execute("create table item (n int, t text)")

    async def work(conn, number):
        rows = [(number, f"text {i}") for i in range(500)]
        await conn.executemany("insert into item values ($1, $2)", rows)
        found = await conn.fetchmany("select $1::int", [(i,) for i in range(100)])
        assert [row[0] for row in found] == list(range(100))
        try:
            await conn.executemany("insert into item values ($1, 1/$1::int)", [(1,), (0,)])
            raise AssertionError("no error")
        except asyncpg.PostgresError:
            pass

    await at_once(dsn, work)
    assert await conn.fetchval("select count(*) from item") == CLIENTS * 500
    await conn.close()


async def copy(dsn):
    conn = await connect(dsn)
    await conn.execute("create table copied (n int, t text)")

    async def work(conn, number):
        rows = [(number, f"text {i}") for i in range(300)]
        for _ in range(3):
            await conn.copy_records_to_table("copied", records=rows)
            out = bytearray()

            async def sink(data):
                out.extend(data)

            sql = "select t from copied where n = $1"
            await conn.copy_from_query(sql, number, output=sink)
            assert out.count(b"\n") % 300 == 0, out.count(b"\n")
            try:
                await conn.copy_to_table("copied", source=io.BytesIO(b"not a number\n"))
                raise AssertionError("no error")
            except asyncpg.PostgresError:
                pass

    await at_once(dsn, work)
    assert await conn.fetchval("select count(*) from copied") == CLIENTS * 3 * 300
    await conn.close()


async def cancel(dsn):
    # PostgreSQL ignores a cancel that comes before it has read the query, as may happen
    # to one that has just waited for a server connection.
    ignored = []

    async def work(conn, number):
        for i in range(4):
            if number % 2:
                tag = f"{number}/{i}"
                assert await conn.fetchval("select $1::text from pg_sleep(0.05)", tag) == tag
                continue
            begun = time.monotonic()
            try:
                await asyncio.wait_for(conn.execute("select pg_sleep(10)"), 0.3)
                raise AssertionError("not cancelled")
            except asyncio.TimeoutError:
                pass
            if time.monotonic() - begun > 9:
                ignored.append(number)
            assert await conn.fetchval("select 2") == 2

    await at_once(dsn, work)
    assert len(ignored) <= 1, ignored


async def pool(dsn):
    """asyncpg's own pool resets a connection with several statements at once."""
    parts = scenario.options(dsn)
    pool = await asyncpg.create_pool(
        host=parts["host"],
        port=int(parts["port"]),
        user=parts["user"],
        database=parts["dbname"],
        min_size=5,
        max_size=10,
    )

    async def work(number):
        for i in range(20):
            async with pool.acquire() as conn:
                assert await conn.fetchval("select $1::int", number * i) == number * i

    await asyncio.gather(*(work(number) for number in range(20)))
    await pool.close()


async def notes(dsn):
    """Each connection reads what it wrote, in every way that there is."""
    conn = await connect(dsn)
    await conn.execute("create table notes (id int, n int)")
    await conn.close()

    async def work(conn, number):
        text = "select count(*), coalesce(max(n), 0) from notes where id = $1"
        prepared = await conn.prepare(text)
        written = 0

        async def write(rows=1):
            nonlocal written
            new = [(number, written + i + 1) for i in range(rows)]
            await conn.executemany("insert into notes values ($1, $2)", new)
            written += rows

        async def check():
            assert tuple(await conn.fetchrow(text, number)) == (written, written)
            assert tuple(await prepared.fetchrow(number)) == (written, written)

        for _ in range(12):
            await write()
            await check()
            await asyncio.sleep(0.15)
            await check()
            async with conn.transaction():
                await write(3)
                await check()
            try:
                async with conn.transaction():
                    await conn.execute("delete from notes where id = $1", number)
                    raise ZeroDivisionError
            except ZeroDivisionError:
                await check()
            async with conn.transaction(readonly=True):
                await check()
                rows = conn.cursor("select n from notes where id = $1 order by n", number, prefetch=7)
                assert [row[0] async for row in rows] == list(range(1, written + 1))
            try:
                async with conn.transaction(readonly=True):
                    await conn.execute("insert into notes values (0, 0)")
                raise AssertionError("no error")
            except asyncpg.ReadOnlySQLTransactionError:
                pass

    await at_once(dsn, work)


async def role(dsn):
    """pgweir's own setting, which no server knows."""

    async def work(conn, number):
        role = ["replica", "primary", "any"][number % 3]
        await conn.execute(f"set pgweir.role = '{role}'")
        shown = await conn.prepare("show pgweir.role")
        for _ in range(10):
            assert await shown.fetchval() == role
            assert await conn.fetchval("show pgweir.role") == role
            assert await conn.fetchval("select $1::int", number) == number
            async with conn.transaction():
                assert await conn.fetchval("select $1::int", number) == number
                assert await shown.fetchval() == role
        try:
            await conn.fetch("set pgweir.role = 'master'")
            raise AssertionError("no error")
        except asyncpg.InvalidParameterValueError as error:
            assert "replica, primary, any, default" in error.hint
        assert await conn.fetch("set pgweir.role = default") == []
        assert await shown.fetchval() == "default"
        # What a pool of asyncpg's runs when a connection comes back.
        await conn.execute(f"set pgweir.role = '{role}'")
        await conn.reset()
        assert await shown.fetchval() == "default"

    await at_once(dsn, work)


async def console(dsn):
    """The database pgbouncer: asyncpg knows the extended protocol only."""
    conn = await connect(dsn)
    own = {row["user"]: row for row in await conn.fetch("SHOW POOLS")}["app"]
    assert own["sv_idle"] == 1 and own["load_balance_hosts"] is None, own
    stats = {row["database"]: row for row in await conn.fetch("SHOW STATS_TOTALS")}
    counted = [int(row["query_count"]) for name, row in stats.items() if name != "pgbouncer"]
    assert counted == [1], stats
    assert (await conn.fetchval("SHOW VERSION")).startswith("PgBouncer ")
    assert await conn.fetch("SHOW DNS_HOSTS") == []
    assert await conn.execute("RELOAD") == "RELOAD"
    try:
        await conn.fetch("SHOW NONSENSE")
        raise AssertionError("no error")
    except asyncpg.PostgresError as error:
        assert error.sqlstate == "08P01", error
    assert len(await conn.fetch("SHOW STATE")) == 3
    await conn.close()


async def listen(dsn):
    """Its add_listener, and a pool whose connections are reset between uses."""
    heard = asyncio.Queue()

    def hear(conn, pid, channel, payload):
        heard.put_nowait((conn.get_server_pid() == pid, channel, payload))

    conn = await connect(dsn)
    await conn.add_listener("News", hear)
    async with conn.transaction():
        await conn.execute("select pg_notify('News', $1)", "own")
        assert heard.empty()
    assert await heard.get() == (True, "News", "own")

    async def work(other, number):
        for i in range(20):
            await other.execute("select pg_notify($1, $2)", "News", f"{number}/{i}")

    await at_once(dsn, work)
    got = [await asyncio.wait_for(heard.get(), 20) for _ in range(20 * CLIENTS)]
    assert all(not own for own, _, _ in got), got
    for number in range(CLIENTS):
        mine = [payload for _, _, payload in got if payload.startswith(f"{number}/")]
        assert mine == [f"{number}/{i}" for i in range(20)], mine
    await conn.remove_listener("News", hear)
    await conn.execute('notify "News"')
    await conn.fetchval("select 1")
    assert heard.empty()
    await conn.close()

    parts = scenario.options(dsn)
    pool = await asyncpg.create_pool(
        host=parts["host"], port=int(parts["port"]), user=parts["user"],
        database=parts["dbname"], min_size=1, max_size=1,
    )
    async with pool.acquire() as conn:
        await conn.execute("listen raw")
    async with pool.acquire() as conn:
        assert await conn.fetch("select pg_listening_channels()") == []
        assert await conn.execute("notify raw") == "NOTIFY"
    await pool.close()


async def schema(dsn):
    """The columns and types of prepared statements change, by others."""
    one, two, owner = [await connect(dsn) for _ in range(3)]
    await owner.execute("drop table if exists changing")
    await owner.execute("create table changing as select 1 as a")
    for number in range(5):
        for conn in [one, two] * 2:
            row = await conn.fetchrow("select * from changing")
            assert tuple(row) == (1, *range(number)), row
            assert await conn.fetchval("update changing set a = $1 returning a", 1) == 1
        await owner.execute(f"alter table changing add b{number} int default {number}")
    await owner.execute("alter table changing alter a type text")
    fresh = await connect(dsn)
    sql = "update changing set a = $1 returning a"
    assert await fresh.fetchval(sql, "word") == "word"
    for conn in [one, two, owner, fresh]:
        await conn.close()


scenario.main(
    {
        "prepared": prepared,
        "types": types,
        "transactions": transactions,
        "pipeline": pipeline,
        "copy": copy,
        "cancel": cancel,
        "pool": pool,
        "notes": notes,
        "listen": listen,
        "role": role,
        "schema": schema,
        "console": console,
    }
)
