//! What the configuration says of single statements.

use crate::config::{Reads, RuleEntry};
use crate::sql::{Dialect, digest};

/// The rules of a database that are for one user, in their order.
#[derive(Clone, Debug, Default)]
pub struct Rules(Vec<Rule>);

#[derive(Clone, Debug)]
struct Rule {
    text: Option<Text>,
    /// Schema and name.
    table: Option<(Option<String>, String)>,
    role: Reads,
}

/// Normalised.
#[derive(Clone, Debug)]
struct Text {
    start: Vec<u8>,
    /// Nothing may follow.
    whole: bool,
}

impl Rules {
    /// One without a role, or with a text that has no end, is left out: the
    /// configuration refuses them.
    pub fn new(entries: &[RuleEntry]) -> Rules {
        Rules(entries.iter().filter_map(Rule::new).collect())
    }

    /// Where the first rule that fits has `sql` run.
    pub fn role(&self, sql: &[u8], dialect: Dialect) -> Option<Reads> {
        let by_text = self.0.iter().any(|rule| rule.text.is_some());
        let normalised = by_text.then(|| digest::normalised(sql, dialect)).flatten();
        let fits = |rule: &&Rule| {
            let text = rule
                .text
                .as_ref()
                .is_none_or(|wanted| normalised.as_ref().is_some_and(|text| wanted.fits(text)));
            let table = rule.table.as_ref().is_none_or(|(schema, table)| {
                digest::names_table(sql, dialect, schema.as_deref(), table)
            });
            text && table
        };
        self.0.iter().find(fits).map(|rule| rule.role)
    }
}

impl Rule {
    fn new(entry: &RuleEntry) -> Option<Rule> {
        let text = entry.text.as_deref().map(Text::new);
        let table = entry
            .table
            .as_deref()
            .map(|name| match name.rsplit_once('.') {
                Some((schema, table)) => (Some(schema.to_owned()), table.to_owned()),
                None => (None, name.to_owned()),
            });
        Some(Rule {
            text: match text {
                Some(text) => Some(text?),
                None => None,
            },
            table,
            role: entry.role?,
        })
    }
}

impl Text {
    fn new(text: &str) -> Option<Text> {
        let start = text.trim_end().strip_suffix('*');
        Some(Text {
            start: digest::normalised(start.unwrap_or(text).as_bytes(), Dialect::default())?,
            whole: start.is_none(),
        })
    }

    fn fits(&self, text: &[u8]) -> bool {
        match self.whole {
            true => text == self.start,
            false => text.starts_with(&self.start),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str, table: &str, role: Reads) -> RuleEntry {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        RuleEntry {
            text: some(text),
            table: some(table),
            role: Some(role),
            ..RuleEntry::default()
        }
    }

    fn role(rules: &[RuleEntry], sql: &str) -> Option<Reads> {
        Rules::new(rules).role(sql.as_bytes(), Dialect::default())
    }

    #[test]
    fn the_first_that_fits_counts() {
        let rules = [
            rule("select a from t where b = $1", "", Reads::Any),
            rule("", "t", Reads::Primary),
            rule("select * from u*", "", Reads::Replica),
        ];
        for (sql, expected) in [
            ("SELECT a FROM t WHERE b=5", Some(Reads::Any)),
            ("select a from t where b = 5 limit 1", Some(Reads::Primary)),
            (
                "select a, b from x join s.t using (b)",
                Some(Reads::Primary),
            ),
            ("select * from u", Some(Reads::Replica)),
            (
                "select * /* all */ from users where id in (1, 2)",
                Some(Reads::Replica),
            ),
            ("select b from u", None),
            ("select * from u where a = 'unfinished", None),
            ("", None),
        ] {
            assert_eq!(role(&rules, sql), expected, "{sql}");
        }
    }

    #[test]
    fn all_that_a_rule_names_must_fit() {
        let rules = [rule("select a *", "s.t", Reads::Primary)];
        assert_eq!(role(&rules, "select a from s.t"), Some(Reads::Primary));
        for sql in ["select b from s.t", "select a from t", "select a from x"] {
            assert_eq!(role(&rules, sql), None, "{sql}");
        }
        assert_eq!(
            role(&[rule("", "", Reads::Any)], "anything"),
            Some(Reads::Any)
        );
        assert_eq!(role(&[], "select 1"), None);
    }
}
