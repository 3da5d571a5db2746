//! The coordinators of an agent: a URL each, and a code for those that have one.

use url::Url;

use super::reader::{Reader, SecretUse};
use super::report::{Cause, Warning};
use super::urls::{self, Insecure};
use super::vars;
use crate::messages::host_port::HostPort;
use crate::messages::secret::Secret;

/// The most coordinators of an agent.
const MOST_COORDINATORS: usize = 16;

/// A coordinator, as the agent knows it before it connects.
#[derive(Clone, Debug, PartialEq)]
pub struct CoordinatorSite {
    /// Where it is: `ws` or `wss`, without credentials and fragment.
    pub url: Url,
    /// Shown until the coordinator has given this agent a provider id.
    pub enrollment_code: Option<Secret>,
}

/// Reads the list of coordinators and their codes.
pub(super) fn read(reader: &mut Reader<'_>, insecure: Insecure) -> Option<Vec<CoordinatorSite>> {
    let code = reader.secret(&vars::ENROLLMENT_CODE, SecretUse::Json);
    let mut known: Vec<HostPort> = Vec::new();
    let mut warnings = Vec::new();
    let urls = reader.list(&vars::COORDINATOR_URL, |text| {
        let url = urls::coordinator(text, insecure)?;
        let place = HostPort::of(&url).ok_or(Cause::NotAUrl)?;
        if known.contains(&place) {
            return Err(Cause::SameCoordinator);
        }
        if known.len() == MOST_COORDINATORS {
            return Err(Cause::TooManyCoordinators { max: MOST_COORDINATORS });
        }
        known.push(place);
        if url.scheme() == "ws" && !urls::is_loopback(&url) {
            let variable = vars::COORDINATOR_URL.name.to_string();
            warnings.push(Warning::Unencrypted { variable, url: urls::masked(url.as_str()) });
        }
        Ok(url)
    })?;
    warnings.into_iter().for_each(|warning| reader.warn(warning));
    let codes = codes(reader, code, urls.len())?;
    Some(urls.into_iter().zip(codes).map(|(url, enrollment_code)| CoordinatorSite { url, enrollment_code }).collect())
}

/// The code for each coordinator: a code is sent only to the coordinator that it is for.
fn codes(reader: &mut Reader<'_>, code: Option<Secret>, coordinators: usize) -> Option<Vec<Option<Secret>>> {
    let Some(code) = code else { return Some(vec![None; coordinators]) };
    if coordinators == 1 {
        return Some(vec![Some(code)]);
    }
    let codes: Vec<_> = code.reveal().split(',').map(str::trim).collect();
    if codes.len() != coordinators {
        let cause = Cause::CodeCount { coordinators, codes: codes.len() };
        // The variable is not named where the URLs are wrong too: their number is not known then.
        if !reader.is_rejected(&vars::COORDINATOR_URL) {
            reader.reject(&vars::ENROLLMENT_CODE, None, cause);
        }
        return None;
    }
    Some(codes.into_iter().map(|code| (!code.is_empty()).then(|| Secret::new(code))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AgentConfig, MapEnvironment};

    fn env(urls: &str) -> MapEnvironment {
        MapEnvironment::from([("OUTPOST_COORDINATOR_URL", urls), ("HOME", "/")])
    }

    fn causes(env: &MapEnvironment) -> Vec<(String, Cause)> {
        let report = AgentConfig::from_env(env).unwrap_err();
        report.problems().iter().map(|problem| (problem.variable.clone(), problem.cause.clone())).collect()
    }

    #[test]
    fn several_coordinators_have_a_code_each() {
        let sites = |urls: &str, code: Option<&str>| {
            let env = self::env(urls);
            let env = code.map_or(env.clone(), |code| env.with("OUTPOST_ENROLLMENT_CODE", code));
            let site = |site: CoordinatorSite| {
                (site.url.to_string(), site.enrollment_code.map(|code| code.reveal().to_owned()))
            };
            AgentConfig::from_env(&env).unwrap().0.coordinators.into_iter().map(site).collect::<Vec<_>>()
        };
        let site = |url: &str, code: Option<&str>| (url.to_owned(), code.map(str::to_owned));
        assert_eq!(sites("wss://a/, wss://b:1/x", None), [site("wss://a/", None), site("wss://b:1/x", None)]);
        assert_eq!(
            sites("wss://a/,wss://b/", Some("x, y")),
            [site("wss://a/", Some("x")), site("wss://b/", Some("y"))]
        );
        assert_eq!(sites("wss://a/,wss://b/", Some(",y")), [site("wss://a/", None), site("wss://b/", Some("y"))]);
        // The code of a single coordinator may contain a comma.
        assert_eq!(sites("wss://a/", Some("x,y")), [site("wss://a/", Some("x,y"))]);
    }

    #[test]
    fn a_list_of_coordinators_with_errors_is_refused() {
        let rejected = |urls: &str| causes(&env(urls));
        let of_url = |cause| ("OUTPOST_COORDINATOR_URL".to_owned(), cause);
        assert_eq!(rejected("wss://a/x,wss://A:443/y"), [of_url(Cause::SameCoordinator)]);
        assert_eq!(
            rejected("wss://a,http://b,ws://c"),
            [of_url(Cause::Scheme("wss://")), of_url(Cause::PlainToOtherHost)]
        );
        let many = |count: usize| (0..count).map(|n| format!("wss://c{n}")).collect::<Vec<_>>().join(",");
        assert_eq!(rejected(&many(17)), [of_url(Cause::TooManyCoordinators { max: 16 })]);
        assert_eq!(AgentConfig::from_env(&env(&many(16))).unwrap().0.coordinators.len(), 16);
        for (codes, count) in [("x", 1), ("x,y,z", 3)] {
            let env = env("wss://a,wss://b").with("OUTPOST_ENROLLMENT_CODE", codes);
            let cause = Cause::CodeCount { coordinators: 2, codes: count };
            assert_eq!(causes(&env), [("OUTPOST_ENROLLMENT_CODE".to_owned(), cause)]);
        }
    }
}
