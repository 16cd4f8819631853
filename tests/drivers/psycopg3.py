"""psycopg 3: more clients than server connections, each in its own way."""

import asyncio
import threading
import time

import psycopg
from psycopg.rows import scalar_row

import scenario

CLIENTS = 8


def in_threads(work):
    """Runs work(number) for each client at once; the first error is raised."""
    errors = []

    def run(number):
        try:
            work(number)
        except BaseException as error:  # shown by the main thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def prepared(dsn):
    def work(number):
        with psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as conn:
            cur = conn.cursor(row_factory=scalar_row)
            for i in range(60):
                # More statements than one, some with binary parameters.
                sql = f"select %s::int * {i % 5 + 1} + {number % 2}"
                expected = i * (i % 5 + 1) + number % 2
                assert cur.execute(sql, [i], binary=i % 2 == 0).fetchone() == expected
                text = f"{number}/{i}"
                assert cur.execute("select %s::text", [text]).fetchone() == text
            # psycopg sends DEALLOCATE for statements beyond this number.
            conn.prepared_max = 2
            for i in range(20):
                assert cur.execute(f"select %s::int + {i}", [1]).fetchone() == 1 + i

    in_threads(work)


def pipeline(dsn):
    def work(number):
        with psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as conn:
            for round_ in range(5):
                with conn.pipeline():
                    cursors = [
                        conn.execute("select %s::text", [f"{number}/{round_}/{i}"])
                        for i in range(50)
                    ]
                    for i, cursor in enumerate(cursors):
                        assert cursor.fetchone() == (f"{number}/{round_}/{i}",)
                # An error aborts what follows up to the next sync, no more.
                try:
                    with conn.pipeline() as pipe:
                        first = conn.execute("select 1")
                        pipe.sync()
                        conn.execute("select 1/0")
                        third = conn.execute("select 3")
                        pipe.sync()
                        fourth = conn.execute("select 4")
                    raise AssertionError("no error")
                except psycopg.errors.DivisionByZero:
                    pass
                assert first.fetchone() == (1,)
                assert conn.execute("select 5").fetchone() == (5,)
                with conn.pipeline(), conn.transaction():
                    conn.execute("insert into items values (%s)", [number])
                    conn.execute("delete from items where a = %s", [number])

    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("create table items (a int)")
    in_threads(work)
    with psycopg.connect(dsn) as conn:
        assert conn.execute("select count(*) from items").fetchone() == (0,)


def copy(dsn):
    def work(number):
        with psycopg.connect(dsn, autocommit=True) as conn:
            cur = conn.cursor()
            for round_ in range(3):
                rows = [(number, round_, f"text\t{i}\n\\") for i in range(200)]
                with cur.copy("copy copied from stdin") as copying:
                    for row in rows:
                        copying.write_row(row)
                sql = "copy (select * from copied where n = %s and r = %s order by t) to stdout"
                with cur.copy(sql, [number, round_]) as copying:
                    copying.set_types(["int4", "int4", "text"])
                    assert list(copying.rows()) == sorted(rows)
                try:
                    with cur.copy("copy copied from stdin") as copying:
                        copying.write("not a number\n")
                    raise AssertionError("no error")
                except psycopg.errors.InvalidTextRepresentation:
                    pass
                try:
                    with cur.copy("copy copied from stdin") as copying:
                        raise ZeroDivisionError
                except ZeroDivisionError:
                    pass

    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("create table copied (n int, r int, t text)")
    in_threads(work)
    with psycopg.connect(dsn) as conn:
        count = conn.execute("select count(*) from copied").fetchone()
        assert count == (CLIENTS * 3 * 200,), count


def transactions(dsn):
    def work(number):
        with psycopg.connect(dsn, prepare_threshold=0) as conn:
            for i in range(40):
                with conn.transaction():
                    conn.execute("update account set n = n + 1 where id = %s", [number % 3])
                    try:
                        with conn.transaction():
                            conn.execute("update account set n = 7 where id = %s", [number % 3])
                            conn.execute("select 1/0")
                    except psycopg.errors.DivisionByZero:
                        pass
                    with conn.cursor("named") as cur:  # a server-side cursor
                        cur.itersize = 7
                        cur.execute("select * from generate_series(1, 30)")
                        assert sum(row[0] for row in cur) == 465
                try:
                    with conn.transaction():
                        conn.execute("update account set n = 7 where id = %s", [number % 3])
                        raise ZeroDivisionError
                except ZeroDivisionError:
                    pass

    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("create table account (id int primary key, n int)")
        conn.execute("insert into account values (0, 0), (1, 0), (2, 0)")
    in_threads(work)
    with psycopg.connect(dsn) as conn:
        total = conn.execute("select sum(n) from account").fetchone()
        assert total == (CLIENTS * 40,), total


