use super::{mistakes, toml};
use crate::config::{Reads, RuleEntry};

const TEXT: &str = "
[pgweir]
pool_mode = 'transaction'
[databases.app]
route_reads = true
[[databases.app.rules]]
table = 'audit'
role = 'primary'
[[databases.app.rules]]
user = 'bob'
text = \"select * from t where a = 'x' *\"
role = 'Any'
[users.bob]
password = 'p'
";

fn rules(text: &str, user: &str) -> Vec<RuleEntry> {
    let pool = toml(text).pool("app", user).unwrap();
    pool.routing.unwrap().rules
}

#[test]
fn a_user_has_its_own_rules_and_everybodys_in_order() {
    let bob = rules(TEXT, "bob");
    let roles: Vec<_> = bob.iter().map(|rule| rule.role).collect();
    assert_eq!(roles, [Some(Reads::Primary), Some(Reads::Any)]);
    assert_eq!(bob[0].table.as_deref(), Some("audit"));
    assert_eq!(rules(TEXT, "alice"), bob[..1]);
}

#[test]
fn rules_survive_being_written() {
    let text = toml(TEXT).to_toml();
    assert_eq!(rules(&text, "bob"), rules(TEXT, "bob"), "{text}");
}

#[test]
fn mistakes_in_rules_are_told() {
    let with = |rule: &str| format!("{TEXT}[[databases.app.rules]]\n{rule}\n");
    for (rule, expected) in [
        (
            "role = 'master'",
            "`role`: unknown value `master`: one of replica, primary, any",
        ),
        ("table = 't'", "a rule without `role`"),
        ("tabel = 't'\nrole = 'any'", "unknown key `tabel` of a rule"),
        (
            "text = \"select 'a\"\nrole = 'any'",
            "`text`: `select 'a` cannot be read to its end",
        ),
    ] {
        assert_eq!(
            mistakes("p.toml", &with(rule)),
            format!("p.toml:6: `rules`: {expected}")
        );
    }
    let found = mistakes("p.toml", &TEXT.replace("route_reads = true", ""));
    assert_eq!(
        found,
        "p.toml:6: `rules` have no effect without `route_reads`"
    );
    let found = mistakes("p.toml", "databases.a.rules = 1\nusers.u.password = 'p'");
    assert!(found.contains("write [[databases.NAME.rules]]"), "{found}");
    let found = mistakes("p.ini", "[databases]\na = host=h rules=x\n");
    assert!(found.contains("an ini cannot hold rules"), "{found}");
}
