use super::*;

fn policy(reads: Reads, rules: &[RuleEntry]) -> Policy {
    let catalog = Arc::new(Catalog::assuming_plain_tables());
    Policy::new(reads, rules, (1, catalog))
}

fn on_table(table: &str, role: Reads) -> RuleEntry {
    RuleEntry {
        table: Some(table.to_owned()),
        role: Some(role),
        ..RuleEntry::default()
    }
}

/// What PostgreSQL reports, and these on top.
fn params(more: &[(&str, &str)]) -> Rc<Params> {
    let mut params = Params::default();
    params.set(b"client_encoding", b"UTF8", true);
    params.set(b"standard_conforming_strings", b"on", true);
    for (name, value) in more {
        params.set(name.as_bytes(), value.as_bytes(), false);
    }
    Rc::new(params)
}

fn plan(policy: &mut Policy, sql: &str) -> (Purpose, Reads) {
    asking(policy, sql, None)
}

fn asking(policy: &mut Policy, sql: &str, asked: Option<Reads>) -> (Purpose, Reads) {
    // The second time from memory.
    let params = params(&[]);
    let plan = policy.plan(sql.as_bytes(), &params, asked);
    assert_eq!(policy.plan(sql.as_bytes(), &params, asked), plan);
    (plan.purpose, plan.role)
}

#[test]
fn what_is_not_proved_to_read_goes_to_the_primary_whatever_is_asked() {
    for reads in [Reads::Replica, Reads::Any] {
        let rule = RuleEntry {
            role: Some(reads),
            ..RuleEntry::default()
        };
        let mut policy = policy(reads, &[rule]);
        for sql in [
            "insert into t values (1)",
            "/* pgweir: role=replica */ update t set a = 1",
            "/* pgweir: role=any */ select nextval('s')",
            "select f()",
            "set work_mem = 1",
            "begin",
            "begin read write",
            "commit",
            "show work_mem",
            "select 1; delete from t",
        ] {
            for asked in [None, Some(Reads::Replica), Some(Reads::Any)] {
                let (purpose, _) = asking(&mut policy, sql, asked);
                assert_eq!(purpose, Purpose::Other, "{sql}");
            }
        }
        assert_eq!(plan(&mut policy, "select 1"), (Purpose::Read, reads));
        assert_eq!(plan(&mut policy, ""), (Purpose::Read, reads));
        let begin = plan(&mut policy, "begin read only");
        assert_eq!(begin, (Purpose::BeginReadOnly, reads));
    }
}

#[test]
fn hint_before_session_before_rule_before_setting() {
    use Reads::{Any, Primary, Replica};
    let mut policy = policy(Any, &[on_table("t", Replica)]);
    let (plain, ruled) = ("select 1", "select 1 from t");
    let hinted = "/* pgweir: role=primary */ select 1 from t";
    assert_eq!(asking(&mut policy, plain, None), (Purpose::Read, Any));
    assert_eq!(asking(&mut policy, ruled, None), (Purpose::Read, Replica));
    assert_eq!(asking(&mut policy, ruled, Some(Any)), (Purpose::Read, Any));
    assert_eq!(
        asking(&mut policy, ruled, Some(Primary)),
        (Purpose::Other, Primary)
    );
    assert_eq!(
        asking(&mut policy, hinted, Some(Replica)),
        (Purpose::Other, Primary)
    );
    let hinted = "/* pgweir: role=replica */ begin read only";
    let expected = (Purpose::BeginReadOnly, Replica);
    assert_eq!(asking(&mut policy, hinted, Some(Primary)), expected);
}

#[test]
fn why_the_primary_has_a_read_is_told() {
    use Reads::{Any, Primary, Replica};
    let mut policy = policy(Any, &[on_table("t", Primary)]);
    for (sql, asked, kept) in [
        ("select 1", None, None),
        ("select 1", Some(Primary), Some(Kept::Policy)),
        ("select 1 from t", None, Some(Kept::Policy)),
        ("begin read only", Some(Primary), Some(Kept::Policy)),
        (
            "/* pgweir: role=primary */ select 1",
            Some(Replica),
            Some(Kept::Hint),
        ),
        ("select no_such_function()", None, Some(Kept::Unproved)),
        (
            "select no_such_function()",
            Some(Primary),
            Some(Kept::Unproved),
        ),
        // These have nowhere else to go.
        ("insert into t values (1)", Some(Primary), None),
        ("/* pgweir: role=primary */ begin", None, None),
    ] {
        let plan = policy.plan(sql.as_bytes(), &params(&[]), asked);
        assert_eq!(plan.kept, kept, "{sql}");
    }
}

