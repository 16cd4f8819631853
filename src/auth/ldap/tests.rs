use super::*;

fn search(text: &str) -> Search {
    match Ldap::parse(text).unwrap().bind {
        Bind::Search(search) => search,
        simple => panic!("{simple:?}"),
    }
}

fn problem(text: &str) -> String {
    Ldap::parse(text).unwrap_err().to_string()
}

#[test]
fn a_simple_bind_as_the_manual_has_it() {
    let options =
        r#"ldapserver=ldap.example.net ldapprefix="cn=" ldapsuffix=", dc=example, dc=net""#;
    let ldap = Ldap::parse(options).unwrap();
    assert_eq!(ldap.servers, ["ldap://ldap.example.net:389"]);
    assert!(!ldap.start_tls);
    let Bind::Simple { prefix, suffix } = ldap.bind else {
        panic!("a search");
    };
    assert_eq!(
        Bind::simple_name(&prefix, "ann", &suffix),
        "cn=ann, dc=example, dc=net"
    );
}

#[test]
fn a_search_as_the_manual_has_it() {
    let found = search(
        r#"ldapserver=ldap.example.net ldapbasedn="dc=example, dc=net" ldapsearchattribute=uid
           ldapbinddn="cn=search, dc=example, dc=net" ldapbindpasswd="a ""b""#,
    );
    assert_eq!(found.base, "dc=example, dc=net");
    assert_eq!(found.scope, Scope::Sub);
    assert_eq!(found.binddn, "cn=search, dc=example, dc=net");
    assert_eq!(found.bindpasswd.reveal(), "a \"b");
    assert_eq!(found.filter("ann"), "(uid=ann)");
    let two =
        r#"ldapserver=h ldapbasedn=dc=net ldapsearchfilter="(|(uid=$username)(mail=$username))""#;
    assert_eq!(search(two).filter("ann"), "(|(uid=ann)(mail=ann))");
    assert_eq!(
        search("ldapserver=h ldapbasedn=dc=net ldapsearchfilter=cn=$username").filter("ann"),
        "(cn=ann)"
    );
    assert_eq!(
        search("ldapserver=h ldapbasedn=dc=net").filter("ann"),
        "(uid=ann)"
    );
}

#[test]
fn a_url_stands_for_many_options() {
    let url = r#"ldapurl="ldaps://ldap.example.net:1636/dc=example,dc=net?mail?sub""#;
    assert_eq!(
        Ldap::parse(url).unwrap().servers,
        ["ldaps://ldap.example.net:1636"]
    );
    let found = search(url);
    assert_eq!(
        (found.base.as_str(), found.scope),
        ("dc=example,dc=net", Scope::Sub)
    );
    assert_eq!(found.filter("ann"), "(mail=ann)");

    let filtered = search("ldapurl=ldap://[::1]/dc=a%20b??one?(cn=$username)");
    assert_eq!(
        (filtered.base.as_str(), filtered.scope),
        ("dc=a b", Scope::One)
    );
    assert_eq!(filtered.filter("ann"), "(cn=ann)");
    let six = Ldap::parse("ldapurl=ldap://[::1]/dc=a").unwrap();
    assert_eq!(six.servers, ["ldap://[::1]:389"]);
    assert_eq!(search("ldapurl=ldap://h/dc=a").scope, Scope::Base);
}

