//! tokio-postgres: pipelines by nature, since every request is a future.

use std::future::Future;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use futures_util::{SinkExt, StreamExt, TryStreamExt, pin_mut};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use crate::support::{Pooler, Setup};

const CLIENTS: usize = 8;

/// Runs `work` for each client at once, on two server connections that take
/// turns; within a time that a test never needs.
fn at_once<F, T>(prepare: &str, work: F)
where
    F: Fn(Client, usize) -> T + Copy,
    T: Future<Output = ()>,
{
    let pooler = Setup::new()
        .pool_size(2)
        .set("server_round_robin", true)
        .start();
    if !prepare.is_empty() {
        pooler.direct().query(prepare);
    }
    let clients = async {
        join_all((0..CLIENTS).map(async |number| work(connect(&pooler).await, number).await)).await;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    let limit = Duration::from_secs(100);
    runtime.block_on(async { tokio::time::timeout(limit, clients).await.expect("hangs") });
    assert!(pooler.backends().len() <= 2);
}

async fn connect(pooler: &Pooler) -> Client {
    let (client, connection) = tokio_postgres::Config::new()
        .host(pooler.address.host())
        .port(pooler.address.port())
        .user("app")
        .dbname(&pooler.database)
        .connect(NoTls)
        .await
        .expect("connect");
    tokio::spawn(connection);
    client
}

#[test]
fn prepared() {
    at_once("", async |client, number| {
        let statement = client
            .prepare("select $1::int4 * 2, $2::text")
            .await
            .expect("prepare");
        for i in 0..50 {
            let tag = format!("{number}/{i}");
            let row = client
                .query_one(&statement, &[&i, &tag])
                .await
                .expect("query");
            assert_eq!(row.get::<_, i32>(0), i * 2);
            assert_eq!(row.get::<_, String>(1), tag);
            // Prepared, used once and closed when dropped.
            let sql = format!("select $1::int8 + {i}");
            let row = client.query_one(&sql, &[&1_i64]).await.expect("query");
            assert_eq!(row.get::<_, i64>(0), i64::from(i) + 1);
        }
    });
}

#[test]
fn pipelined() {
    at_once("", async |client, number| {
        let statement = client.prepare("select $1::text").await.expect("prepare");
        for round in 0..5 {
            let tags: Vec<_> = (0..100).map(|i| format!("{number}/{round}/{i}")).collect();
            let queries = tags.iter().map(async |tag| {
                let row = client.query_one(&statement, &[tag]).await?;
                Ok::<String, tokio_postgres::Error>(row.get(0))
            });
            assert_eq!(try_join_all(queries).await.expect("queries"), tags);
            // Errors among them stay where they belong.
            let divisors = [1, 0, 2, 0, 5];
            let divide = client
                .prepare("select 10 / $1::int4")
                .await
                .expect("prepare");
            let divisions = divisors.iter().map(async |divisor| {
                let row = client.query_one(&divide, &[divisor]).await;
                row.map(|row| row.get::<_, i32>(0))
                    .map_err(|e| e.code().cloned())
            });
            let zero = Err(Some(SqlState::DIVISION_BY_ZERO));
            let expected = [Ok(10), zero.clone(), Ok(5), zero, Ok(2)];
            assert_eq!(join_all(divisions).await, expected);
        }
    });
}

#[test]
fn types_of_the_catalog() {
    let prepare = "create type mood as enum ('sad', 'happy'); create table t (m mood, a mood[])";
    at_once(prepare, async |client, _| {
        // Preparing this looks the types up, with statements of its own.
        for _ in 0..3 {
            let sql = "select m, a from t where m = $1";
            let statement = client.prepare(sql).await.expect("prepare");
            assert_eq!(statement.params()[0].name(), "mood");
            assert_eq!(statement.columns()[1].type_().name(), "_mood");
        }
    });
}

#[test]
fn transactions_and_portals() {
    at_once("create table t (n int4)", async |mut client, number| {
        let number = number as i32;
        for _ in 0..20 {
            let mut transaction = client.transaction().await.expect("begin");
            let sql = "insert into t values ($1)";
            transaction.execute(sql, &[&number]).await.expect("insert");
            {
                let savepoint = transaction.savepoint("s").await.expect("savepoint");
                savepoint
                    .execute("delete from t", &[])
                    .await
                    .expect("delete");
                savepoint
                    .query("select 1/0", &[])
                    .await
                    .expect_err("division by zero");
                savepoint.rollback().await.expect("rollback");
            }
            let portal = transaction.bind("select generate_series(1, 10)", &[]).await;
            let portal = portal.expect("portal");
            let first = transaction.query_portal(&portal, 4).await.expect("rows");
            let rest = transaction.query_portal(&portal, 0).await.expect("rows");
            assert_eq!((first.len(), rest.len()), (4, 6));
            transaction.rollback().await.expect("rollback");
        }
        // Dropped in the middle: the driver sends ROLLBACK by itself.
        let transaction = client.transaction().await.expect("begin");
        let insert = transaction.execute("insert into t values (1)", &[]);
        insert.await.expect("insert");
        drop(transaction);
        let row = client
            .query_one("select count(*) from t", &[])
            .await
            .expect("count");
        assert_eq!(row.get::<_, i64>(0), 0);
    });
}

#[test]
fn copy() {
    at_once("create table t (n int4, t text)", async |client, number| {
        for round in 0..3 {
            let sink = client.copy_in("copy t from stdin").await.expect("copy");
            pin_mut!(sink);
            for i in 0..200 {
                let line = format!("{number}\t{round}/{i}\n");
                sink.send(bytes::Bytes::from(line)).await.expect("send");
            }
            assert_eq!(sink.finish().await.expect("finish"), 200);

            let sql = format!("copy (select t from t where n = {number}) to stdout");
            let stream = client.copy_out(&sql).await.expect("copy");
            let data: Vec<bytes::Bytes> = stream.try_collect().await.expect("data");
            let lines: usize = data
                .iter()
                .map(|chunk| chunk.iter().filter(|b| **b == b'\n').count())
                .sum();
            assert_eq!(lines, 200 * (round + 1));

            let sink = client.copy_in("copy t from stdin").await.expect("copy");
            pin_mut!(sink);
            let bad = bytes::Bytes::from_static(b"not a number\n");
            sink.send(bad).await.expect("send");
            sink.finish().await.expect_err("refused");
            // Dropped without an end: the driver sends CopyFail.
            let sink = client
                .copy_in::<_, bytes::Bytes>("copy t from stdin")
                .await
                .expect("copy");
            drop(sink);
            // Left in the middle.
            let stream = client
                .copy_out("copy (select generate_series(1, 1000)) to stdout")
                .await;
            let stream = stream.expect("copy");
            pin_mut!(stream);
            stream.next().await.expect("a row").expect("data");
        }
        let sql = format!("select count(*) from t where n = {number}");
        let row = client.query_one(&sql, &[]).await.expect("count");
        assert_eq!(row.get::<_, i64>(0), 600);
    });
}

#[test]
fn cancel() {
    at_once("", async |client, number| {
        for i in 0..4 {
            if number % 2 == 1 {
                let tag = format!("{number}/{i}");
                let sql = "select $1::text from pg_sleep(0.05)";
                let row = client.query_one(sql, &[&tag]).await.expect("undisturbed");
                assert_eq!(row.get::<_, String>(0), tag);
                continue;
            }
            let token = client.cancel_token();
            let query = client.simple_query("select pg_sleep(600)");
            pin_mut!(query);
            // Again and again: the first may come before the query runs.
            let error = loop {
                let pause = tokio::time::sleep(Duration::from_millis(50));
                tokio::select! {
                    result = &mut query => break result.expect_err("cancelled"),
                    () = pause => token.cancel_query(NoTls).await.expect("cancel"),
                }
            };
            let code = error.code();
            assert_eq!(code, Some(&SqlState::QUERY_CANCELED), "{error:?}");
            // As at the server, one that is still under way ends what runs by then.
            while let Err(error) = client.simple_query("select 1").await {
                let code = error.code();
                assert_eq!(code, Some(&SqlState::QUERY_CANCELED), "{error:?}");
            }
        }
    });
}

#[test]
fn dropped_futures() {
    at_once("", async |client, number| {
        for i in 0..20 {
            // The request has been sent; nobody wants the answer.
            let sql = format!("select 'unwanted' from generate_series(1, {i})");
            let unwanted = client.simple_query(&sql);
            let _ = tokio::time::timeout(Duration::ZERO, unwanted).await;
            let tag = format!("{number}/{i}");
            let row = client
                .query_one("select $1::text", &[&tag])
                .await
                .expect("query");
            assert_eq!(row.get::<_, String>(0), tag);
        }
    });
}
