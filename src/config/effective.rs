//! The configuration in effect, printed as a file of variables. Of a secret only that it is set.

use std::io::{self, Write};

use super::agent::{AgentConfig, StatusAddr};
use super::backends::{BackendOptions, Backends};
use super::env_file::quote;
use super::logging::LogConfig;
use super::urls::masked;
use super::variable::Variable;
use super::vars;
use crate::messages::ids::BackendId;
use crate::messages::secret::Secret;

/// One variable in effect.
struct Line {
    variable: Variable,
    value: Shown,
}

enum Shown {
    Value(String),
    Secret,
    Unset,
}

impl<T: ToString> From<Option<T>> for Shown {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Unset, |value| Self::Value(value.to_string()))
    }
}

fn line(variable: &Variable, value: impl Into<Shown>) -> Line {
    Line { variable: variable.clone(), value: value.into() }
}

fn secret(variable: &Variable, set: Option<&Secret>) -> Line {
    line(variable, if set.is_some() { Shown::Secret } else { Shown::Unset })
}

/// Prints every variable of the agent with the value that holds. But for secrets and the coordinator's query, what is printed can be used as an
/// `--env-file` and means the same.
///
/// # Errors
/// Where the writer has one.
pub(crate) fn print_effective(config: &AgentConfig, log: &LogConfig, to: &mut dyn Write) -> io::Result<()> {
    for Line { variable, value } in lines(config, log) {
        match value {
            Shown::Unset => writeln!(to, "# {} is not set", variable.name)?,
            Shown::Secret => writeln!(to, "# {}=(set)", variable.name)?,
            Shown::Value(value) => writeln!(to, "{}={}", variable.name, quote(&value))?,
        }
    }
    if let Some(proxy) = config.proxy.as_ref().filter(|proxy| !proxy.no_proxy.is_empty()) {
        writeln!(to, "NO_PROXY={}", quote(&proxy.no_proxy.to_string()))?;
    }
    Ok(())
}

fn coordinators(config: &AgentConfig) -> String {
    config.coordinators.iter().map(|site| masked(site.url.as_str())).collect::<Vec<_>>().join(",")
}

fn lines(config: &AgentConfig, log: &LogConfig) -> Vec<Line> {
    let price = config.prices.default;
    let mut lines = vec![
        line(&vars::COORDINATOR_URL, Some(coordinators(config))),
        secret(&vars::ENROLLMENT_CODE, config.coordinators.iter().find_map(|site| site.enrollment_code.as_ref())),
        line(&vars::IDENTITY_PATH, Some(config.identity_path.display())),
    ];
    lines.extend(backends(&config.backends));
    lines.extend([
        line(&vars::MAX_CONCURRENT, Some(config.max_concurrent)),
        line(&vars::MAX_TOKENS_PER_MINUTE, config.max_tokens_per_minute),
        line(&vars::PRICE_INPUT, Some(price.input_per_1m)),
        line(&vars::PRICE_OUTPUT, Some(price.output_per_1m)),
        line(&vars::PRICES, prices(config)),
        line(&vars::DISCOVERY_INTERVAL, Some(duration(config.discovery_interval))),
        line(&vars::SHUTDOWN_GRACE, Some(duration(config.shutdown_grace))),
        line(&vars::STATUS_ADDR, Some(status_addr(config.status_addr))),
        line(
            &vars::LEDGER_PATH,
            Some(config.ledger.as_ref().map_or_else(|| "off".to_owned(), |it| it.path.display().to_string())),
        ),
        line(&vars::LEDGER_AGE, config.ledger.as_ref().map(|ledger| duration(ledger.age))),
        line(&vars::LEDGER_SIZE, config.ledger.as_ref().map(|ledger| ledger.size)),
        line(&vars::CA_FILE, config.ca_file.as_ref().map(|path| path.display())),
        line(&vars::PROXY, Some(proxy(config))),
        line(&vars::MAX_MESSAGE_SIZE, Some(config.max_message_size)),
        line(&vars::MAX_KEPT_PER_JOB, Some(config.max_kept_per_job)),
        line(&vars::MAX_KEPT, Some(config.max_kept)),
        line(&vars::ALLOW_REMOTE_MEDIA, Some(config.allow_remote_media)),
        line(&vars::ALLOW_INSECURE, Some(config.allow_insecure)),
        line(&vars::REQUIRE_AUTH2, Some(config.require_auth2)),
        line(&vars::ALLOW_DUMPS, Some(config.allow_dumps)),
        line(&vars::LOG, Some(&log.filter)),
        line(&vars::LOG_FORMAT, Some(log.format.as_str())),
    ]);
    lines
}

fn backends(backends: &Backends) -> Vec<Line> {
    match backends {
        Backends::Auto(options) => {
            let own = options.iter().flat_map(|(kind, options)| own(&kind.as_str().into(), options));
            std::iter::once(line(&vars::BACKENDS, Some("auto"))).chain(own).collect()
        }
        Backends::List(list) => {
            let entry =
                |backend: &super::BackendConfig| format!("{}@{}={}", backend.name, backend.kind, backend.base_url);
            let entries: Vec<String> = list.iter().map(entry).collect();
            let own = list.iter().flat_map(|backend| own(&backend.name, &backend.options));
            std::iter::once(line(&vars::BACKENDS, Some(entries.join(",")))).chain(own).collect()
        }
    }
}

