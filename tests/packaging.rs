//! The files of docker/ and config/ that nothing here can run: that they are
//! what they claim, and that names and ports in them meet.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use saphyr::{LoadableYamlNode, Yaml};
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn yaml(file: &str) -> Value {
    let documents = Yaml::load_from_str(&text(file)).unwrap();
    assert_eq!(documents.len(), 1, "{file}");
    value(&documents[0])
}

/// JSON has what we need to look at YAML.
fn value(node: &Yaml<'_>) -> Value {
    if let Some(sequence) = node.as_sequence() {
        return sequence.iter().map(value).collect();
    }
    if let Some(mapping) = node.as_mapping() {
        let entry = |(key, node): (&Yaml<'_>, &Yaml<'_>)| {
            let key = key.as_str().expect("a key that is no text").to_owned();
            (key, value(node))
        };
        return Value::Object(mapping.iter().map(entry).collect());
    }
    if let Some(number) = node.as_integer() {
        return number.into();
    }
    if let Some(truth) = node.as_bool() {
        return truth.into();
    }
    node.as_str().map_or(Value::Null, Value::from)
}

fn list(value: &Value) -> Vec<&str> {
    let items = value.as_array().into_iter().flatten();
    items.map(|item| item.as_str().unwrap()).collect()
}

fn keys(value: &Value) -> BTreeSet<&str> {
    let entries = value.as_object().into_iter().flatten();
    entries.map(|(key, _)| key.as_str()).collect()
}

/// The instructions of the Dockerfile: a name and its arguments.
fn dockerfile() -> Vec<(String, String)> {
    let joined = text("docker/Dockerfile").replace("\\\n", " ");
    let lines = joined
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, rest) = line.split_once(' ').unwrap();
            (name.to_owned(), rest.trim().to_owned())
        })
        .collect()
}

/// COPY from the build context: what, and in which stage.
fn copied_files() -> Vec<(usize, String)> {
    let mut stage = 0;
    let mut copied = Vec::new();
    for (name, rest) in dockerfile() {
        stage += usize::from(name == "FROM");
        if name == "COPY" && !rest.starts_with("--from=") {
            let words: Vec<&str> = rest.split_whitespace().collect();
            let sources = &words[..words.len() - 1];
            copied.extend(sources.iter().map(|source| (stage, (*source).to_owned())));
        }
    }
    copied
}

#[test]
fn the_dockerfile_is_well_formed_and_its_image_is_not_roots() {
    let known = [
        "FROM",
        "WORKDIR",
        "COPY",
        "RUN",
        "USER",
        "EXPOSE",
        "STOPSIGNAL",
        "HEALTHCHECK",
        "ENTRYPOINT",
        "CMD",
    ];
    let instructions = dockerfile();
    let mut stages = Vec::new();
    let mut user = String::from("root");
    for (name, rest) in &instructions {
        assert!(known.contains(&name.as_str()), "unknown instruction {name}");
        match name.as_str() {
            "FROM" => {
                stages.push(rest.split(" AS ").nth(1).unwrap_or("").to_owned());
                user = String::from("root");
            }
            "USER" => user = rest.clone(),
            "COPY" => {
                if let Some(from) = rest.strip_prefix("--from=") {
                    let stage = from.split_whitespace().next().unwrap();
                    assert!(stages.iter().any(|s| s == stage), "no stage {stage}");
                }
            }
            "CMD" | "ENTRYPOINT" => {
                let words: Vec<String> = serde_json::from_str(rest).unwrap();
                assert!(!words.is_empty());
            }
            _ => {}
        }
    }
    assert_eq!(stages.len(), 2, "one stage builds, one runs");
    assert_eq!(user, "pgweir");
    let created = instructions
        .iter()
        .any(|(name, rest)| name == "RUN" && rest.contains("useradd") && rest.ends_with(&user));
    assert!(created, "nobody creates the user {user}");
    let checked = instructions.iter().any(|(name, _)| name == "HEALTHCHECK");
    assert!(checked, "no HEALTHCHECK");
}

#[test]
fn what_the_image_copies_exists_and_is_let_through() {
    let ignore = text("docker/Dockerfile.dockerignore");
    for (_, source) in copied_files() {
        assert!(root().join(&source).exists(), "COPY {source}");
        let exception = format!("!{source}");
        let passes = ignore.lines().any(|line| line == exception);
        assert!(passes, "the dockerignore file holds {source} back");
    }
}

