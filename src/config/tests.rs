use super::*;

fn environment(variables: &[(&str, &str)]) -> Layer {
    Layer::environment(variables.iter().map(|(name, value)| (name.into(), value.into())))
}

#[test]
fn the_annotated_file_is_the_default() {
    let config = Config::from_layers([Layer::file("default.toml", &annotated())]);
    assert_eq!(config, Ok(Config::default()));
}

#[test]
fn the_annotated_file_is_as_users_know_it() {
    insta::assert_snapshot!(annotated());
}

#[test]
fn the_examples_in_the_annotated_file_are_right_too() {
    let uncommented: String = annotated()
        .lines()
        .map(|line| {
            line.strip_prefix('#')
                .filter(|line| !line.starts_with(' '))
                .unwrap_or(line)
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    let config = Config::from_layers([Layer::file("default.toml", &uncommented)]).unwrap();
    assert!(config.store.url.is_some());
}

#[test]
fn every_setting_reaches_the_configuration() {
    let changed = [
        ("listen", "127.0.0.1:1"),
        ("insecure", "true"),
        ("data_dir", "/elsewhere"),
        ("database_url", "postgres://db/sublet"),
        ("secrets_dir", "/secrets"),
        ("grace_period", "1m"),
        ("workers", "3"),
        ("max_connections", "7"),
        ("log_format", "json"),
        ("log_filter", "debug"),
    ];
    for setting in settings::SETTINGS {
        let value = changed
            .iter()
            .find(|(key, _)| *key == setting.key)
            .expect(setting.key)
            .1;
        let config = Config::from_layers([Layer::flags([(setting.key, Some(value))])]).unwrap();
        assert_ne!(config, Config::default(), "{}", setting.key);
    }
}

#[test]
fn flags_go_before_the_environment_and_that_before_the_file() {
    let file = Layer::file(
        "sublet.toml",
        "workers = 1\ngrace_period = \"1m\"\nlog_filter = \"warn\"",
    );
    let environment = environment(&[("SUBLET_WORKERS", "2"), ("SUBLET_GRACE_PERIOD", "2m")]);
    let flags = Layer::flags([("workers", Some("3")), ("log_format", None)]);
    let config = Config::from_layers([file, environment, flags]).unwrap();
    assert_eq!(config.grpc.workers, 3);
    assert_eq!(config.grace, Duration::from_secs(120));
    assert_eq!(config.telemetry.filter, "warn");
    assert_eq!(config.telemetry.format, telemetry::Format::Auto);
}

#[test]
fn every_fault_is_told_at_once_with_its_key_its_source_and_what_would_be_right() {
    let file = Layer::file(
        "sublet.toml",
        "listen = \"0.0.0.0:50051\"\nworkers = \"many\"\n\nmax_conections = 5\nlog_format = [\"json\"]\n[tls]\ncert = 1\n",
    );
    let environment = environment(&[
        ("SUBLET_GRACE_PERIOD", "30"),
        ("SUBLET_DATABASE_URL", "mysql://root:hunter2@db/sublet"),
        ("SUBLET_DATADIR", "/data"),
    ]);
    let flags = Layer::flags([
        ("log_filter", Some("loud=very")),
        ("max_connections", Some("0")),
        ("insecure", Some("no")),
    ]);
    let faults = Config::from_layers([file, environment, flags])
        .unwrap_err()
        .to_string();
    assert!(!faults.contains("hunter2"));
    insta::assert_snapshot!(faults);
}

#[test]
fn a_file_that_is_not_toml_is_told_with_its_lines() {
    let faults =
        Config::from_layers([Layer::file("sublet.toml", "workers = 1\nlog =\nlisten = = 1\n")]).unwrap_err();
    insta::assert_snapshot!(faults);
}

#[test]
fn what_kubernetes_puts_into_the_environment_is_left_alone() {
    let environment = environment(&[
        ("SUBLET_PORT", "tcp://10.0.0.1:50051"),
        ("SUBLET_PORT_50051_TCP_ADDR", "10.0.0.1"),
        ("SUBLET_SERVICE_HOST", "10.0.0.1"),
        ("SUBLET_SECRET_TOKEN", "x"),
        ("SUBLET_DATABASE_URL", ""),
        ("HOME", "/root"),
    ]);
    assert_eq!(Config::from_layers([environment]), Ok(Config::default()));
}

#[test]
fn a_listener_beyond_loopback_needs_to_be_asked_for() {
    let open = Layer::flags([("listen", Some("[::]:50051"))]);
    assert!(
        Config::from_layers([open.clone()])
            .unwrap_err()
            .to_string()
            .contains("--insecure")
    );
    assert!(Config::from_layers([open, Layer::flags([("insecure", Some("true"))])]).is_ok());
    assert!(Config::from_layers([Layer::flags([("listen", Some("[::1]:50051"))])]).is_ok());
}

#[test]
fn a_database_url_never_shows_itself() {
    let layer = environment(&[("SUBLET_DATABASE_URL", "postgres://sublet:hunter2@db/sublet")]);
    let seen = format!("{layer:?}");
    let config = Config::from_layers([layer]).unwrap();
    assert!(!format!("{seen}{config:?}").contains("hunter2"));
}
