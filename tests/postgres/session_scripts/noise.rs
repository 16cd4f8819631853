//! Clients that use the same pool as a script: they make the server connections
//! go round, and do on them all that could leave a trace.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::support::{Address, Failure, Frontend, RawClient};

/// What all of a database can see: locks and objects.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Traces {
    Visible,
    /// For a script that prints them, whoever made them.
    Hidden,
}

/// Makes noise until told to stop; returns what it met that was not its own.
pub fn make(
    address: &Address,
    database: &str,
    number: u64,
    traces: Traces,
    stop: &AtomicBool,
) -> Vec<String> {
    let rounds = match traces {
        Traces::Visible => ROUNDS,
        Traces::Hidden => HIDDEN_ROUNDS,
    };
    let mut random = StdRng::seed_from_u64(number);
    let mut surprises = Vec::new();
    let mut client = None;
    while !stop.load(Ordering::Relaxed) {
        let client = match &mut client {
            Some(client) => client,
            None => match login(address, database, number) {
                Ok(new) => client.insert(new),
                Err(failure) => return vec![format!("login: {}", failure.message())],
            },
        };
        let round = random.random_range(0..rounds);
        surprises.extend(Noise { client, number }.round(round).err());
        std::thread::sleep(Duration::from_micros(random.random_range(0..1500)));
    }
    surprises
}

fn login(address: &Address, database: &str, number: u64) -> Result<RawClient, Failure> {
    let options = format!("-c work_mem={}MB -c app.noise={number}", number + 50);
    let parameters = [
        ("user", "app"),
        ("database", database),
        ("application_name", "noise"),
        ("TimeZone", "Asia/Kolkata"),
        ("options", &options),
    ];
    RawClient::try_login_with(address, &parameters, None)
}

struct Noise<'a> {
    client: &'a mut RawClient,
    number: u64,
}

const ROUNDS: u32 = 12;
/// The first ones, which lock and create nothing.
const HIDDEN_ROUNDS: u32 = 9;

impl Noise<'_> {
    fn round(&mut self, which: u32) -> Result<(), String> {
        let number = self.number;
        match which {
            0 => {
                self.run("set timezone = 'Asia/Tokyo'")?;
                self.expect("show timezone", "Asia/Tokyo")?;
                self.run("reset timezone")?;
                self.expect("show timezone", "Asia/Kolkata")
            }
            1 => {
                self.run("begin; set local search_path = pg_catalog; set datestyle = 'German'")?;
                self.expect("show datestyle", "German, DMY")?;
                self.run("rollback")?;
                self.expect("show datestyle", "ISO, MDY")
            }
            2 => {
                self.run("prepare noise as select 'prepared'")?;
                self.expect("execute noise", "prepared")?;
                self.run("deallocate noise")
            }
            3 => {
                let parse = Frontend::new().parse("s", "select 'of the protocol'");
                self.exchange("parse", &parse.sync(), &[])?;
                let run = Frontend::new().bind("", "s", &[]).execute("", 0);
                self.exchange("execute", &run.sync(), &["of the protocol"])?;
                let close = Frontend::new().close(b'S', "s");
                self.exchange("close", &close.sync(), &[])
            }
            4 => {
                self.run("set app.noise = 'loud'")?;
                self.expect("show app.noise", "loud")?;
                self.run("reset app.noise")?;
                self.expect("show app.noise", &number.to_string())
            }
            5 => {
                self.run("set role app2")?;
                self.expect("select current_user", "app2")?;
                self.run("reset role")?;
                self.expect("select current_user", "app")
            }
            6 => {
                self.run("begin; declare noise cursor with hold for select 'held'; commit")?;
                self.expect("fetch noise", "held")?;
                self.run("close noise")
            }
            7 => {
                self.run("set search_path = noise; set client_encoding = latin1")?;
                self.expect("show search_path", "noise")?;
                self.run("discard all")?;
                self.expect("show work_mem", &format!("{}MB", number + 50))
            }
            8 => {
                self.run("begin")?;
                std::thread::sleep(Duration::from_millis(2));
                self.run("commit")
            }
            9 => {
                self.run("create temp table noise as select 'noise' as made")?;
                self.expect("select made from noise", "noise")?;
                self.run("drop table noise")
            }
            10 => {
                let key = 770_000 + number;
                self.expect(&format!("select pg_try_advisory_lock({key})"), "t")?;
                self.expect(&format!("select pg_advisory_unlock({key})"), "t")
            }
            _ => {
                self.run("do $$ begin create temp table noise_of_do (a int); end $$")?;
                self.expect("select count(*) from noise_of_do", "0")?;
                self.run("discard temp")
            }
        }
    }

    fn run(&mut self, sql: &str) -> Result<(), String> {
        match self.client.try_query(sql).errors().first() {
            None => Ok(()),
            Some(error) => Err(format!("{sql}: {}", error.message())),
        }
    }

    fn expect(&mut self, sql: &str, expected: &str) -> Result<(), String> {
        self.exchange(sql, &Frontend::new().query(sql), &[expected])
    }

    fn exchange(&mut self, what: &str, sent: &Frontend, rows: &[&str]) -> Result<(), String> {
        let answer = self.client.exchange(sent);
        if let Some(error) = answer.errors().first() {
            return Err(format!("{what}: {}", error.message()));
        }
        match answer.column() {
            seen if seen == rows => Ok(()),
            seen => Err(format!("{what}: {seen:?} instead of {rows:?}")),
        }
    }
}
