use std::cell::RefCell;
use std::collections::BTreeSet;

use url::Url;

use super::*;
use crate::config::environment::NotUnicode;
use crate::config::vars::TABLE;
use crate::config::{BackendOptions, MapEnvironment};
use crate::messages::backend::BackendKind;
use crate::messages::prices::Price;
use crate::messages::secret::Secret;

fn minimal() -> MapEnvironment {
    MapEnvironment::from([("OUTPOST_COORDINATOR_URL", "wss://coordinator.example/agent"), ("HOME", "/home/op")])
}

fn read(env: &MapEnvironment) -> (AgentConfig, Vec<Warning>) {
    AgentConfig::from_env(env).unwrap_or_else(|report| panic!("{report}"))
}

fn agent(name: &str, value: &str) -> AgentConfig {
    read(&minimal().with(name, value)).0
}

fn causes(env: &MapEnvironment) -> Vec<(String, Cause)> {
    let report = AgentConfig::from_env(env).unwrap_err();
    report.problems().iter().map(|problem| (problem.variable.clone(), problem.cause.clone())).collect()
}

fn cause(name: &str, value: &str) -> Cause {
    let mut causes = causes(&minimal().with(name, value));
    assert_eq!(causes.len(), 1, "{name}={value}: {causes:?}");
    causes.remove(0).1
}

#[test]
fn nothing_but_the_coordinator_has_to_be_set() {
    let (config, warnings) = read(&minimal());
    let expected = AgentConfig {
        coordinators: vec![CoordinatorSite {
            url: Url::parse("wss://coordinator.example/agent").unwrap(),
            enrollment_code: None,
        }],
        identity_path: "/home/op/.local/state/outpost/identity.key".into(),
        backends: Backends::Auto([].into()),
        max_concurrent: 8,
        max_tokens_per_minute: None,
        prices: PriceList { default: Price { input_per_1m: 500_000, output_per_1m: 750_000 }, by_model: [].into() },
        discovery_interval: Duration::from_secs(30),
        shutdown_grace: Duration::from_secs(30),
        status_addr: StatusAddr::On { addr: "127.0.0.1:9090".parse().unwrap(), explicit: false },
        ledger: Some(LedgerConfig {
            path: "/home/op/.local/state/outpost/identity.key.ledger".into(),
            age: Duration::from_secs(400 * 24 * 3600),
            size: 256 << 20,
        }),
        ca_file: None,
        proxy: None,
        max_message_size: 64 * 1024 * 1024,
        max_kept_per_job: 1024 * 1024,
        max_kept: 64 * 1024 * 1024,
        allow_remote_media: false,
        allow_insecure: false,
        require_auth2: false,
        allow_dumps: false,
    };
    assert_eq!(config, expected);
    assert_eq!(warnings, []);
}

#[test]
fn an_empty_value_is_as_good_as_none() {
    let mut env = minimal();
    for variable in TABLE.into_iter().filter(|variable| variable.name != "OUTPOST_COORDINATOR_URL") {
        env.set(variable.for_backend(&"vllm".into()).name, " \t");
    }
    assert_eq!(read(&env), read(&minimal()));
}

#[test]
fn every_error_is_in_the_report() {
    let env = MapEnvironment::from([
        ("OUTPOST_COORDINATOR_URL", "http://c"),
        ("OUTPOST_BACKENDS", "vllm=http://a,vllm=http://b,x,olama=http://c"),
        ("OUTPOST_BACKEND_VLLM_MARKUP", "-1"),
        ("OUTPOST_MAX_CONCURRENT", "0"),
        ("OUTPOST_PRICES", "a=1/2,a=3/4"),
        ("OUTPOST_SHUTDOWN_GRACE", "30"),
        ("OUTPOST_LOG_FORMAT", "xml"),
    ]);
    let found: BTreeSet<String> = causes(&env).into_iter().map(|(name, _)| name).collect();
    let expected = [
        "OUTPOST_BACKENDS",
        "OUTPOST_BACKEND_VLLM_MARKUP",
        "OUTPOST_COORDINATOR_URL",
        "OUTPOST_IDENTITY_PATH",
        "OUTPOST_LOG_FORMAT",
        "OUTPOST_MAX_CONCURRENT",
        "OUTPOST_PRICES",
        "OUTPOST_SHUTDOWN_GRACE",
    ];
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    assert_eq!(causes(&env).len(), 10);
}

