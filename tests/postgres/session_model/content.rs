//! What the databases of both sides have, and the settings that clients know.

/// What both databases begin with.
pub const CONTENT: [&str; 17] = [
    "create table kept (a int, b text)",
    "create table planned (a int, b text default 'b')",
    "insert into kept values (1, 'first')",
    "insert into planned values (1, 'one'), (2, 'two')",
    "create sequence numbers",
    "create table counted (n serial, b text)",
    "create schema other",
    "create table other.kept (a int, b text default 'other')",
    "create function hidden_set(v text) returns text language plpgsql as \
     $$ begin perform set_config('app.a', v, false); return v; end $$",
    "create function hidden_table() returns void language plpgsql as \
     $$ begin create temp table if not exists t0 (a int); insert into t0 values (99); end $$",
    "create function hidden_lock(k int) returns void language plpgsql as \
     $$ begin perform pg_try_advisory_lock(k); end $$",
    "create procedure hidden_commit(v text) language plpgsql as \
     $$ begin perform set_config('app.b', v, false); commit; perform 1 / 0; end $$",
    "create procedure two_commits(v text) language plpgsql as \
     $$ begin set local app.a = 'local'; perform set_config('app.b', v, false); commit; \
     perform set_config('app.b', 'rolled back', false); rollback; \
     insert into kept values (6, current_setting('app.a') || v); end $$",
    "create view hidden_view as select set_config('app.b', 'by view', false) as b",
    "create function on_kept() returns trigger language plpgsql as \
     $$ begin if new.a = 13 then perform set_config('app.b', new.b, false); end if; return new; end $$",
    "create trigger t before insert on kept for each row execute function on_kept()",
    "grant all on schema public, other to public; grant all on all tables in schema public to public; \
     grant all on all sequences in schema public to public",
];

/// Settings of applications' own.
pub const CUSTOM: [&str; 2] = ["app.a", "app.b"];

/// Settings, and values for them, of which some are wrong.
pub const SETTINGS: [(&str, &[&str]); 15] = [
    ("work_mem", &["'1MB'", "2048", "'3 MB'", "'lots'"]),
    ("timezone", &["'Asia/Tokyo'", "'UTC'", "'Mars'"]),
    ("datestyle", &["'German'", "'iso, dmy'", "sql"]),
    (
        "search_path",
        &["other", "other, public", "''", "\"$user\", public"],
    ),
    ("application_name", &["'one'", "'two ü'", "''"]),
    ("extra_float_digits", &["0", "1", "77"]),
    ("app.a", &["'x'", "'it''s'", "''"]),
    ("app.b", &["1", "y"]),
    ("statement_timeout", &["'1h'", "0"]),
    ("standard_conforming_strings", &["off", "on"]),
    ("client_encoding", &["latin1", "'utf8'", "klingon"]),
    ("bytea_output", &["escape", "'hex'"]),
    ("intervalstyle", &["iso_8601", "postgres"]),
    ("default_transaction_read_only", &["on", "off", "off"]),
    (
        "default_transaction_isolation",
        &["'repeatable read'", "'read committed'"],
    ),
];

/// What clients may come with.
pub const STARTUP: [(&str, &[&str]); 10] = [
    (
        "options",
        &[
            "-c work_mem=7MB -c app.a=came",
            "--statement-timeout=1h",
            "-c timezone=Asia/Tokyo --DateStyle=sql,dmy -c bytea_output=escape",
            "-c work_mem=lots",
        ],
    ),
    ("search_path", &["other", "other, public"]),
    ("extra_float_digits", &["2"]),
    ("application_name", &["came"]),
    ("TimeZone", &["Europe/Paris", "utc"]),
    ("DateStyle", &["German", "iso, dmy"]),
    ("client_encoding", &["latin1", "UTF8", "'utf-8'"]),
    ("intervalstyle", &["iso_8601"]),
    ("standard_conforming_strings", &["off"]),
    ("default_transaction_isolation", &["repeatable read"]),
];
