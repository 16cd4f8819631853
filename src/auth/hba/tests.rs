use std::collections::HashMap;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

fn maps() -> IdentMaps {
    IdentMaps::parse("staff root admin\n\"two words\" root all\n").unwrap()
}

fn parse(files: &[(&str, &str)]) -> Result<Hba, Vec<HbaError>> {
    let files: HashMap<PathBuf, &str> = files
        .iter()
        .map(|&(path, text)| (path.into(), text))
        .collect();
    let read = |path: &Path| {
        let text = files.get(path).map(|text| (*text).to_owned());
        text.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    };
    let path = Path::new("/etc/pg/hba");
    Hba::parse(&read(path).unwrap(), path, &maps(), &read)
}

fn rules(text: &str) -> Hba {
    parse(&[("/etc/pg/hba", text)]).unwrap()
}

/// `user@address/database`, `user@local/database`; `+tls`, `+wal`.
fn visit(rules: &Hba, who: &str) -> String {
    let (who, encrypted) = match who.strip_suffix("+tls") {
        Some(who) => (who, true),
        None => (who, false),
    };
    let (who, replication) = match who.strip_suffix("+wal") {
        Some(who) => (who, true),
        None => (who, false),
    };
    let (user, rest) = who.rsplit_once('@').unwrap();
    let (address, database) = rest.split_once('/').unwrap();
    let address = (address != "local").then(|| address.parse().unwrap());
    let visitor = Visitor {
        database,
        user,
        address,
        encrypted,
        replication,
    };
    match rules.demand(&visitor) {
        None => "none".to_owned(),
        Some((demand, line)) => {
            let word = match demand {
                Demand::Reject => "reject",
                Demand::Ask(method) => method.as_str(),
                Demand::Entrust(authority) => authority.as_str(),
                Demand::Peer(_) => "peer",
                Demand::Cert(_) => "cert",
            };
            format!("{line} {word}")
        }
    }
}

#[test]
fn the_first_line_that_fits_decides() {
    let rules = rules(
        "# who comes from where\n\
         local   all          root                      peer map=staff\n\
         local   all          all                       md5\n\
         host    all          eve      0.0.0.0/0        reject\n\
         hostssl app,shop     ann,bob  10.0.0.0/8       scram-sha-256\n\
         hostnossl app        ann      10.1.0.0 255.255.0.0  password\n\
         host    sameuser     all      192.168.7.9/32   trust # one machine\n\
         hostssl all          all      2001:db8::/33    cert\n\
         host    \"all\"      \"sam\"  all              plain\n\
         host    replication  repl     10.0.0.0/8       md5\n\
         host    \"replication\" all   172.16.0.0/12    trust\n",
    );
    for (who, expected) in [
        ("root@local/app", "2 peer"),
        ("ann@local/app", "3 md5"),
        ("eve@10.1.2.3/app", "4 reject"),
        ("eve@10.1.2.3/app+tls", "4 reject"),
        ("eve@2001:db8::1/app+tls", "8 cert"),
        ("ann@10.1.2.3/app+tls", "5 scram-sha-256"),
        ("bob@10.255.255.255/shop+tls", "5 scram-sha-256"),
        ("bob@11.0.0.0/shop+tls", "none"),
        ("bob@10.1.2.3/other+tls", "none"),
        ("ann@10.1.2.3/app", "6 plain"),
        ("ann@10.2.2.3/app", "none"),
        ("bob@10.1.2.3/app", "none"),
        ("bob@192.168.7.9/bob", "7 trust"),
        ("bob@192.168.7.9/app", "none"),
        ("bob@192.168.7.8/bob", "none"),
        // An IPv4 client of a socket that takes both kinds.
        ("bob@::ffff:192.168.7.9/bob", "7 trust"),
        ("bob@2001:db8:7fff::1/app+tls", "8 cert"),
        ("bob@2001:db8:8000::1/app+tls", "none"),
        ("bob@2001:db8::1/app", "none"),
        ("sam@2001:db8::1/all", "9 plain"),
        ("sam@1.2.3.4/app", "none"),
        ("other@1.2.3.4/all", "none"),
        ("repl@10.1.2.3/app+wal", "10 md5"),
        ("repl@10.1.2.3/app", "none"),
        ("root@local/app+wal", "none"),
        ("repl@172.16.0.1/replication", "11 trust"),
        ("repl@172.16.0.1/replication+wal", "none"),
    ] {
        assert_eq!(visit(&rules, who), expected, "{who}");
    }
    assert!(rules.asks(Method::ScramSha256));
    assert!(!rules.asks(Method::Any));
}