#[test]
fn values_out_of_bounds_are_refused() {
    for (name, value) in [
        ("OUTPOST_MAX_CONCURRENT", "4097"),
        ("OUTPOST_MAX_TOKENS_PER_MINUTE", "0"),
        ("OUTPOST_BACKEND_VLLM_MAX_CONCURRENT", "0"),
        ("OUTPOST_PRICE_INPUT_PER_1M", "0.5"),
    ] {
        assert!(matches!(cause(name, value), Cause::NotAnInteger { .. }), "{name}");
    }
    for value in ["999ms", "61m"] {
        assert!(matches!(cause("OUTPOST_DISCOVERY_INTERVAL", value), Cause::NotADuration { .. }));
    }
    assert!(matches!(cause("OUTPOST_SHUTDOWN_GRACE", "61m"), Cause::NotADuration { .. }));
    assert!(matches!(cause("OUTPOST_MAX_MESSAGE_SIZE", "63KiB"), Cause::NotASize { .. }));
    assert!(matches!(cause("OUTPOST_BACKEND_OLLAMA_MARKUP", "10.5"), Cause::NotANumber { .. }));
    assert_eq!(cause("OUTPOST_ALLOW_INSECURE", "maybe"), Cause::NotABool);
    assert_eq!(cause("OUTPOST_REQUIRE_AUTH2", "maybe"), Cause::NotABool);
    assert_eq!(cause("OUTPOST_ALLOW_REMOTE_MEDIA", "maybe"), Cause::NotABool);
}

#[test]
fn the_status_address_is_an_address_or_off() {
    let status = |value: &str| agent("OUTPOST_STATUS_ADDR", value).status_addr;
    assert_eq!(status("off"), StatusAddr::Off);
    for (text, addr) in [("127.0.0.1:0", "127.0.0.1:0"), ("[::1]:9", "[::1]:9"), ("localhost:9", "127.0.0.1:9")] {
        assert_eq!(status(text), StatusAddr::On { addr: addr.parse().unwrap(), explicit: true });
    }
    for text in ["9090", ":9090", "127.0.0.1", "host:9090", "127.0.0.1:65536"] {
        assert_eq!(cause("OUTPOST_STATUS_ADDR", text), Cause::NotAnAddress, "{text}");
    }
    assert_eq!(StatusAddr::from_env(&MapEnvironment::from([("OUTPOST_STATUS_ADDR", "off")])), Ok(StatusAddr::Off));
}

#[test]
fn the_identity_is_in_the_state_directory() {
    let path = |entries: &[(&str, &str)]| {
        AgentConfig::identity_path_from_env(&entries.iter().copied().collect::<MapEnvironment>())
    };
    let expect = |entries: &[(&str, &str)], expected: &str| assert_eq!(path(entries), Ok(PathBuf::from(expected)));
    expect(&[("XDG_STATE_HOME", "/s"), ("HOME", "/h")], "/s/outpost/identity.key");
    expect(&[("XDG_STATE_HOME", "relative"), ("HOME", "/h")], "/h/.local/state/outpost/identity.key");
    expect(&[("OUTPOST_IDENTITY_PATH", "here.key"), ("HOME", "/h")], "here.key");
    let report = path(&[("XDG_STATE_HOME", "")]).unwrap_err();
    assert!(matches!(report.problems(), [problem] if problem.cause == Cause::NoHome));
}

#[test]
fn backends_have_names_kinds_and_options() {
    let env = minimal()
        .with("OUTPOST_BACKENDS", "vllm=http://127.0.0.1:8000/v1, big-2@ollama=https://gpu.example,")
        .with("OUTPOST_BACKEND_BIG_2_API_KEY", "sk-1")
        .with("OUTPOST_BACKEND_BIG_2_MODELS", "a:1b,b,a:1b")
        .with("OUTPOST_BACKEND_BIG_2_MAX_CONCURRENT", "2")
        .with("OUTPOST_BACKEND_BIG_2_MARKUP", "0.2");
    let Backends::List(list) = read(&env).0.backends else { panic!("a list was given") };
    let seen: Vec<_> = list.iter().map(|one| (one.name.as_str(), one.kind, one.base_url.as_str())).collect();
    let expected =
        [("vllm", BackendKind::Vllm, "http://127.0.0.1:8000/"), ("big-2", BackendKind::Ollama, "https://gpu.example/")];
    assert_eq!(seen, expected);
    let options = BackendOptions {
        api_key: Some(Secret::new("sk-1")),
        models: Some(["a:1b".into(), "b".into()].into()),
        max_concurrent: Some(2),
        markup: 0.2,
    };
    assert_eq!(list.iter().map(|one| one.options.clone()).collect::<Vec<_>>(), [BackendOptions::default(), options]);
}