#[test]
fn what_is_remembered_follows_catalog_and_configuration() {
    let mut policy = policy(Reads::Replica, &[]);
    let sql = "select 1 from t";
    assert_eq!(plan(&mut policy, sql), (Purpose::Read, Reads::Replica));
    policy.follow(1, || panic!("the same catalog"));
    policy.follow(2, || Arc::new(Catalog::of_postgresql()));
    let found = policy.plan(sql.as_bytes(), &params(&[]), None);
    assert_eq!(
        (found.purpose, found.kept),
        (Purpose::Other, Some(Kept::Unproved))
    );
    policy.follow(3, || Arc::new(Catalog::assuming_plain_tables()));
    policy.reconfigure(Reads::Any, &[on_table("t", Reads::Primary)]);
    assert_eq!(plan(&mut policy, sql), (Purpose::Other, Reads::Primary));
    assert_eq!(
        plan(&mut policy, "select 1 from u"),
        (Purpose::Read, Reads::Any)
    );
}

#[test]
fn what_a_replica_has_refused_stays_on_the_primary() {
    let mut policy = policy(Reads::Replica, &[]);
    assert_eq!(plan(&mut policy, "select 1").0, Purpose::Read);
    policy.refused(b"select 1");
    assert_eq!(plan(&mut policy, "select 1").0, Purpose::Other);
    assert_eq!(plan(&mut policy, "select a").0, Purpose::Read);
    // What differs only in integers is the same statement.
    assert_eq!(plan(&mut policy, "select 2").0, Purpose::Other);
}

#[test]
fn a_mistake_in_a_hint_is_told_once_and_has_no_effect() {
    let mut policy = policy(Reads::Replica, &[]);
    let params = params(&[]);
    for n in 0..3 {
        let sql = format!("/* pgweir: role=master */ select {n}");
        let plan = policy.plan(sql.as_bytes(), &params, None);
        assert_eq!((plan.purpose, plan.mistaken), (Purpose::Read, true));
        assert_eq!(policy.plan(sql.as_bytes(), &params, None), plan);
    }
    let mistake = policy.mistake().map(ToString::to_string);
    let told = "hint role=\"master\" is not known; there are: replica, primary, any";
    assert_eq!(mistake.as_deref(), Some(told));
    assert_eq!(policy.mistake(), None);
    for n in 0..1000 {
        let sql = format!("/* pgweir: role={n} */ select 1");
        policy.plan(sql.as_bytes(), &params, None);
    }
    let told = std::iter::from_fn(|| policy.mistake().cloned()).count();
    assert_eq!(told, MISTAKES - 1);
    assert!(!policy.plan(b"select 1", &params, None).mistaken);
}

#[test]
fn sessions_that_are_serializable_stay_on_the_primary() {
    let mut policy = policy(Reads::Replica, &[]);
    let usual = params(&[]);
    let serializable = params(&[("default_transaction_isolation", "Serializable")]);
    for (sql, plain, isolated) in [
        ("select 1", Purpose::Read, Purpose::Other),
        ("begin read only", Purpose::BeginReadOnly, Purpose::Other),
        (
            "begin isolation level repeatable read read only",
            Purpose::BeginReadOnly,
            Purpose::BeginReadOnly,
        ),
        (
            "begin isolation level serializable read only",
            Purpose::Other,
            Purpose::Other,
        ),
    ] {
        let of = |policy: &mut Policy, params| policy.plan(sql.as_bytes(), params, None).purpose;
        assert_eq!(of(&mut policy, &usual), plain, "{sql}");
        assert_eq!(of(&mut policy, &serializable), isolated, "{sql}");
    }
}

#[test]
fn a_text_is_read_as_its_session_has_it() {
    let mut policy = policy(Reads::Replica, &[]);
    let text = "select '\\';delete from t--'";
    let off = params(&[("standard_conforming_strings", "off")]);
    for _ in 0..2 {
        assert_eq!(plan(&mut policy, text).0, Purpose::Other);
        assert_eq!(
            policy.plan(text.as_bytes(), &off, None).purpose,
            Purpose::Read
        );
    }
    let sjis = params(&[("client_encoding", "SJIS")]);
    let text = b"select '\x83\\'";
    assert_eq!(policy.plan(text, &sjis, None).purpose, Purpose::Other);
}

#[test]
fn what_writes_nothing_wherever_it_runs() {
    let mut policy = policy(Reads::Primary, &[]);
    let mut harmless = |sql: &str| {
        let plan = policy.plan(sql.as_bytes(), &params(&[]), None);
        plan.harmless
    };
    for sql in [
        "select 1",
        "",
        "show all",
        "begin isolation level serializable, read only",
        "set transaction read write",
        "commit and chain",
        "rollback to a",
    ] {
        assert!(harmless(sql), "{sql}");
    }
    for sql in [
        "insert into t values (1)",
        "begin",
        "begin read write",
        "commit prepared 'a'",
        "set work_mem = 1",
        "select f()",
        "commit; begin",
        "execute a",
    ] {
        assert!(!harmless(sql), "{sql}");
    }
}
