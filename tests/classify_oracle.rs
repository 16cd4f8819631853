//! What is called a read against PostgreSQL's own grammar, by way of pglast
//! (libpg_query).
//!
//! The cases are statements out of PostgreSQL's regression tests and out of the
//! tests of SQL tools, as packages in the registry carry them
//! (`tests/oracle/corpus-requirements.txt`), mutations of these, and queries
//! put together at random, as they are and with one harmless name turned into
//! one that writes. The grammar tells which names a statement looks up;
//! whether it writes by them is said by a catalog that knows some names as
//! harmless, some as writing, and some not at all. `SEED` and `CASES` choose
//! other random cases; `MISSED` prints reads that were not recognised.

#![allow(clippy::unwrap_used)]

#[path = "oracle/mod.rs"]
mod oracle;

use std::collections::{BTreeMap, HashMap};

use oracle::number;
use pgweir::sql::classify::catalog::{Builder, Row};
use pgweir::sql::classify::{Catalog, Kind, Verdict, classify};
use pgweir::sql::shape::shape;
use pgweir::sql::{Dialect, Lexer, TokenKind};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

const OBJECTS: [(&str, &str); 4] = [
    ("functions", "f"),
    ("types", "t"),
    ("relations", "r"),
    ("operators", "o"),
];

/// Names of what writes. They need not be asked for.
const BAD: [&str; 4] = ["bad_f", "bad_t", "bad_r", "!!!"];

/// Words of the grammar that could be names, too: then they are taken for
/// names only if the catalog has them.
const SOFT_FUNCTIONS: &[&str] = &[
    "bernoulli",
    "by",
    "content",
    "cube",
    "document",
    "filter",
    "first",
    "groups",
    "ilike",
    "join",
    "next",
    "operator",
    "over",
    "range",
    "repeatable",
    "rollup",
    "rows",
    "second",
    "sets",
    "similar",
    "system",
    "zone",
];
const SOFT_TYPES: &[&str] = &[
    "by", "content", "document", "escape", "ilike", "like", "ref", "uescape", "value", "zone",
];

#[test]
fn no_write_is_called_a_read() {
    let written = oracle::corpus(&[]);
    assert!(written.len() > 40_000, "the corpus is gone");
    let facts = oracle::answers("classify_oracle.py", &written);
    let catalog = catalog_of(&facts);

    let mut tally = Tally::default();
    let mut names = Names::new(&catalog);
    for (case, fact) in written.iter().zip(&facts) {
        tally.count(case, fact, &mut names);
    }
    tally.report("written");
    assert!(tally.reads > 10_000, "too few reads to prove anything");
    assert!(tally.recognised * 10 >= tally.reads * 9, "{tally:?}");

    let mut rng = StdRng::seed_from_u64(number("SEED", 1));
    let count = number("CASES", 20_000);
    let queries: Vec<&String> = written
        .iter()
        .zip(&facts)
        .filter(|(case, fact)| case.len() < 500 && fact[0]["kind"] == "read")
        .map(|(case, _)| case)
        .collect();
    let mutated: Vec<String> = (0..count)
        .map(|_| mutate(queries.choose(&mut rng).unwrap(), &mut rng))
        .collect();
    let random: Vec<String> = (0..count)
        .map(|n| {
            let sql = Random { rng: &mut rng }.statement();
            match n % 2 {
                0 => sql,
                _ => poison(&sql, &mut rng),
            }
        })
        .collect();
    for (what, cases) in [("mutated", mutated), ("random", random)] {
        let facts = oracle::answers("classify_oracle.py", &cases);
        let mut tally = Tally::default();
        for (case, fact) in cases.iter().zip(&facts) {
            tally.count(case, fact, &mut names);
        }
        tally.report(what);
        assert!(tally.accepted * 10 > cases.len(), "{tally:?}");
        assert!(tally.reads * 20 > cases.len(), "{tally:?}");
        assert!(tally.recognised * 10 >= tally.reads * 9, "{tally:?}");
    }
}

#[derive(Debug, Default)]
struct Tally {
    cases: usize,
    /// Those that the grammar accepts.
    accepted: usize,
    /// Those that only read.
    reads: usize,
    /// Those that were called so.
    recognised: usize,
    /// Why the others were not.
    missed: BTreeMap<String, usize>,
}