#[test]
fn a_backend_that_makes_no_sense_is_refused() {
    let name = "a-name-that-is-longer-than-32-letters";
    for (value, expected) in [
        ("http://127.0.0.1:8000", Cause::NotABackend),
        ("vllm", Cause::NotABackend),
        ("http://openrouter", Cause::NotABackend),
        ("openrouter=", Cause::NotAUrl),
        ("vLLM=http://a", Cause::UnknownKind),
        ("@vllm=http://a", Cause::BadBackendName),
        ("Big@vllm=http://a", Cause::BadBackendName),
        ("a_b@vllm=http://a", Cause::BadBackendName),
        (&format!("{name}@vllm=http://a"), Cause::BadBackendName),
        ("vllm=ftp://a", Cause::Scheme("http:// or https://")),
        ("vllm=", Cause::NotAUrl),
        ("vllm=http://a,auto", Cause::AutoInList),
        ("vllm=http://a,x@vllm=http://b,x@ollama=http://c", Cause::DuplicateBackend("x".into())),
        (",", Cause::EmptyList),
    ] {
        assert_eq!(cause("OUTPOST_BACKENDS", value), expected, "{value}");
    }
    assert_eq!(cause("OUTPOST_BACKEND_VLLM_MODELS", " , "), Cause::EmptyList);
}

#[test]
fn a_service_needs_no_url_and_needs_a_key() {
    let env = |value: &str| minimal().with("OUTPOST_BACKENDS", value.to_owned());
    let keys = |env: MapEnvironment| {
        env.with("OUTPOST_BACKEND_OPENROUTER_API_KEY", "sk-1").with("OUTPOST_BACKEND_MINE_API_KEY", "sk-2")
    };
    let Backends::List(list) = read(&keys(env("openrouter,mine@venice"))).0.backends else {
        panic!("a list was given")
    };
    let seen: Vec<_> = list.iter().map(|one| (one.name.as_str(), one.kind, one.base_url.as_str())).collect();
    let expected = [
        ("openrouter", BackendKind::OpenRouter, "https://openrouter.ai/api"),
        ("mine", BackendKind::Venice, "https://api.venice.ai/api"),
    ];
    assert_eq!(seen, expected);
    let Backends::List(list) = read(&keys(env("openrouter=https://gate.example/or/v1"))).0.backends else {
        panic!("a list was given")
    };
    assert_eq!(list.iter().map(|one| one.base_url.as_str()).collect::<Vec<_>>(), ["https://gate.example/or"]);

    let missing = causes(&env("openrouter,mine@venice"));
    let expected = [
        ("OUTPOST_BACKEND_OPENROUTER_API_KEY".to_owned(), Cause::KeyRequired(BackendKind::OpenRouter)),
        ("OUTPOST_BACKEND_MINE_API_KEY".to_owned(), Cause::KeyRequired(BackendKind::Venice)),
    ];
    assert_eq!(missing, expected);
    let wrong = causes(&env("openrouter").with("OUTPOST_BACKEND_OPENROUTER_API_KEY", "ké"));
    assert_eq!(wrong, [("OUTPOST_BACKEND_OPENROUTER_API_KEY".to_owned(), Cause::NotASecretOfAscii)]);
}

#[test]
fn the_variable_names_every_kind() {
    assert!(BackendKind::ALL.iter().all(|kind| super::super::vars::BACKENDS.help().contains(kind.as_str())));
}

