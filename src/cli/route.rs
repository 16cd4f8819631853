//! `pgweir route`: where statements would go, and why. It asks no server.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{anyhow, bail};

use super::check::line;
use super::files;
use crate::config::{
    Choice, Config, PoolConfig, PoolMode, ReadConsistency, Reads, Routing, Source, WithoutReplica,
};
use crate::flow::{Params, Purpose, ROLE, role_of};
use crate::route::{Plan, Policy, Rules, hint};
use crate::sql::classify::{Catalog, Kind, Transaction, classify};
use crate::sql::setting::{self, Change};
use crate::sql::{Dialect, Statements};

/// Say where statements of a session would go, and why. Asks no server.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// pgweir.toml or pgbouncer.ini.
    file: PathBuf,
    /// What a client sends, one text after the other; `-`: statements from standard input.
    #[arg(required = true, value_name = "SQL")]
    texts: Vec<String>,
    /// The database that the client is in; needed if there are several.
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// The user that it has logged in as.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    user: String,
    /// The session's `pgweir.role` at its start.
    #[arg(long, value_parser = role)]
    role: Option<Reads>,
}

/// Runs the command: exit code 1 if the database has no route to explain.
pub fn run(mut args: Args) -> anyhow::Result<ExitCode> {
    let config = match files::load(Some(&args.file), &[]) {
        Ok(config) => config,
        Err(mistakes) => bail!("the configuration has mistakes\n{mistakes}"),
    };
    if args.texts == ["-"] {
        let mut input = String::new();
        std::io::stdin().read_to_string(&mut input)?;
        args.texts = statements(&input).map(str::to_owned).collect();
    }
    let text = report(&config, &args)?;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn role(word: &str) -> Result<Reads, String> {
    let words = Reads::WORDS.iter().map(|(word, _)| *word);
    let known = Reads::WORDS.iter().find(|(known, _)| *known == word);
    known
        .map(|(_, role)| *role)
        .ok_or_else(|| format!("there are: {}", words.collect::<Vec<_>>().join(", ")))
}

/// The statements of a text, each with the comments in front of it.
fn statements(text: &str) -> impl Iterator<Item = &str> {
    let mut from = 0;
    Statements::new(text.as_bytes(), Dialect::default()).filter_map(move |statement| {
        let end = statement.start + statement.text.len();
        let before = std::mem::replace(&mut from, end);
        let text = text.get(before..end)?;
        Some(text.trim_start_matches(|c: char| c == ';' || c.is_whitespace()))
    })
}

fn report(config: &Config, args: &Args) -> anyhow::Result<String> {
    let database = database(config, args.database.as_deref())?;
    let pool = config
        .pool(database, &args.user)
        .ok_or_else(|| anyhow!("there is no database \"{database}\""))?;
    let Some(routing) = &pool.routing else {
        return Err(not_routed(config, &pool));
    };
    let hosts: Vec<String> = pool.hosts.iter().map(|host| host.to_string()).collect();
    let mut text = String::new();
    line(
        &mut text,
        "database",
        &format!("{database}: {}", hosts.join(", ")),
    );
    line(
        &mut text,
        "policy",
        &format!(
            "reads={} read_consistency={} reads_without_replica={}",
            routing.reads.word(),
            routing.consistency.word(),
            routing.without_replica.word()
        ),
    );
    line(
        &mut text,
        "assumed",
        "relations, types and operators of any name are ordinary ones: no server was asked",
    );
    let mut client = Client::new(routing, args.role);
    for sql in &args.texts {
        text.push('\n');
        client.sends(&mut text, sql);
    }
    Ok(text)
}

/// The database that is meant.
fn database<'a>(config: &'a Config, named: Option<&'a str>) -> anyhow::Result<&'a str> {
    let names = || config.databases.keys().map(String::as_str);
    match (named, names().next()) {
        (Some(name), _) if config.database(name).is_some() => Ok(name),
        (Some(name), _) => bail!(
            "there is no database \"{name}\"; there are: {}",
            names().collect::<Vec<_>>().join(", ")
        ),
        (None, Some(only)) if names().count() == 1 => Ok(only),
        (None, _) => bail!(
            "say which database is meant by --database; there are: {}",
            names().collect::<Vec<_>>().join(", ")
        ),
    }
}

fn not_routed(config: &Config, pool: &PoolConfig) -> anyhow::Error {
    let name = &pool.database;
    let on = config.database(name).is_some_and(|db| db.route_reads);
    let mut why = Vec::new();
    if !on {
        why.push(match config.source {
            Source::Ini => format!("set route_reads=1 in the line of {name} in [databases]"),
            _ => format!("set route_reads = true in [databases.{name}]"),
        });
    }
    if pool.pool_mode == PoolMode::Session {
        why.push(
            "set pool_mode to transaction: in session mode a client keeps one server connection"
                .to_owned(),
        );
    }
    let state = if on { "on" } else { "off" };
    anyhow!(
        "nothing of database \"{name}\" is routed (route_reads is {state}, pool_mode is {}); {}",
        pool.pool_mode.as_str(),
        why.join("; ")
    )
}

/// A session, as far as it decides where its statements go.
struct Client<'a> {
    routing: &'a Routing,
    policy: Policy,
    catalog: Arc<Catalog>,
    params: Rc<Params>,
    /// Its `pgweir.role` at its start, and now.
    started_with: Option<Reads>,
    asks: Option<Reads>,
    /// A transaction is open.
    inside: bool,
}