impl Tally {
    fn count(&mut self, case: &str, fact: &Value, names: &mut Names<'_>) {
        self.cases += 1;
        // A text that the grammar refuses does nothing, whatever it is called.
        let Some(statements) = fact.as_array() else {
            return;
        };
        self.accepted += 1;
        let verdict = names.verdict(case);
        let reads = !statements.is_empty() && statements.iter().all(|fact| names.reads(fact));
        let called = verdict.kind == Kind::Read;
        // Under its shape a verdict is remembered.
        let mut buffer = Vec::new();
        let shape = shape(case.as_bytes(), &mut buffer);
        let alike = classify(shape, Dialect::default(), names.catalog).kind;
        assert_eq!(alike, verdict.kind, "{case}");
        assert!(
            reads || !called,
            "a write is called a read:\n{case}\n{fact}"
        );
        self.reads += usize::from(reads);
        self.recognised += usize::from(called);
        if reads && !called {
            if std::env::var_os("MISSED").is_some() {
                println!("missed, {verdict}: {case}");
            }
            *self.missed.entry(verdict.to_string()).or_default() += 1;
        }
    }

    fn report(&self, what: &str) {
        let share = 100.0 * self.recognised as f64 / self.reads as f64;
        println!(
            "{what}: {} cases, {} accepted by PostgreSQL's grammar, {} reads; \
             writes called reads: 0; reads recognised: {} ({share:.2} %)",
            self.cases, self.accepted, self.reads, self.recognised
        );
        let mut missed: Vec<_> = self.missed.iter().collect();
        missed.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (reason, count) in missed.iter().take(12) {
            println!("  {count:5} missed, {reason}");
        }
    }
}

/// What the catalog says of single names, asked in statements that hold
/// nothing else.
struct Names<'a> {
    catalog: &'a Catalog,
    usable: HashMap<(String, String), bool>,
}

impl<'a> Names<'a> {
    fn new(catalog: &'a Catalog) -> Self {
        Names {
            catalog,
            usable: HashMap::new(),
        }
    }

    fn verdict<'s>(&self, sql: &'s str) -> Verdict<'s> {
        classify(sql.as_bytes(), Dialect::default(), self.catalog)
    }

    fn reads(&mut self, fact: &Value) -> bool {
        let kinds = OBJECTS.map(|(kind, _)| kind);
        fact["kind"] == "read"
            && kinds.into_iter().chain(["attributes"]).all(|kind| {
                let names = fact[kind].as_array().unwrap();
                names.iter().all(|name| self.is_usable(kind, name))
            })
    }

    fn is_usable(&mut self, kind: &str, name: &Value) -> bool {
        let key = (kind.to_owned(), name.to_string());
        if let Some(&usable) = self.usable.get(&key) {
            return usable;
        }
        let quote = |part: &Value| format!("\"{}\"", part.as_str().unwrap().replace('"', "\"\""));
        let schema = match &name[0] {
            Value::Null => String::new(),
            schema => quote(schema) + ".",
        };
        let (text, name) = (name[1].as_str().unwrap(), quote(&name[1]));
        if BAD.contains(&text) {
            return false;
        }
        let sql = match kind {
            "functions" => format!("select {schema}{name}(1)"),
            "types" => format!("select null::{schema}{name}"),
            "relations" => format!("table {schema}{name}"),
            "operators" => format!("select 1 operator({schema}{text}) 2"),
            _ => format!("select (x).{name}"),
        };
        let read = self.verdict(&sql).kind == Kind::Read;
        let soft = match kind {
            // The last reads, though sometimes what is the server's own.
            "functions" => SOFT_FUNCTIONS.contains(&text) || text == "current_setting",
            "types" => SOFT_TYPES.contains(&text),
            _ => false,
        };
        let unknown = || {
            self.verdict(&sql)
                .reason
                .to_string()
                .ends_with("is not known")
        };
        let usable = read || soft && (text == "current_setting" || unknown());
        self.usable.insert(key, usable);
        usable
    }
}

/// A catalog that knows most of the names, some of them as writing.
fn catalog_of(facts: &[Value]) -> Catalog {
    let mut builder = Builder::default();
    let postgresql = Catalog::of_postgresql();
    let mut own = Names::new(&postgresql);
    let mut add = |object, schema: &str, name: &str, standing| {
        let row = Row {
            object,
            schema,
            name,
            standing,
            definition: None,
        };
        builder.add(row).unwrap();
    };
    for statement in facts.iter().filter_map(Value::as_array).flatten() {
        for (kind, object) in OBJECTS {
            for name in statement[kind].as_array().unwrap() {
                let (schema, text) = (&name[0], name[1].as_str().unwrap());
                let chance: usize = text.bytes().map(usize::from).sum();
                if chance.is_multiple_of(8) || own.is_usable(kind, name) {
                    continue;
                }
                let standing = if chance % 8 == 1 { "v" } else { "i" };
                add(object, schema.as_str().unwrap_or("public"), text, standing);
            }
        }
    }
    for (object, good, bad) in [
        ("f", "good_f", "bad_f"),
        ("t", "good_t", "bad_t"),
        ("r", "good_r", "bad_r"),
        ("o", "+++", "!!!"),
    ] {
        add(object, "public", good, "i");
        add(object, "public", bad, "v");
    }
    builder.build()
}