#[test]
fn a_key_goes_unencrypted_to_this_host_only() {
    let env = |url: &str| {
        minimal().with("OUTPOST_BACKENDS", format!("vllm={url}")).with("OUTPOST_BACKEND_VLLM_API_KEY", "sk-1")
    };
    for url in ["http://127.0.0.1:8000", "http://localhost:8000", "http://[::1]:8000", "https://gpu.example"] {
        assert_eq!(read(&env(url)).1, [], "{url}");
    }
    assert_eq!(causes(&env("http://10.0.0.7:8000")), [("OUTPOST_BACKENDS".to_owned(), Cause::KeyToOtherHost)]);
    let (_, warnings) = read(&env("http://10.0.0.7:8000").with("OUTPOST_ALLOW_INSECURE", "yes"));
    assert!(matches!(warnings.as_slice(), [Warning::Unencrypted { .. }]));
    let plain = MapEnvironment::from([("OUTPOST_COORDINATOR_URL", "ws://c/"), ("HOME", "/")]);
    assert_eq!(causes(&plain), [("OUTPOST_COORDINATOR_URL".to_owned(), Cause::PlainToOtherHost)]);
    let (_, warnings) = read(&plain.with("OUTPOST_ALLOW_INSECURE", "1"));
    assert!(matches!(warnings.as_slice(), [Warning::Unencrypted { .. }]));
}

#[test]
fn options_of_backends_that_auto_finds_go_by_kind() {
    let Backends::Auto(options) = agent("OUTPOST_BACKEND_OLLAMA_MAX_CONCURRENT", "2").backends else {
        panic!("auto is the default")
    };
    let expected = BackendOptions { max_concurrent: Some(2), ..BackendOptions::default() };
    assert_eq!(options, [(BackendKind::Ollama, expected)].into());
}

#[test]
fn variables_without_effect_are_warned_of() {
    let env = minimal()
        .with("OUTPOST_BACKENDS", "big@vllm=http://127.0.0.1:8000")
        .with("OUTPOST_MAX_CONCURENT", "8")
        .with("OUTPOST_BACKEND_VLLM_API_KEY_FILE", "/nowhere")
        .with("OUTPOST_BACKEND_BIG_MODEL", "a")
        .with("OUTPOST_COORDINATOR_API_KEY", "for another command")
        .with("OTHER", "x");
    let unknown = |name: &str, nearest: &str| Warning::Unknown { name: name.into(), nearest: Some(nearest.into()) };
    let expected = [
        Warning::NoSuchBackend { name: "OUTPOST_BACKEND_VLLM_API_KEY_FILE".into(), backends: vec!["big".into()] },
        unknown("OUTPOST_MAX_CONCURENT", "OUTPOST_MAX_CONCURRENT"),
        unknown("OUTPOST_BACKEND_BIG_MODEL", "OUTPOST_BACKEND_BIG_MODELS"),
    ];
    let warnings = read(&env).1;
    assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
    assert!(expected.iter().all(|warning| warnings.contains(warning)), "{warnings:?}");
}

#[test]
fn a_misspelt_name_is_pointed_out_next_to_the_errors() {
    let env = MapEnvironment::from([
        ("OUTPOST_COORDINATOR_ULR", "wss://c/"),
        ("HOME", "/"),
        ("OUTPOST_BACKENDS", "nonsense"),
        ("OUTPOST_BACKEND_VLLM_API_KEY", "may be right: the backends are not known"),
    ]);
    let report = AgentConfig::from_env(&env).unwrap_err();
    let nearest = Some("OUTPOST_COORDINATOR_URL".to_owned());
    assert_eq!(report.problems().len(), 2);
    assert_eq!(report.warnings(), [Warning::Unknown { name: "OUTPOST_COORDINATOR_ULR".into(), nearest }]);
}

#[test]
fn a_status_page_that_other_hosts_can_reach_is_warned_of() {
    for addr in ["127.0.0.1:9090", "127.8.9.1:0", "[::1]:9090", "[::ffff:127.0.0.1]:1", "localhost:1", "off"] {
        assert_eq!(read(&minimal().with("OUTPOST_STATUS_ADDR", addr)).1, [], "{addr}");
    }
    for text in ["0.0.0.0:9090", "[::]:9090", "10.0.0.1:0", "[::ffff:10.0.0.1]:1"] {
        let (variable, addr) = ("OUTPOST_STATUS_ADDR".to_owned(), text.parse().unwrap());
        let expected = [Warning::StatusBeyondLoopback { variable, addr }];
        assert_eq!(read(&minimal().with("OUTPOST_STATUS_ADDR", text)).1, expected, "{text}");
    }
}