#[test]
fn masks_of_any_length() {
    for (network, inside, outside) in [
        ("0.0.0.0/0", "255.1.2.3", "::1"),
        ("128.0.0.0/1", "255.0.0.1", "127.0.0.1"),
        ("10.1.2.4/30", "10.1.2.7", "10.1.2.8"),
        ("10.1.2.4/32", "10.1.2.4", "10.1.2.5"),
        ("10.1.2.4 255.255.255.255", "10.1.2.4", "10.1.2.5"),
        ("10.1.0.0 255.255.0.0", "10.1.9.9", "10.2.0.0"),
        ("::/0", "2001::1", "1.2.3.4"),
        ("fe80::/10", "febf::1", "fec0::1"),
        ("::1/128", "::1", "::2"),
        ("ff00:: ff00::", "ff01::7", "fe00::"),
    ] {
        let rules = rules(&format!("host all all {network} trust"));
        assert_eq!(visit(&rules, &format!("a@{inside}/b")), "1 trust");
        assert_eq!(visit(&rules, &format!("a@{outside}/b")), "none");
    }
    let everywhere = rules("host all all all trust");
    for from in ["1.2.3.4", "::1"] {
        assert_eq!(visit(&everywhere, &format!("a@{from}/b")), "1 trust");
    }
}

#[test]
fn names_from_files() {
    let rules = parse(&[
        ("/etc/pg/hba", "local @dbs @users,extra trust"),
        ("/etc/pg/dbs", "app shop # two\n\n\"with space\",last"),
        ("/etc/pg/users", "ann\n@more/users\n"),
        ("/etc/pg/more/users", "@next"),
        ("/etc/pg/more/next", "bob"),
    ])
    .unwrap();
    for user in ["ann", "bob", "extra"] {
        for database in ["app", "shop", "with space", "last"] {
            assert_eq!(
                visit(&rules, &format!("{user}@local/{database}")),
                "1 trust"
            );
        }
        assert_eq!(visit(&rules, &format!("{user}@local/two")), "none");
    }
    assert_eq!(visit(&rules, "@users@local/app"), "none");
}

#[test]
fn maps_are_those_of_the_ident_file() {
    for (option, system, user) in [
        ("map=staff", "root", "admin"),
        ("\"map=staff\"", "root", "admin"),
        ("map=\"two words\"", "root", "anybody"),
    ] {
        let rules = rules(&format!("local all all peer {option}"));
        let Demand::Peer(Some(map)) = &rules.rules[0].demand else {
            panic!("{option}");
        };
        assert!(map.allows(system, user), "{option}");
        assert!(!map.allows("other", user), "{option}");
    }
    assert_eq!(
        rules("local all all peer").rules[0].demand,
        Demand::Peer(None)
    );
}