/// What may come or go where a token ends.
const INSERTED: &[&str] = &[
    "for update",
    "for share",
    "into x",
    ", bad_r",
    ", nobody",
    "join bad_r on true",
    "bad_f(1)",
    ".bad_f",
    "::bad_t",
    "!!! 1",
    "(select 1 from bad_r)",
    "(table nobody)",
    "(with x as (delete from t returning 1) select 1)",
    "as from",
    "as into",
    "distinct",
    "table",
    "not",
    "(",
    ")",
    ",",
    "select",
    "from",
    "nextval('s')",
    "union table bad_r",
    "is",
    "as x",
    "only",
    "lateral",
    ";",
    "; delete from t",
    "with x as (select 1)",
    "bad_t 'x'",
    "over",
    "values (1)",
    "left",
    "'x'",
    "bad_r",
];

/// The statement with tokens taken out, doubled, moved or put in.
fn mutate(sql: &str, rng: &mut StdRng) -> String {
    let mut tokens: Vec<String> = Lexer::new(sql.as_bytes(), Dialect::default())
        .filter(|token| !token.kind.is_comment())
        .map(|token| match token.kind {
            TokenKind::Word if rng.random_bool(0.01) => "bad_f".to_owned(),
            _ => String::from_utf8_lossy(token.text).into_owned(),
        })
        .collect();
    for _ in 0..1 + u32::from(rng.random_ratio(1, 4)) {
        let at = rng.random_range(0..=tokens.len());
        match rng.random_range(0..6) {
            0 if at < tokens.len() => drop(tokens.remove(at)),
            1 if at < tokens.len() => {
                let from = rng.random_range(0..tokens.len());
                tokens[at] = tokens[from].clone();
            }
            _ => tokens.insert(at, (*INSERTED.choose(rng).unwrap()).to_owned()),
        }
    }
    tokens.join(" ")
}

/// The statement with one of its harmless names turned into one that writes.
fn poison(sql: &str, rng: &mut StdRng) -> String {
    let pairs = [("good_", "bad_"), ("+++", "!!!")];
    let harmless: Vec<_> = pairs
        .iter()
        .flat_map(|&(good, bad)| sql.match_indices(good).map(move |found| (found, bad)))
        .collect();
    match harmless.choose(rng) {
        Some(&((at, good), bad)) => format!("{}{bad}{}", &sql[..at], &sql[at + good.len()..]),
        None => sql.to_owned(),
    }
}

/// Queries that the grammar accepts, with something that writes here and there.
struct Random<'a> {
    rng: &'a mut StdRng,
}