#[test]
fn a_proxy_is_ours_or_the_one_all_programs_share() {
    let host = |entries: &[(&str, &str)]| {
        let env = entries.iter().fold(minimal(), |env, (name, value)| env.with(*name, *value));
        read(&env).0.proxy.map(|proxy| (proxy.addr_host.clone(), proxy.applies_to("a.example", 443)))
    };
    let through = |name: &str| Some((name.to_owned(), true));
    assert_eq!(host(&[("OUTPOST_PROXY", "http://own:1"), ("HTTPS_PROXY", "http://up:1")]), through("own"));
    assert_eq!(host(&[("HTTPS_PROXY", "http://up:1")]), through("up"));
    assert_eq!(host(&[("https_proxy", "http://low:1"), ("HTTPS_PROXY", "http://up:1")]), through("low"));
    assert_eq!(host(&[("OUTPOST_PROXY", "off"), ("HTTPS_PROXY", "http://up:1")]), None);
    assert_eq!(host(&[("HTTPS_PROXY", "http://up:1"), ("NO_PROXY", "example")]), Some(("up".to_owned(), false)));
    let shared = causes(&minimal().with("HTTPS_PROXY", "socks5://p"));
    assert_eq!(shared, [("HTTPS_PROXY".to_owned(), Cause::Scheme("http://"))]);
}

#[test]
fn what_is_secret_is_in_no_error_and_in_no_debug_output() {
    let env = minimal()
        .with("OUTPOST_COORDINATOR_URL", "wss://user:canary@c/")
        .with("OUTPOST_BACKENDS", "vllm=http://u:canary@h,x@y=http://canary@h,http://u:canary@h")
        .with("OUTPOST_PROXY", "https://u:canary@p")
        .with("OUTPOST_ENROLLMENT_CODE", "canary\n\u{7}canary");
    let report = AgentConfig::from_env(&env).unwrap_err();
    assert_eq!(report.problems().len(), 6);
    assert!(!format!("{report} {report:?}").contains("canary"), "{report}");
    let good = minimal()
        .with("OUTPOST_PROXY", "http://u:canary@p")
        .with("OUTPOST_ENROLLMENT_CODE", "canary")
        .with("OUTPOST_BACKEND_VLLM_API_KEY", "canary");
    assert!(!format!("{:?}", read(&good)).contains("canary"));
}

/// Counts what is asked for.
struct Recording(MapEnvironment, RefCell<BTreeSet<String>>);

impl Environment for Recording {
    fn get(&self, name: &str) -> Result<Option<Zeroizing<String>>, NotUnicode> {
        self.1.borrow_mut().insert(name.to_owned());
        self.0.get(name)
    }

    fn names(&self) -> Vec<String> {
        self.0.names()
    }
}

#[test]
fn every_variable_of_the_table_is_read() {
    let env = Recording(minimal(), RefCell::default());
    AgentConfig::from_env(&env).unwrap();
    crate::config::CoordinatorConfig::from_env(&env).unwrap();
    for variable in TABLE.into_iter().map(|variable| variable.for_backend(&"vllm".into())) {
        assert!(env.1.borrow().contains(variable.name.as_ref()), "{}", variable.name);
        assert!(variable.file_name().is_none_or(|name| env.1.borrow().contains(&name)), "{}", variable.name);
    }
}

#[test]
fn every_example_of_the_table_is_accepted() {
    let ca = tempfile::NamedTempFile::new().unwrap();
    let mut env = MapEnvironment::default();
    for variable in TABLE {
        env.set(variable.for_backend(&"vllm".into()).name, variable.example);
    }
    env.set("OUTPOST_CA_FILE", ca.path().display().to_string());
    assert_eq!(read(&env).1, []);
    assert!(crate::config::CoordinatorConfig::from_env(&env).is_ok());
}

/// An environment whose values are not text.
struct Latin1;

impl Environment for Latin1 {
    fn get(&self, _: &str) -> Result<Option<Zeroizing<String>>, NotUnicode> {
        Err(NotUnicode)
    }

    fn names(&self) -> Vec<String> {
        vec![]
    }
}

#[test]
fn a_value_that_is_not_text_is_reported_once_for_each_variable() {
    let report = AgentConfig::from_env(&Latin1).unwrap_err();
    let not_unicode = report.problems().iter().filter(|problem| problem.cause == Cause::NotUnicode);
    let names: Vec<&str> = not_unicode.map(|problem| problem.variable.as_str()).collect();
    assert!(names.contains(&"OUTPOST_COORDINATOR_URL") && names.contains(&"OUTPOST_ENROLLMENT_CODE_FILE"));
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
}
