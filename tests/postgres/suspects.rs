//! What leaves something in a session though no text says so is found in the
//! catalog, by whatever way it is used.

use std::time::Instant;

use crate::support::{Cluster, Frontend, Pooler, RawClient, Setup, patiently};

const SUSPECTS: &str = include_str!("../../src/sql/effects/suspects.sql");

fn start() -> Pooler {
    Setup::new().one_worker().pool_size(1).start()
}

/// What the text sets is the client's in its next transaction, and nobody else's.
#[track_caller]
fn expect_carried(client: &mut RawClient, other: &mut RawClient, text: &str, value: &str) {
    client.query("set app.hidden = 'before'");
    client.query(text);
    let theirs = other.value("select coalesce(current_setting('app.hidden', true), '')");
    assert_eq!(theirs, "", "{text}");
    assert_eq!(client.value("show app.hidden"), value, "{text}");
}

#[test]
fn who_leads_to_one_is_one() {
    let pooler = start();
    let mut maker = pooler.login();
    maker.query(
        "create function sets() returns trigger language plpgsql
             as $$ begin perform set_config('app.hidden', tg_table_name, false); return new; end $$;
         create table one_part (a int) partition by list (a);
         create table one_part_1 partition of one_part for values in (1);
         create trigger sets before insert on one_part_1 for each row execute function sets();
         create table all_parts (a int) partition by list (a);
         create table all_parts_1 partition of all_parts for values in (1);
         create trigger sets before insert on all_parts for each row execute function sets();
         create table parent (a int);
         create table child () inherits (parent);
         insert into child values (1);
         create trigger sets before update on child for each row execute function sets();
         create table referred (a int primary key);
         create table refers (a int references referred on delete cascade);
         create trigger sets after delete on refers for each row execute function sets();
         insert into referred values (1);
         insert into refers values (1)",
    );
    maker.query(
        "create function through_a_table() returns void language plpgsql
             as $$ begin insert into one_part values (1); end $$;
         create rule as_well as on insert to parent do also select through_a_table();
         create function \"Odd \"\"name\"\" \u{fc}\"() returns void language sql
             as $$ select set_config('app.hidden', 'odd', false) $$;
         create function overloaded(int) returns int language sql as 'select $1';
         create function overloaded(text) returns text language sql
             as $$ select set_config('app.hidden', $1, false) $$;
         create procedure is_called() language plpgsql
             as $$ begin perform \"Odd \"\"name\"\" \u{fc}\"(); end $$",
    );
    maker.query("select 1");
    let (mut client, mut other) = (pooler.login(), pooler.login());
    for (text, value) in [
        ("insert into one_part values (1)", "one_part_1"),
        ("insert into all_parts values (1)", "all_parts_1"),
        ("update parent set a = 2", "child"),
        ("delete from referred", "refers"),
        ("select through_a_table()", "one_part_1"),
        ("insert into parent values (3)", "one_part_1"),
        ("select \"Odd \"\"name\"\" \u{fc}\"()", "odd"),
        ("select overloaded('text')", "text"),
        ("call is_called()", "odd"),
    ] {
        expect_carried(&mut client, &mut other, text, value);
    }
    // In the client's own encoding.
    let mut latin1 = pooler.login_with(&[("client_encoding", "LATIN1")]);
    latin1.query("set app.hidden = 'before'");
    let odd = b"select \"Odd \"\"name\"\" \xfc\"()\0";
    latin1.exchange(&Frontend::new().message(b'Q', odd));
    assert_eq!(latin1.value("show app.hidden"), "odd");
}

/// A function of an extension is one like others.
#[test]
fn extensions_are_looked_at() {
    let pooler = start();
    pooler.admin().query(
        "create function of_extension() returns text language sql
             as $$ select set_config('app.hidden', 'extension', false) $$;
         alter extension plpgsql add function of_extension()",
    );
    let (mut client, mut other) = (pooler.login(), pooler.login());
    expect_carried(
        &mut client,
        &mut other,
        "select of_extension()",
        "extension",
    );
}

/// 5,000 functions, of which one in fifty sets something and another calls it, 2,000
/// tables with a trigger each and as many views.
const LARGE: &str = "do $$
    declare
        body constant text := 'declare total int; begin select sum(relpages) into total '
            'from pg_class c where c.oid > 7 and c.relname like ''x%%''; '
            'if total is null then return new; end if; '
            'for i in 1..10 loop total := total + i; end loop; %s return new; end';
        use text;
    begin
        for n in 1..5000 loop
            use := case n % 50
                when 0 then 'perform set_config(''app.x'', ''1'', false);'
                when 1 then format('perform f_%s();', n - 1)
            end;
            execute format('create function f_%s() returns trigger language plpgsql as %L',
                n, format(body, use));
        end loop;
        for n in 1..2000 loop
            execute format('create table t_%s (a int default 1, b text)', n);
            execute format('create view v_%s as select a, b, %1$s as c from t_%1$s', n);
            execute format('create trigger tr before insert on t_%s '
                'for each row execute function f_%1$s()', n);
        end loop;
    end $$";

/// `cargo test --test postgres suspects::a_large_schema -- --nocapture` shows how long
/// the server takes.
#[test]
fn a_large_schema_does_not_take_long() {
    let cluster = Cluster::fresh();
    let setup = Setup::with(&cluster).one_worker().pool_size(1);
    let pooler = setup.start();
    let mut maker = pooler.admin();
    maker.query(LARGE);
    maker.query("analyze; set jit = off");
    let begun = Instant::now();
    let found = maker.query(SUSPECTS).rows().len();
    println!("{found} rows in {} ms", begun.elapsed().as_millis());
    assert!((200..1000).contains(&found), "{found}");
    // Ten times what it takes on an idle machine.
    assert!(begun.elapsed().as_secs() < 10);

    maker.query(
        "do $$ begin
             for n in 1..10000 loop
                 execute format('create function g_%s() returns text language sql as %L', n,
                     'select set_config(''app.hidden'', ''g'', false)');
             end loop;
         end $$",
    );
    let (mut client, mut other) = (pooler.login(), pooler.login());
    client.query("select 1");
    let warning = "more than 10000 functions";
    patiently("a warning", || pooler.log().contains(warning).then_some(()));
    expect_carried(&mut client, &mut other, "select g_7()", "g");
}