impl<'a> Client<'a> {
    fn new(routing: &'a Routing, role: Option<Reads>) -> Client<'a> {
        let catalog = Arc::new(Catalog::assuming_plain_tables());
        let mut params = Params::default();
        params.set(b"client_encoding", b"UTF8", true);
        params.set(b"standard_conforming_strings", b"on", true);
        Client {
            routing,
            policy: Policy::new(routing.reads, &routing.rules, (0, catalog.clone())),
            catalog,
            params: Rc::new(params),
            started_with: role,
            asks: role,
            inside: false,
        }
    }

    fn sends(&mut self, text: &mut String, sql: &str) {
        let shown: Vec<&str> = sql.split_whitespace().collect();
        line(text, "statement", &shown.join(" "));
        if let Some(change) = setting::change_of(sql.as_bytes(), ROLE) {
            self.change_role(change);
            line(text, "place", "none: pgweir answers it itself");
            return;
        }
        let verdict = classify(sql.as_bytes(), Dialect::default(), &self.catalog);
        line(text, "verdict", &verdict.to_string());
        if self.inside {
            line(text, "place", "where its transaction is");
        } else {
            self.decide(text, sql, verdict.kind);
        }
        match verdict.kind {
            Kind::Transaction(Transaction::Begin(_)) => self.inside = true,
            Kind::Transaction(
                Transaction::Commit { chain: false }
                | Transaction::Rollback { chain: false }
                | Transaction::TwoPhase,
            ) => self.inside = false,
            _ => {}
        }
    }

    fn decide(&mut self, text: &mut String, sql: &str, kind: Kind) {
        if let Err(mistake) = hint(sql.as_bytes(), Dialect::default()) {
            line(text, "hint", &format!("has no effect: {mistake}"));
        }
        let plan = self.policy.plan(sql.as_bytes(), &self.params, self.asks);
        if let Kind::Read | Kind::Empty | Kind::Transaction(Transaction::Begin(_)) = kind {
            let reads = format!("{}, says {}", plan.role.word(), self.source(sql));
            line(text, "reads", &reads);
        }
        line(text, "place", &self.place(plan));
    }

    fn change_role(&mut self, change: Change) {
        match change {
            Change::Set(value) => {
                let role = value.map_or(Ok(None), |value| role_of(&value));
                self.asks = role.unwrap_or(self.asks);
            }
            Change::Reset => self.asks = self.started_with,
            Change::SetLocal | Change::Show | Change::Several => {}
        }
    }

    /// What decides where a read may run: see [`Policy::plan`].
    fn source(&self, sql: &str) -> String {
        let (sql, dialect) = (sql.as_bytes(), Dialect::default());
        if hint(sql, dialect).ok().flatten().is_some() {
            return "its hint".to_owned();
        }
        if self.asks.is_some() {
            return ROLE.to_owned();
        }
        let fits = |rule: &&_| {
            let alone = Rules::new(std::slice::from_ref(*rule));
            alone.role(sql, dialect).is_some()
        };
        match self.routing.rules.iter().find(fits) {
            Some(rule) => format!("the rule {rule}"),
            None => "the configuration".to_owned(),
        }
    }

    fn place(&self, plan: Plan) -> String {
        if plan.purpose == Purpose::Other {
            return "primary".to_owned();
        }
        let replica = match self.routing.consistency {
            ReadConsistency::Eventual => "a replica",
            ReadConsistency::Session => "a replica that has what its client wrote before",
            ReadConsistency::Global => "a replica that has every write acknowledged before",
        };
        let place = match (plan.role, self.routing.without_replica) {
            (Reads::Any, _) => format!("any: the primary, or {replica}"),
            (_, WithoutReplica::Primary) => format!("{replica}; without one, the primary"),
            (_, WithoutReplica::Fail) => format!("{replica}; without one, it fails"),
        };
        match plan.purpose {
            Purpose::BeginReadOnly => format!("{place}; with the whole transaction"),
            _ => place,
        }
    }
}

#[cfg(test)]
mod tests;