/// Cargo refuses a manifest whose declared targets are missing, and rustc a
/// missing `include_str!`.
#[test]
fn the_build_stage_has_all_that_the_build_needs() {
    let stage = tempfile::tempdir().unwrap();
    let build: Vec<String> = copied_files()
        .into_iter()
        .filter_map(|(number, source)| (number == 1).then_some(source))
        .collect();
    for source in &build {
        std::os::unix::fs::symlink(root().join(source), stage.path().join(source)).unwrap();
    }
    let cargo = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1", "--offline"])
        .current_dir(stage.path())
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&cargo.stderr);
    assert!(cargo.status.success(), "{complaint}");

    for file in rust_files(&root().join("src")) {
        // Unit tests are not built for the image.
        if file.ends_with("tests.rs") || file.iter().any(|part| part == "tests") {
            continue;
        }
        let source = fs::read_to_string(&file).unwrap();
        for rest in source.split("include_str!(\"").skip(1) {
            let included = file.parent().unwrap().join(rest.split('"').next().unwrap());
            let included = included.canonicalize().unwrap();
            let inside = build
                .iter()
                .any(|copied| included.starts_with(root().join(copied).canonicalize().unwrap()));
            assert!(inside, "{}: the image lacks {included:?}", file.display());
        }
    }
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(rust_files(&path)),
            false => found.push(path),
        }
    }
    found
}

#[test]
fn the_compose_file_fits_together() {
    let compose = yaml("docker/compose.yaml");
    let services = keys(&compose["services"]);
    let wanted = ["pgweir", "primary", "prometheus", "replica"];
    assert_eq!(services, BTreeSet::from(wanted));
    for (name, service) in compose["services"].as_object().unwrap() {
        let has_source = service["image"].is_string() ^ service["build"].is_object();
        assert!(has_source, "{name} needs an image or a build");
        for (other, how) in service["depends_on"].as_object().into_iter().flatten() {
            let dependency = &compose["services"][other];
            assert!(dependency.is_object(), "{name} depends on {other}");
            if how["condition"] == "service_healthy" {
                let built = dependency["build"].is_object();
                assert!(built || dependency["healthcheck"].is_object(), "{other}");
            }
        }
        for volume in list(&service["volumes"]) {
            let source = volume.split(':').next().unwrap();
            match source.starts_with('.') {
                true => assert!(root().join("docker").join(source).is_file(), "{volume}"),
                false => assert!(keys(&compose["volumes"]).contains(source), "{volume}"),
            }
        }
    }
    let build = &compose["services"]["pgweir"]["build"];
    let context = root()
        .join("docker")
        .join(build["context"].as_str().unwrap());
    assert!(
        context
            .join(build["dockerfile"].as_str().unwrap())
            .is_file()
    );
    docker_agrees();
}

/// The client's own check, where it has one: it needs no engine.
fn docker_agrees() {
    let docker = |args: &[&str]| {
        let run = Command::new("docker")
            .args(args)
            .current_dir(root())
            .output();
        run.ok()
    };
    match docker(&["compose", "version"]) {
        Some(version) if version.status.success() => {
            let checked = docker(&["compose", "-f", "docker/compose.yaml", "config", "--quiet"]);
            let checked = checked.unwrap();
            let complaint = String::from_utf8_lossy(&checked.stderr);
            assert!(checked.status.success(), "{complaint}");
        }
        _ => println!("no `docker compose` here: its own check was left out"),
    }
}

#[test]
fn names_and_ports_meet() {
    let file: toml::Table = toml::from_str(&text("docker/pgweir.toml")).unwrap();
    let compose = yaml("docker/compose.yaml");
    for (name, database) in file["databases"].as_table().unwrap() {
        for host in database["hosts"].as_array().unwrap() {
            let host = host["host"].as_str().unwrap();
            assert!(compose["services"][host].is_object(), "{name}: host {host}");
        }
    }
    let port = file["pgweir"]["listen_port"].to_string();
    let stats = file["pgweir"]["stats_listen"].as_str().unwrap();
    let stats = stats.rsplit(':').next().unwrap();

    let exposed = dockerfile();
    let exposed = &exposed.iter().find(|(name, _)| name == "EXPOSE").unwrap().1;
    let expected = format!("{port} {stats}");
    assert_eq!(*exposed, expected);
    for port in [port.as_str(), stats] {
        let published = format!("127.0.0.1:{port}:{port}");
        assert!(list(&compose["services"]["pgweir"]["ports"]).contains(&published.as_str()));
    }
    assert!(text("docker/healthcheck.sh").contains(&format!("${{1:-{stats}}}")));

    let prometheus = yaml("docker/prometheus.yml");
    let targets = &prometheus["scrape_configs"][0]["static_configs"][0]["targets"];
    assert_eq!(list(targets), [format!("pgweir:{stats}")]);
    let mounted = list(&compose["services"]["prometheus"]["volumes"]).join("\n");
    for rules in list(&prometheus["rule_files"]) {
        assert!(mounted.contains(&format!(":{rules}:")), "{rules}");
    }
}