def cancel(dsn):
    def work(number):
        with psycopg.connect(dsn, autocommit=True) as conn:
            for i in range(4):
                if number % 2:
                    tag = f"{number}/{i}"
                    sql = "select %s from pg_sleep(0.05)"
                    assert conn.execute(sql, [tag]).fetchone() == (tag,)
                    continue
                # Again and again: the first may come before the query runs.
                done = threading.Event()

                def keep_cancelling():
                    while not done.is_set():
                        time.sleep(0.05)
                        conn.cancel_safe()

                canceller = threading.Thread(target=keep_cancelling)
                canceller.start()
                try:
                    conn.execute("select pg_sleep(600)")
                    raise AssertionError("not cancelled")
                except psycopg.errors.QueryCanceled:
                    pass
                finally:
                    done.set()
                    canceller.join()
                # One that comes late hits this one or nothing.
                try:
                    conn.execute("select 1")
                except psycopg.errors.QueryCanceled:
                    pass
                assert conn.execute("select 2").fetchone() == (2,)

    in_threads(work)


async def asynchronous(dsn):
    async def work(number):
        async with await psycopg.AsyncConnection.connect(
            dsn, autocommit=True, prepare_threshold=0
        ) as conn:
            for i in range(30):
                tag = f"{number}/{i}"
                cur = await conn.execute("select %s::text", [tag])
                assert await cur.fetchone() == (tag,)
                async with conn.transaction():
                    await conn.execute("set local application_name = 'local'")
                    cur = await conn.execute("select %s::text", [tag])
                    assert await cur.fetchone() == (tag,)

    await asyncio.gather(*(work(number) for number in range(20)))


def notes(dsn):
    """Each connection reads what it wrote, in every way that there is."""

    def work(number):
        read = "select count(*), coalesce(max(n), 0) from notes where id = %s"
        threshold = [None, 0, 3][number % 3]
        with psycopg.connect(dsn, autocommit=True, prepare_threshold=threshold) as conn:
            written = 0

            def write():
                nonlocal written
                written += 1
                return conn.execute("insert into notes values (%s, %s)", [number, written])

            def check():
                assert conn.execute(read, [number]).fetchone() == (written, written)

            for _ in range(12):
                write()
                check()
                time.sleep(0.15)
                check()
                with conn.transaction():
                    write()
                    check()
                try:
                    with conn.transaction():
                        conn.execute("delete from notes where id = %s", [number])
                        raise ZeroDivisionError
                except ZeroDivisionError:
                    check()
                with conn.pipeline() as pipe:
                    write()
                    pipe.sync()
                    first = conn.execute(read, [number])
                    pipe.sync()
                    write()
                    second = conn.execute(read, [number])
                assert first.fetchone() == (written - 1, written - 1)
                assert second.fetchone() == (written, written)
                conn.read_only = True
                with conn.transaction():
                    check()
                    with conn.cursor("named") as cur:  # a server-side cursor
                        cur.itersize = 7
                        cur.execute("select n from notes where id = %s order by n", [number])
                        assert [n for (n,) in cur] == list(range(1, written + 1))
                try:
                    with conn.transaction():
                        conn.execute("insert into notes values (0, 0)")
                    raise AssertionError("no error")
                except psycopg.errors.ReadOnlySqlTransaction:
                    pass
                conn.read_only = None

    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("create table notes (id int, n int)")
    in_threads(work)


def encodings(dsn):
    def work(number):
        encoding = ["latin1", "utf8"][number % 2]
        with psycopg.connect(dsn, autocommit=True, client_encoding=encoding) as conn:
            for _ in range(20):
                assert conn.execute("select %s::text || 'ö'", ["ä"]).fetchone() == ("äö",)
                shown = conn.execute("show client_encoding").fetchone()[0]
                assert shown.lower() == encoding, shown

    in_threads(work)