/// A backend's own variables; those that are not set are left out.
fn own(backend: &BackendId, options: &BackendOptions) -> impl Iterator<Item = Line> + use<> {
    let models =
        options.models.as_ref().map(|models| models.iter().map(|model| model.as_str()).collect::<Vec<_>>().join(","));
    let markup = (options.markup > 0.0).then_some(options.markup);
    let lines = [
        secret(&vars::BACKEND_API_KEY.for_backend(backend), options.api_key.as_ref()),
        line(&vars::BACKEND_MODELS.for_backend(backend), models),
        line(&vars::BACKEND_MAX_CONCURRENT.for_backend(backend), options.max_concurrent),
        line(&vars::BACKEND_MARKUP.for_backend(backend), markup),
    ];
    lines.into_iter().filter(|line| !matches!(line.value, Shown::Unset))
}

fn prices(config: &AgentConfig) -> Option<String> {
    let by_model = config.prices.by_model.iter();
    let entries: Vec<String> =
        by_model.map(|(model, price)| format!("{model}={}/{}", price.input_per_1m, price.output_per_1m)).collect();
    (!entries.is_empty()).then(|| entries.join(","))
}

/// Without the spaces between its parts.
fn duration(duration: std::time::Duration) -> String {
    humantime::format_duration(duration).to_string().replace(' ', "")
}

fn status_addr(status: StatusAddr) -> String {
    match status {
        StatusAddr::Off => "off".to_owned(),
        StatusAddr::On { addr, .. } => addr.to_string(),
    }
}

fn proxy(config: &AgentConfig) -> String {
    config.proxy.as_ref().map_or_else(
        || "off".to_owned(),
        |proxy| {
            let host =
                if proxy.addr_host.contains(':') { format!("[{}]", proxy.addr_host) } else { proxy.addr_host.clone() };
            let user = if proxy.authorization.is_some() { "…@" } else { "" };
            format!("http://{user}{host}:{}", proxy.port)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, MapEnvironment, env_file};

    fn printed(env: &dyn Environment) -> String {
        let mut out = Vec::new();
        let (config, warnings) = AgentConfig::from_env(env).unwrap();
        assert_eq!(warnings, []);
        print_effective(&config, &LogConfig::from_env(env), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn full() -> MapEnvironment {
        MapEnvironment::from([
            ("OUTPOST_COORDINATOR_URL", "ws://127.0.0.1:9/agent"),
            ("OUTPOST_IDENTITY_PATH", "/tmp/a \"b\" $c/identity.key"),
            ("OUTPOST_BACKENDS", "vllm=http://127.0.0.1:8000/v1,big-one@ollama=https://gpu/x"),
            ("OUTPOST_BACKEND_BIG_ONE_MODELS", "a:1b, c/d"),
            ("OUTPOST_BACKEND_BIG_ONE_MAX_CONCURRENT", "3"),
            ("OUTPOST_BACKEND_BIG_ONE_MARKUP", "0.2"),
            ("OUTPOST_PRICES", "a=b=1/2"),
            ("OUTPOST_MAX_TOKENS_PER_MINUTE", "77"),
            ("OUTPOST_DISCOVERY_INTERVAL", "90s"),
            ("OUTPOST_SHUTDOWN_GRACE", "0s"),
            ("OUTPOST_STATUS_ADDR", "[::1]:1"),
            ("OUTPOST_MAX_MESSAGE_SIZE", "1MiB"),
            ("OUTPOST_ALLOW_REMOTE_MEDIA", "true"),
            ("OUTPOST_REQUIRE_AUTH2", "true"),
            ("OUTPOST_LOG", "warn,outpost=debug"),
            ("HTTPS_PROXY", "[2001:db8::1]:3128"),
            ("NO_PROXY", "10.0.0.0/8,example"),
        ])
    }

    #[test]
    fn what_is_printed_means_the_same_when_it_is_read() {
        let defaults =
            [("OUTPOST_COORDINATOR_URL", "wss://c/"), ("HOME", "/home/x"), ("OUTPOST_STATUS_ADDR", "127.0.0.1:9090")];
        for env in [full(), MapEnvironment::from(defaults)] {
            let text = printed(&env);
            let path = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(path.path(), &text).unwrap();
            let again = env_file::read_env_file(path.path()).unwrap();
            assert_eq!(AgentConfig::from_env(&again).unwrap().0, AgentConfig::from_env(&env).unwrap().0, "{text}");
            assert_eq!(LogConfig::from_env(&again), LogConfig::from_env(&env));
            assert_eq!(printed(&again), text);
        }
    }

    #[test]
    fn every_variable_of_the_agent_is_printed() {
        let secrets =
            full().with("OUTPOST_BACKEND_BIG_ONE_API_KEY", "canary").with("OUTPOST_ENROLLMENT_CODE", "canary");
        let text = printed(&secrets.with("OUTPOST_PROXY", "http://canary:canary@p:1"));
        let mine = vars::TABLE.into_iter().filter(|variable| variable.scope != crate::config::Scope::Coordinator);
        for variable in mine {
            let name = variable.for_backend(&"big-one".into()).name;
            assert!(text.contains(&format!("{name}=")) || text.contains(&format!("{name} ")), "{name}: {text}");
        }
        assert!(text.contains("# OUTPOST_BACKEND_BIG_ONE_API_KEY=(set)\n"));
        assert!(text.contains("\nOUTPOST_PROXY=\"http://…@p:1\"\n"));
        assert!(!text.contains("canary"));
        assert!(full().get("OUTPOST_PROXY").unwrap().is_none());
    }
}