#[test]
fn the_alerts_speak_of_metrics_that_exist() {
    let alerts = yaml("config/prometheus-alerts.yml");
    let metrics = text("docs/metrics.md");
    let mut named = 0;
    for group in alerts["groups"].as_array().unwrap() {
        for rule in group["rules"].as_array().unwrap() {
            let expression = rule["expr"].as_str().unwrap();
            assert!(rule["alert"].is_string() && rule["annotations"]["summary"].is_string());
            for word in expression.split(|c: char| !c.is_alphanumeric() && c != '_') {
                if word.starts_with("pgweir_") {
                    let documented = metrics.contains(&format!("`{word}`"));
                    assert!(documented, "{word} is not in docs/metrics.md");
                    named += 1;
                }
            }
        }
    }
    assert!(named > 4);
}

/// Runs docker/healthcheck.sh against a stats port that answers so.
fn health(answer: &str) -> bool {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut check = Command::new(root().join("docker/healthcheck.sh"))
        .arg(port.to_string())
        .spawn()
        .unwrap();
    let (stream, _) = listener.accept().unwrap();
    let mut request = String::new();
    let mut reader = BufReader::new(&stream);
    while !request.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut request).unwrap() > 0, "{request}");
    }
    assert!(
        request.starts_with("GET /healthz HTTP/1.1\r\n"),
        "{request}"
    );
    (&stream).write_all(answer.as_bytes()).unwrap();
    drop(stream);
    check.wait().unwrap().success()
}

#[test]
fn the_health_check_believes_only_a_200() {
    assert!(health("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"));
    assert!(!health("HTTP/1.1 503 Service Unavailable\r\n\r\n"));
    assert!(!health(""));
}

#[test]
fn the_health_check_fails_where_nobody_listens() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = port.local_addr().unwrap().port();
    let check = Command::new(root().join("docker/healthcheck.sh"))
        .arg(port.to_string())
        .output()
        .unwrap();
    assert!(!check.status.success());
}

#[test]
fn the_systemd_unit_starts_what_is_installed_and_drains() {
    let unit = text("config/pgweir.service");
    let setting = |name: &str| {
        let line = unit
            .lines()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("the unit has no {name}"))
    };
    assert!(setting("ExecStart").starts_with("/usr/local/bin/pgweir run "));
    assert!(setting("ExecReload").contains("-HUP"));
    assert_eq!(setting("KillSignal"), "SIGTERM");
    assert_ne!(setting("User"), "root");
    let systemd = Command::new("systemd-analyze")
        .arg("verify")
        .arg(root().join("config/pgweir.service"))
        .output();
    match systemd {
        Ok(verdict) => {
            let complaints = String::from_utf8_lossy(&verdict.stderr);
            let ours: Vec<&str> = complaints
                .lines()
                .filter(|line| {
                    line.starts_with("pgweir.service:") || line.contains("/pgweir.service:")
                })
                // pgweir need not be installed where it is tested.
                .filter(|line| !line.contains("is not executable"))
                .collect();
            assert!(ours.is_empty(), "{}", ours.join("\n"));
        }
        Err(_) => println!("no `systemd-analyze` here: its own check was left out"),
    }
}

#[test]
fn systemd_has_nothing_to_say_about_the_units() {
    let dir = tempfile::tempdir().unwrap();
    let units = ["pgweir.service", "pgweir.socket"].map(|name| {
        let installed = "/usr/local/bin/pgweir";
        let unit = text(&format!("config/{name}"));
        assert_eq!(unit.contains(installed), name == "pgweir.service");
        let path = dir.path().join(name);
        fs::write(&path, unit.replace(installed, env!("CARGO_BIN_EXE_pgweir"))).unwrap();
        path
    });
    let verify = Command::new("systemd-analyze")
        .arg("verify")
        .args(&units)
        .output();
    let Ok(output) = verify else {
        eprintln!("there is no systemd-analyze");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}