impl Random<'_> {
    fn one_of(&mut self, from: &[&str]) -> String {
        (*from.choose(self.rng).unwrap()).to_owned()
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_ratio(percent, 100)
    }

    /// Rarely the bad one of two.
    fn mostly(&mut self, good: &[&str], bad: &[&str]) -> String {
        let from = if self.chance(4) { bad } else { good };
        self.one_of(from)
    }

    fn list(&mut self, of: fn(&mut Self, u32) -> String, depth: u32) -> String {
        let items: Vec<_> = (0..self.rng.random_range(1..3))
            .map(|_| of(self, depth))
            .collect();
        items.join(", ")
    }

    fn statement(&mut self) -> String {
        let depth = self.rng.random_range(1..4);
        let query = self.query(depth);
        match self.rng.random_range(0..20) {
            0 => format!("explain {query}"),
            1 => format!("explain (analyze, costs off) {query}"),
            2 => format!("copy ({query}) to stdout"),
            3 => format!("{query}; {}", self.query(2)),
            _ => query,
        }
    }

    fn query(&mut self, depth: u32) -> String {
        let with = if depth > 0 && self.chance(20) {
            self.with(depth - 1)
        } else {
            String::new()
        };
        let mut query = match self.rng.random_range(0..12) {
            0 => format!("values ({})", self.list(Self::expression, depth)),
            1 => format!("table {}", self.relation()),
            2 if depth > 0 => format!("({})", self.query(depth - 1)),
            _ => self.select(depth),
        };
        if depth > 0 && self.chance(15) {
            let operator = self.one_of(&["union", "union all", "except", "intersect"]);
            query = format!("{query} {operator} {}", self.select(depth - 1));
        }
        if self.chance(20) {
            query += &format!(" order by {}", self.expression(depth));
        }
        if self.chance(10) {
            query += &self.one_of(&[
                " limit 1",
                " offset good_f(1)",
                " fetch first bad_f(1) rows only",
            ]);
        }
        if self.chance(4) {
            query += &self.one_of(&[
                " for update",
                " for no key update of t",
                " for share",
                " for key share",
                " for read only",
            ]);
        }
        with + &query
    }

    fn with(&mut self, depth: u32) -> String {
        let recursive = self.one_of(&["", "", "recursive "]);
        let body = match self.rng.random_range(0..20) {
            0 => "delete from good_r returning x".to_owned(),
            1 => "insert into good_r values (1) returning *".to_owned(),
            _ => self.query(depth),
        };
        let other = self.query(depth);
        let columns = self.one_of(&["", "(a)", " (x, y)"]);
        let kept = self.one_of(&["", "materialized ", "not materialized "]);
        let second = self.one_of(&["c2", "nobody", "bad_r"]);
        format!("with {recursive}c1{columns} as {kept}({body}), {second} as ({other}) ")
    }

    fn select(&mut self, depth: u32) -> String {
        let distinct = self.one_of(&["", "", "", "distinct ", "all ", "distinct on (a, b) "]);
        let mut query = format!("select {distinct}{}", self.list(Self::target, depth));
        if self.chance(3) {
            query += " into new_table";
        }
        if self.chance(85) {
            query += &format!(" from {}", self.list(Self::item, depth));
        }
        for (percent, clause) in [(40, "where"), (15, "group by"), (10, "having")] {
            if self.chance(percent) {
                query += &format!(" {clause} {}", self.expression(depth));
            }
        }
        if self.chance(5) {
            query += " window w as (partition by good_f(a) order by b)";
        }
        query
    }

    fn target(&mut self, depth: u32) -> String {
        let label = match self.rng.random_range(0..20) {
            // These are keywords that may stand as a label.
            0 => self.one_of(&[
                " distinct",
                " table",
                " select",
                " is",
                " values",
                " join",
                " left",
            ]),
            1..5 => self.one_of(&[
                " as from",
                " as into",
                " as \"for\"",
                " as table",
                " as x",
                " x",
            ]),
            _ => String::new(),
        };
        match self.rng.random_range(0..8) {
            0 => "*".to_owned(),
            1 => "t.*".to_owned(),
            _ => self.expression(depth) + &label,
        }
    }

    fn relation(&mut self) -> String {
        let name = self.mostly(
            &[
                "good_r",
                "good_r",
                "public.good_r",
                "pg_class",
                "c1",
                "c2",
                "\"good_r\"",
                "only good_r",
                "GOOD_R",
            ],
            &[
                "bad_r",
                "nobody",
                "public.bad_r",
                "other.good_r",
                "pg_stat_activity",
                "\"GOOD_R\"",
                "c3",
            ],
        );
        // A WITH query of that name may be there or not.
        match name.as_str() {
            "c1" | "c2" if self.chance(70) => "good_r".to_owned(),
            _ => name,
        }
    }

    fn item(&mut self, depth: u32) -> String {
        let alias = self.one_of(&[
            "",
            "",
            " t",
            " as t",
            " as u",
            " t(a, b)",
            " as \"select\"",
            " update",
            " over(a)",
        ]);
        let relation = self.relation();
        if depth == 0 {
            return relation + &alias;
        }
        let inner = depth - 1;
        match self.rng.random_range(0..16) {
            0 => format!("({}){alias}", self.query(inner)),
            1 => format!("lateral ({}) as s(a)", self.query(inner)),
            2 => format!(
                "{}{}",
                self.call(inner),
                self.one_of(&["", " f", " as f(a, b)", " with ordinality as g(x)"])
            ),
            3 => format!("good_f(1) as r(a int, b {})", self.type_name()),
            4 => {
                let (left, right) = (self.item(inner), self.item(inner));
                let kind = self.one_of(&["", "left ", "right outer ", "full ", "inner "]);
                format!("{left} {kind}join {right} on {}", self.expression(inner))
            }
            5 => format!(
                "{} join {} using (a, b) as j",
                self.item(inner),
                self.item(inner)
            ),
            6 => format!(
                "({} cross join {}){}",
                self.item(inner),
                self.item(inner),
                self.one_of(&["", " as q"])
            ),
            7 => format!("{relation} natural join {}", self.item(inner)),
            8 => format!(
                "rows from ({}, good_f(1) as (a {})) as x",
                self.call(inner),
                self.type_name()
            ),
            9 => format!(
                "good_r tablesample {}({})",
                self.mostly(&["system", "bernoulli"], &["bad_f", "nobody"]),
                self.expression(inner)
            ),
            10 => format!(
                "(({}) union ({})) as s",
                self.query(inner),
                self.query(inner)
            ),
            _ => relation + &alias,
        }
    }

    fn call(&mut self, depth: u32) -> String {
        let name = self.mostly(
            &[
                "good_f",
                "lower",
                "count",
                "now",
                "\"good_f\"",
                "pg_catalog.abs",
                "public.good_f",
                "left",
                "Coalesce",
            ],
            &[
                "bad_f",
                "nobody",
                "nextval",
                "public.bad_f",
                "other.good_f",
                "\"Good_f\"",
                "txid_current",
                "is",
                "join",
            ],
        );
        let arguments = self.list(Self::expression, depth);
        format!("{name}({arguments})")
    }

    fn type_name(&mut self) -> String {
        self.mostly(
            &[
                "int",
                "text",
                "numeric(5, 2)",
                "good_t",
                "timestamp with time zone",
                "public.good_t[]",
                "double precision",
            ],
            &["bad_t", "nothing", "public.bad_t", "bad_t[]"],
        )
    }

    fn expression(&mut self, depth: u32) -> String {
        if depth == 0 {
            return self.mostly(
                &[
                    "1",
                    "'x'",
                    "a",
                    "t.b",
                    "$1",
                    "null",
                    "true",
                    "current_date",
                    "E'\\'x'",
                    "$$ from bad_r $$",
                    "\"into\"",
                ],
                &[
                    "t.bad_f",
                    "(t).bad_f",
                    "(t).bad_t",
                    "bad_t 'x'",
                    "t.\"bad_f\".x",
                    "public.bad_t '1'",
                ],
            );
        }
        let inner = depth - 1;
        let (one, two) = (self.expression(inner), self.expression(inner));
        match self.rng.random_range(0..32) {
            0 | 1 => self.call(inner),
            2 => format!(
                "{} filter (where {one}) over (partition by {two})",
                self.call(inner)
            ),
            3 => format!("({one})::{}", self.type_name()),
            4 => format!("cast({one} as {})", self.type_name()),
            5 => {
                let operator = self.mostly(
                    &["+", "||", "@>", "->>", "+++", "="],
                    &["!!!", "operator(public.!!!)", "@?@"],
                );
                format!("({one}) {operator} ({two})")
            }
            6 => format!("({})", self.query(inner)),
            7 => format!("exists ({})", self.query(inner)),
            8 => format!("({one}) in ({})", self.query(inner)),
            9 => format!("array({})", self.query(inner)),
            10 => format!("array[{one}, {two}]"),
            11 => format!("case when {one} then {two} else {one} end"),
            12 => format!("extract(year from {one})"),
            13 => format!("substring({one} from 1 for 2)"),
            14 => format!("({one}) is distinct from ({two})"),
            15 => format!("({one}) is not distinct from {two}"),
            16 => format!("({one}) between ({two}) and 3"),
            17 => format!("({one}) like 'a' escape '!'"),
            18 => format!("date '2020-01-01' + interval '1' day at time zone {one}"),
            19 => format!("trim(both 'x' from {one})"),
            20 => format!("percentile_cont(0.5) within group (order by {one})"),
            21 => format!("({one}).x"),
            22 => format!("xmlelement(name foo, {one})"),
            23 => format!("collation for ({one}) = {two}"),
            24 => format!("xmlserialize(content {one} as {})", self.type_name()),
            25 => format!("json_value({one}, '$.a' returning {})", self.type_name()),
            26 => format!("overlay({one} placing 'x' from 1 for 2)"),
            27 => format!("({one}) not similar to {two} escape '!'"),
            28 => "current_timestamp(2) - interval '1' second(2) is not null".to_owned(),
            29 => format!("{one} = all ({})", self.query(inner)),
            30 => format!("({one}) is json with unique keys"),
            _ => format!("row({one}, {two})"),
        }
    }
}