#[test]
fn several_servers_and_encryption() {
    let ldap = Ldap::parse(r#"ldapserver="a b" ldapport=1389 ldaptls=1 ldapsuffix=@x"#).unwrap();
    assert_eq!(ldap.servers, ["ldap://a:1389", "ldap://b:1389"]);
    assert!(ldap.start_tls);
    let ldap = Ldap::parse("ldapserver=a ldapscheme=ldaps ldapsuffix=@x").unwrap();
    assert_eq!(ldap.servers, ["ldaps://a:636"]);
}

#[test]
fn a_users_name_cannot_change_a_distinguished_name() {
    let name = |user| Bind::simple_name("uid=", user, ",dc=net");
    assert_eq!(name("ann,ou=admins"), r"uid=ann\,ou\=admins,dc=net");
    assert_eq!(name(r#"a+b;c<d>e"f\"#), r#"uid=a\+b\;c\<d\>e\"f\\,dc=net"#);
    assert_eq!(name("#ann # "), r"uid=\#ann #\ ,dc=net");
    assert_eq!(name(" "), r"uid=\ ,dc=net");
    assert_eq!(name("a\0b"), r"uid=a\00b,dc=net");
    assert_eq!(name("jürgen"), "uid=jürgen,dc=net");
    // A domain's account is no distinguished name.
    assert_eq!(
        Bind::simple_name("", "a+b", "@example.net"),
        "a+b@example.net"
    );
    assert_eq!(Bind::simple_name("CORP\\", "a#b", ""), "CORP\\a#b");
}

#[test]
fn a_users_name_cannot_change_a_filter() {
    let find = search("ldapserver=h ldapbasedn=dc=net");
    assert_eq!(find.filter("*"), r"(uid=\2a)");
    assert_eq!(
        find.filter("ann)(uid=*))(|(uid=*"),
        r"(uid=ann\29\28uid=\2a\29\29\28|\28uid=\2a)"
    );
    assert_eq!(find.filter("a\\2a\0"), r"(uid=a\5c2a\00)");
    // Nor bring in another name.
    assert_eq!(find.filter("$username"), "(uid=$username)");
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (text, expected) in [
        ("", "one of ldapserver and ldapurl is needed"),
        (
            "ldapserver=h",
            "one of ldapprefix, ldapsuffix and ldapbasedn is needed",
        ),
        (
            "ldapserver=h ldapprefix=x ldapbasedn=y",
            "ldapprefix and ldapsuffix cannot be used together with options for a search",
        ),
        (
            "ldapserver=h ldapprefix=x ldapbinddn=y",
            "ldapprefix and ldapsuffix cannot be used together with options for a search",
        ),
        (
            "ldapserver=h ldapbasedn=x ldapsearchfilter=y ldapsearchattribute=z",
            "ldapsearchattribute and ldapsearchfilter cannot be used together",
        ),
        (
            "ldapserver=h ldapbasedn=x ldapport=0",
            "ldapport: `0` is none of 1 to 65535",
        ),
        (
            "ldapserver=h ldapbasedn=x ldapport=70000",
            "ldapport: `70000` is none of 1 to 65535",
        ),
        (
            "ldapserver=h ldapbasedn=x ldaptls=yes",
            "ldaptls: `yes` is none of 0 and 1",
        ),
        (
            "ldapserver=h ldapbasedn=x ldapscheme=ldapi",
            "ldapscheme: `ldapi` is none of ldap and ldaps",
        ),
        (
            "ldapserver=h ldapbasedn=x ldapscheme=ldaps ldaptls=1",
            "ldaptls cannot be used together with ldapscheme=ldaps",
        ),
        ("ldapserver=h/x ldapbasedn=x", "`h/x` is no name of a host"),
        ("ldapserver=u@h ldapbasedn=x", "`u@h` is no name of a host"),
        (
            "ldapurl=http://h/x",
            "ldapurl: `http` is none of ldap and ldaps",
        ),
        ("ldapurl=ldap", "ldapurl: expected ldap://host/basedn"),
        (
            "ldapurl=ldap:///dc=x",
            "one of ldapserver and ldapurl is needed",
        ),
        (
            "ldapurl=ldap://h/dc=x??two",
            "ldapurl: `two` is none of base, one and sub",
        ),
        ("ldapurl=ldap://h/dc=%ff", "ldapurl: not valid UTF-8"),
        ("ldapserver=\"h", "closing quote is missing"),
        (
            "ldapserver=h top secret",
            "expected option=value; a value with blanks goes into double quotes",
        ),
        ("ldapsever=h", "unknown option `ldapsever`"),
    ] {
        assert_eq!(problem(text), expected, "{text}");
    }
}

#[test]
fn the_password_is_shown_to_nobody() {
    let text = r#"ldapserver=h ldapbasedn="dc=a, dc=b" ldapbindpasswd="top secret" ldapbinddn="#;
    assert_eq!(
        masked(text),
        r#"ldapserver=h ldapbasedn="dc=a, dc=b" ldapbindpasswd=*** ldapbinddn="""#
    );
    assert_eq!(masked("ldapbindpasswd=\"x"), "***");
    let ldap = Ldap::parse(text).unwrap();
    assert!(!format!("{ldap:?}").contains("secret"), "{ldap:?}");
}
