// node-postgres: `node node_postgres.js SCENARIO DSN`.
"use strict";

const assert = require("node:assert/strict");
const { pipeline } = require("node:stream/promises");
const { Readable, Writable } = require("node:stream");
const { Client, Pool } = require("pg");
const copy = require("pg-copy-streams");

const CLIENTS = 8;

function options(dsn) {
  const parts = Object.fromEntries(dsn.split(" ").map((part) => part.split("=", 2)));
  return { host: parts.host, port: Number(parts.port), user: parts.user, database: parts.dbname };
}

async function withClient(dsn, work) {
  const client = new Client(options(dsn));
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

function atOnce(dsn, work) {
  const numbers = Array.from({ length: CLIENTS }, (_, number) => number);
  return Promise.all(numbers.map((number) => withClient(dsn, (client) => work(client, number))));
}

async function value(client, ...query) {
  const { rows } = await client.query(...query);
  return Object.values(rows[0])[0];
}

async function prepared(dsn) {
  await atOnce(dsn, async (client, number) => {
    for (let i = 0; i < 50; i++) {
      const text = `select $1::text || '${number % 2}'`;
      const query = { name: "tagged", text, values: [`${number}/${i}`] };
      assert.equal(await value(client, query), `${number}/${i}${number % 2}`);
      const other = { name: `of ${number} ${i % 3}`, text: `select $1::int + ${i % 3}`, values: [i] };
      assert.equal(await value(client, other), i + (i % 3));
      assert.equal(await value(client, "select $1::int", [i]), i);
      assert.equal(await value(client, `select ${i}`), i);
    }
    await assert.rejects(client.query("select 1/$1::int", [0]), { code: "22012" });
  });
}

async function transactions(dsn) {
  await withClient(dsn, (client) =>
    client.query("create table account (id int primary key, n int); insert into account values (0, 0), (1, 0), (2, 0)"));
  await atOnce(dsn, async (client, number) => {
    for (let i = 0; i < 30; i++) {
      await client.query("begin");
      await client.query({ name: "add", text: "update account set n = n + 1 where id = $1", values: [number % 3] });
      await client.query("savepoint a");
      await assert.rejects(client.query("select 1/0"), { code: "22012" });
      await client.query("rollback to savepoint a");
      await client.query("commit");
      await client.query("begin; update account set n = 7 where id = 0");
      await client.query("rollback");
    }
  });
  await withClient(dsn, async (client) => {
    assert.equal(await value(client, "select sum(n)::int from account"), CLIENTS * 30);
  });
}

// Queries are queued without waiting for the answers of those before.
async function queued(dsn) {
  await atOnce(dsn, async (client, number) => {
    const numbers = Array.from({ length: 100 }, (_, i) => i);
    const answers = await Promise.all(
      numbers.map((i) => value(client, { name: "q", text: "select $1::text", values: [`${number}/${i}`] })));
    assert.deepEqual(answers, numbers.map((i) => `${number}/${i}`));
  });
}

async function copying(dsn) {
  await withClient(dsn, (client) => client.query("create table copied (n int, t text)"));
  await atOnce(dsn, async (client, number) => {
    for (let round = 0; round < 3; round++) {
      const lines = Array.from({ length: 300 }, (_, i) => `${number}\ttext ${round}/${i}\n`);
      await pipeline(Readable.from(lines), client.query(copy.from("copy copied from stdin")));
      let out = "";
      const sink = new Writable({ write(chunk, _, done) { out += chunk; done(); } });
      const sql = `copy (select * from copied where n = ${number} and t like 'text ${round}/%') to stdout`;
      await pipeline(client.query(copy.to(sql)), sink);
      assert.deepEqual(out.split("\n").sort(), lines.join("").split("\n").sort());
      const bad = pipeline(Readable.from(["not a number\n"]), client.query(copy.from("copy copied from stdin")));
      await assert.rejects(bad, { code: "22P02" });
    }
  });
  await withClient(dsn, async (client) => {
    assert.equal(await value(client, "select count(*)::int from copied"), CLIENTS * 3 * 300);
  });
}

async function cancel(dsn) {
  await atOnce(dsn, async (client, number) => {
    for (let i = 0; i < 3; i++) {
      if (number % 2) {
        assert.equal(await value(client, "select $1::text from pg_sleep(0.05)", [`${number}/${i}`]), `${number}/${i}`);
        continue;
      }
      let over = false;
      const query = new (require("pg").Query)("select pg_sleep(600)");
      const failed = new Promise((resolve, reject) => {
        query.on("error", resolve);
        query.on("end", () => reject(new Error("not cancelled")));
      }).finally(() => { over = true; });
      client.query(query);
      while (!over) {
        new Client(options(dsn)).cancel(client, query);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      assert.equal((await failed).code, "57014");
      // A late request may hit the next one, or nothing.
      await client.query("select 1").catch((error) => assert.equal(error.code, "57014"));
      assert.equal(await value(client, "select 2"), 2);
    }
  });
}

async function pool(dsn) {
  const pool = new Pool({ ...options(dsn), max: 10 });
  const work = async (number) => {
    for (let i = 0; i < 20; i++) {
      assert.equal(await value(pool, "select $1::int", [number * i]), number * i);
    }
  };
  await Promise.all(Array.from({ length: 20 }, (_, number) => work(number)));
  await pool.end();
}

// Each connection reads what it wrote, in every way that there is.
async function notes(dsn) {
  await withClient(dsn, (client) => client.query("create table notes (id int, n int)"));
  await atOnce(dsn, async (client, number) => {
    const text = "select count(*)::int from notes where id = $1";
    let written = 0;
    const write = () => client.query("insert into notes values ($1, $2)", [number, ++written]);
    const check = async () => {
      const expected = written;
      const found = await Promise.all([
        value(client, text, [number]),
        value(client, { name: "count", text, values: [number] }),
        value(client, text.replace("$1", number)),
      ]);
      assert.deepEqual(found, [expected, expected, expected]);
    };
    for (let i = 0; i < 12; i++) {
      await write();
      await check();
      await new Promise((resolve) => setTimeout(resolve, 150));
      await check();
      await client.query("begin");
      await write();
      await check();
      await client.query("commit");
      await client.query("begin");
      await client.query("delete from notes where id = $1", [number]);
      await client.query("rollback");
      // Queued without waiting for the answers of those before.
      const [, first, , second] = await Promise.all([
        write(), value(client, text, [number]), write(), value(client, text, [number]),
      ]);
      assert.deepEqual([first, second], [written - 1, written]);
      await client.query("begin read only");
      await check();
      await assert.rejects(client.query("insert into notes values (0, 0)"), { code: "25006" });
      await client.query("rollback");
    }
  });
}

// The database pgbouncer, prepared and not.
async function console_(dsn) {
  await withClient(dsn, async (client) => {
    for (const query of ["SHOW POOLS", { name: "pools", text: "SHOW POOLS" }, { text: "SHOW POOLS", values: [] }]) {
      const { rows } = await client.query(query);
      const own = rows.find((row) => row.user === "app");
      assert.equal(own.sv_idle, 1);
      assert.equal(own.load_balance_hosts, null);
    }
    const { rows } = await client.query({ name: "stats", text: "SHOW STATS_TOTALS" });
    assert.deepEqual(rows.filter((row) => row.database !== "pgbouncer").map((row) => row.query_count), ["1"]);
    await assert.rejects(client.query({ name: "x", text: "SHOW NONSENSE" }), { code: "08P01" });
    assert.equal((await client.query({ name: "reload", text: "RELOAD" })).command, "RELOAD");
  });
}

async function listen(dsn) {
  await withClient(dsn, (sender) =>
    atOnce(dsn, async (client, number) => {
      const heard = [];
      client.on("notification", ({ channel, payload }) => heard.push(`${channel} ${payload}`));
      await client.query("listen everybody");
      await client.query(`listen c${number}`);
      for (let i = 0; i < 10; i++) {
        await client.query("select pg_notify($1, $2)", [`c${number}`, `own ${i}`]);
        assert.equal(heard.at(-1), `c${number} own ${i}`);
      }
      const told = new Promise((resolve) => client.once("notification", resolve));
      await sender.query(`notify c${number}, 'from another'`);
      assert.equal((await told).payload, "from another");
      await client.query("unlisten *");
      await client.query(`notify c${number}`);
      assert.equal(heard.length, 11);
    }),
  );
}

const scenarios = { prepared, transactions, queued, copying, cancel, pool, notes, listen, console: console_ };
const [name, dsn] = process.argv.slice(2);
scenarios[name](dsn).then(
  () => console.log("ok"),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
