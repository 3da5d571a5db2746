//! What the operator's files and variables hold, and what the agent's own ones do.

use super::input::Input;
use crate::config::{AgentConfig, CoordinatorConfig, Environment, MapEnvironment, parse_env_file, quote};
use crate::core::session::auth2::{CLIENT_NONCE, is_like_a_statement, statement};
use crate::identity::{from_pem, provider_in, to_pem};
use crate::messages::host_port::HostPort;

pub fn check(input: &[u8]) {
    let mut input = Input::new(input);
    let check = input.one_of(&[variables, key, provider, host_port]);
    check(input.rest());
}

/// Variables read back as they were written. Those that name files are not read: the fuzzer must open none.
fn variables(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let lines = text.lines().count().max(text.split('\r').count()) + 1;
    match parse_env_file(text) {
        Err(faults) => assert!(!faults.is_empty() && faults.iter().all(|(line, _)| (1..=lines).contains(line))),
        Ok(variables) => {
            let value = |name: &String| variables.get(name).unwrap().unwrap();
            let written: String =
                variables.names().iter().map(|name| format!("{name}={}\n", quote(&value(name)))).collect();
            assert!(parse_env_file(&written) == Ok(variables.clone()));
            let without_files: MapEnvironment = variables
                .names()
                .into_iter()
                .filter(|name| !name.contains("FILE"))
                .map(|name| (name.clone(), value(&name).to_string()))
                .collect();
            configures(&without_files);
        }
    }
}

/// Every mistake is reported, and no secret with it.
fn configures(variables: &MapEnvironment) {
    let report = AgentConfig::from_env(variables).err().map(|report| report.to_string());
    let secret = variables.get("OUTPOST_ENROLLMENT_CODE").unwrap().filter(|code| code.len() >= 24);
    if let (Some(report), Some(secret)) = (report, secret) {
        let is_elsewhere = variables
            .names()
            .iter()
            .filter(|name| *name != "OUTPOST_ENROLLMENT_CODE")
            .any(|name| variables.get(name).unwrap().is_some_and(|value| value.contains(&**secret)) || name.contains(&**secret));
        assert!(is_elsewhere || !report.contains(&**secret));
    }
    if let Err(report) = CoordinatorConfig::from_env(variables) {
        assert!(!report.to_string().is_empty());
    }
}

/// A key that is read is written, and read again.
fn key(text: &[u8]) {
    if let Ok(key) = from_pem(text) {
        let pem = to_pem(&key).unwrap();
        assert!(from_pem(pem.as_bytes()).unwrap() == key);
    }
}

fn provider(text: &[u8]) {
    if let Ok(id) = provider_in(text) {
        assert!((1..=128).contains(&id.as_str().len()));
        assert_eq!(provider_in(format!("{id}\n").as_bytes()).unwrap(), id);
    }
}

/// A host and port is in one form, and a statement that names it can be of no other.
fn host_port(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(host) = text.parse::<HostPort>() else { return };
    assert_eq!(host.as_str().parse::<HostPort>().as_ref(), Ok(&host));
    assert!(!host.as_str().contains(|c: char| c.is_control() || c.is_whitespace() || c.is_ascii_uppercase()));
    let (nonce, client_nonce) = (text.as_bytes(), [7; CLIENT_NONCE]);
    let signed = statement(host.as_str(), nonce, &client_nonce);
    assert!(is_like_a_statement(&signed));
    let mut rest = &signed[16..];
    for expected in [host.as_str().as_bytes(), nonce, &client_nonce] {
        let (length, behind) = rest.split_first_chunk::<4>().unwrap();
        let (part, behind) = behind.split_at(u32::from_be_bytes(*length) as usize);
        assert_eq!(part, expected);
        rest = behind;
    }
    assert!(rest.is_empty());
}