#[test]
fn every_mistake_is_named_with_its_place() {
    for (line, expected) in [
        (
            "lokal all all trust",
            "expected local, host, hostssl or hostnossl, not `lokal`",
        ),
        (
            ", all all trust",
            "expected local, host, hostssl or hostnossl, not `,`",
        ),
        ("include other.conf", "`include` is not supported"),
        (
            "hostgssenc all all all trust",
            "`hostgssenc` is not supported",
        ),
        ("local", "expected a name"),
        ("local all", "expected a name"),
        ("local a,,b all trust", "expected a name"),
        ("local all \"ann trust", "closing quote is missing"),
        ("local samerole all trust", "`samerole` is not supported"),
        ("local samegroup all trust", "`samegroup` is not supported"),
        ("local all +staff trust", "`+staff` is not supported"),
        ("local /^a all trust", "`/^a` is not supported"),
        ("local @gone all trust", "/etc/pg/gone: entity not found"),
        (
            "local @self all trust",
            "/etc/pg/self: files name each other",
        ),
        (
            "host all all trust",
            "`trust` is no IP address; names of hosts are not supported",
        ),
        (
            "host all all db.example.com trust",
            "`db.example.com` is no IP address; names of hosts are not supported",
        ),
        ("host all all samehost trust", "`samehost` is not supported"),
        ("host all all samenet trust", "`samenet` is not supported"),
        (
            "host all all",
            "expected an address with a mask, such as 10.0.0.0/8",
        ),
        (
            "host all all 10.0.0.1 trust",
            "expected an address with a mask, such as 10.0.0.0/8",
        ),
        (
            "host all all 10.0.0.0/33 trust",
            "`33` is no mask for this address",
        ),
        (
            "host all all 10.0.0.0/x trust",
            "`x` is no mask for this address",
        ),
        (
            "host all all 10.0.0.0/-1 trust",
            "`-1` is no mask for this address",
        ),
        (
            "host all all ::/129 trust",
            "`129` is no mask for this address",
        ),
        (
            "host all all 10.0.0.0 ffff:: trust",
            "`ffff::` is no mask for this address",
        ),
        (
            "host all all 10.0.0.1/8 trust",
            "`10.0.0.1/8` has bits that its mask hides, so that nobody could have this address",
        ),
        (
            "host all all ::ffff:10.0.0.0/104 trust",
            "`::ffff:10.0.0.0/104` is not supported",
        ),
        ("local all all", "expected a method"),
        ("local all all \"trust\"", "expected a method"),
        ("local all all md4", "unknown method `md4`"),
        ("local all all pam", "`pam` is not supported"),
        ("local all all any", "`any` is not supported"),
        ("host all all all peer", "peer is for local lines only"),
        (
            "local all all cert",
            "cert is for hostssl and host lines only",
        ),
        (
            "hostnossl all all all cert",
            "cert is for hostssl and host lines only",
        ),
        (
            "local all all trust map=staff",
            "unknown option `map=staff`",
        ),
        (
            "local all all peer map=staf",
            "there is no map `staf` in auth_ident_file",
        ),
        ("local all all peer map=staff more", "unknown option `more`"),
        (
            "hostssl all all all cert clientname=DN",
            "unknown option `clientname=DN`",
        ),
    ] {
        let text = format!("local all all md5\n{line}\nhost all all ::/x md5\n");
        let files = [("/etc/pg/hba", text.as_str()), ("/etc/pg/self", "@self")];
        let errors = parse(&files).unwrap_err();
        let last = errors.last().unwrap();
        assert_eq!((errors.len(), last.line), (2, 3), "{line}");
        assert_eq!(errors[0].problem.to_string(), expected, "{line}");
        // A mistake in a file that is named has its place there.
        let place = match line.contains("@self") {
            true => "/etc/pg/self:1: ",
            false => "/etc/pg/hba:2: ",
        };
        assert!(errors[0].to_string().starts_with(place), "{}", errors[0]);
    }
}

proptest! {
    #[test]
    fn garbage_never_panics(text in "(?s)(local|host|[ \",@#\n/=a-z0-9:.]){0,60}") {
        let read = |_: &Path| Ok("all,@x".to_owned());
        let _ = Hba::parse(&text, Path::new("hba"), &maps(), &read);
        let _ = IdentMaps::parse(&text);
    }
}

#[cfg(not(feature = "ldap"))]
#[test]
fn ldap_is_refused_where_it_was_not_built() {
    let errors = parse(&[("/etc/pg/hba", "local all all ldap ldapserver=x\n")]).unwrap_err();
    assert_eq!(
        errors[0].problem.to_string(),
        "ldap: this pgweir was built without it; build with --features ldap"
    );
}
