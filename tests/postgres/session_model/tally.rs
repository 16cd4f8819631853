//! What has been done.

use std::collections::BTreeMap;
use std::fmt;

use super::step::Step;

#[derive(Default)]
pub struct Tally {
    pub steps: BTreeMap<&'static str, u64>,
    /// How often clients began to keep their server connections, by reason.
    pub pins: BTreeMap<String, u64>,
    /// How often a client got a server connection: the one idle for longest.
    pub assignments: u64,
    /// How often settings were carried over to it.
    pub carried: u64,
}

impl Tally {
    /// `metrics`: what the pooler's stats port says.
    pub fn of(steps: &[Step], metrics: &str) -> Tally {
        let mut tally = Tally::default();
        for step in steps {
            *tally.steps.entry(step.kind).or_default() += 1;
        }
        for line in metrics.lines().filter(|line| !line.starts_with('#')) {
            let Some((sample, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
            let count = || value.parse::<u64>().unwrap();
            match name {
                "pgweir_server_assignments_total" => tally.assignments += count(),
                "pgweir_parameter_syncs_total" => tally.carried += count(),
                "pgweir_pins_total" if count() > 0 => {
                    let (_, reason) = labels.split_once("reason=\"").unwrap();
                    let (reason, _) = reason.split_once('"').unwrap();
                    *tally.pins.entry(reason.to_owned()).or_default() += count();
                }
                _ => {}
            }
        }
        tally
    }

    pub fn add(&mut self, other: Tally) {
        for (kind, count) in other.steps {
            *self.steps.entry(kind).or_default() += count;
        }
        for (reason, count) in other.pins {
            *self.pins.entry(reason).or_default() += count;
        }
        self.assignments += other.assignments;
        self.carried += other.carried;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: u64 = self.steps.values().sum();
        let pins: u64 = self.pins.values().sum();
        writeln!(f, "{steps} steps: {:?}", self.steps)?;
        writeln!(f, "{pins} pins: {:?}", self.pins)?;
        write!(
            f,
            "{} times a client got a server connection, {} times with settings of its own",
            self.assignments, self.carried
        )
    }
}