def role(dsn):
    """pgweir's own setting, which no server knows."""

    def work(number):
        role = ["replica", "primary", "any"][number % 3]
        with psycopg.connect(dsn, autocommit=True, options=f"-c pgweir.role={role}") as conn:

            def shown(**how):
                cur = conn.execute("show pgweir.role", **how)
                assert cur.statusmessage == "SHOW"
                assert cur.description[0].name == "pgweir.role"
                return cur.fetchone()[0]

            for how in [{}, {"prepare": True}, {"binary": True}, {"prepare": True}]:
                assert shown(**how) == role
                assert conn.execute("set pgweir.role to any", prepare=True).statusmessage == "SET"
                assert shown(**how) == "any"
                assert conn.execute("select %s::int", [number]).fetchone() == (number,)
                assert conn.execute("reset pgweir.role").statusmessage == "RESET"
            with conn.pipeline():
                cursors = [conn.execute("show pgweir.role") for _ in range(5)]
                numbers = [conn.execute("select %s::int", [n]) for n in range(5)]
                cursors.append(conn.execute("show pgweir.role"))
            assert [cur.fetchone() for cur in numbers] == [(n,) for n in range(5)]
            assert {cur.fetchone()[0] for cur in cursors} == {role}
            try:
                with conn.transaction():
                    conn.execute("select 1")
                    conn.execute("set pgweir.role to master")
                raise AssertionError("no error")
            except psycopg.errors.InvalidParameterValue as error:
                assert str(error).startswith('invalid value for parameter "pgweir.role": "master"')
            assert shown() == role

    in_threads(work)


def console(dsn):
    """The database pgbouncer: psycopg prepares, and reads text or binary."""
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as conn:
        for binary in [False, True]:
            cur = conn.cursor(binary=binary)
            own = {row[1]: row for row in cur.execute("SHOW POOLS").fetchall()}["app"]
            names = [column.name for column in cur.description]
            assert own[names.index("sv_idle")] == 1, own
            assert own[names.index("load_balance_hosts")] is None, own
            stats = {row[0]: row for row in cur.execute("SHOW STATS_TOTALS").fetchall()}
            counted = [row[3] for name, row in stats.items() if name != "pgbouncer"]
            assert counted == [1], stats
            assert cur.execute("SHOW DNS_HOSTS").fetchall() == []
        try:
            conn.execute("SHOW NONSENSE")
            raise AssertionError("no error")
        except psycopg.Error as error:
            assert error.sqlstate == "08P01", error
        assert conn.execute("RELOAD").statusmessage == "RELOAD"


def listen(dsn):
    """Each hears all, in the order of each sender, and knows its own."""

    ready = threading.Barrier(CLIENTS)

    def work(number):
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute("listen all_of_us")
            heard = []
            own = conn.info.backend_pid
            conn.add_notify_handler(heard.append)
            ready.wait()
            for i in range(20):
                with conn.transaction():
                    conn.execute("select pg_notify('all_of_us', %s)", [f"{number}/{i}"])
                assert f"{number}/{i}" in [note.payload for note in heard], heard
            ready.wait()
            conn.execute("select 1")
            assert len(heard) == 20 * CLIENTS, len(heard)
            for other in range(CLIENTS):
                notes = [n for n in heard if n.payload.startswith(f"{other}/")]
                assert [n.payload for n in notes] == [f"{other}/{i}" for i in range(20)]
                assert all((n.pid == own) == (other == number) for n in notes)
            ready.wait()

    in_threads(work)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("listen a")
        with psycopg.connect(dsn, autocommit=True) as other:
            other.execute("notify a, 'x'")
        notes = list(conn.notifies(timeout=10, stop_after=1))
        assert [(n.channel, n.payload) for n in notes] == [("a", "x")], notes


def schema(dsn):
    """The columns of prepared statements change, by others."""
    with (
        psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as one,
        psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as two,
        psycopg.connect(dsn, autocommit=True) as owner,
    ):
        owner.execute("drop table if exists changing")
        owner.execute("create table changing as select 1 as a")
        for number in range(5):
            for conn in [one, two] * 2:
                row = conn.execute("select * from changing").fetchone()
                assert row == (1, *range(number)), row
                with conn.transaction():
                    assert conn.execute("select * from changing").fetchone() == row
            owner.execute(f"alter table changing add b{number} int default {number}")


scenario.main(
    {
        "prepared": prepared,
        "pipeline": pipeline,
        "copy": copy,
        "transactions": transactions,
        "cancel": cancel,
        "asynchronous": asynchronous,
        "encodings": encodings,
        "notes": notes,
        "listen": listen,
        "role": role,
        "schema": schema,
        "console": console,
    }
)
