//! All errors of a configuration are reported at once, without a secret.

use std::fs;

use crate::support::{Finished, Setup};

/// A configuration that is good.
fn check(arguments: &[&str]) -> Setup {
    Setup::new(arguments)
        .env("OUTPOST_COORDINATOR_URL", "wss://coordinator.example/agent")
        .env("OUTPOST_IDENTITY_PATH", "/nonexistent/identity.key")
}

#[track_caller]
fn assert_says(ended: &Finished, words: &[&str]) {
    for words in words {
        assert!(ended.stderr.contains(words), "no {words:?} in:\n{}", ended.stderr);
    }
}

#[tokio::test]
async fn all_errors_are_reported_at_once() {
    for arguments in [&["run"][..], &["config", "check"], &["config", "print"], &[]] {
        let ended = Setup::new(arguments)
            .env("OUTPOST_COORDINATOR_URL", "https://coordinator.example/")
            .env("OUTPOST_BACKENDS", "nonsense=http://127.0.0.1:1")
            .env("OUTPOST_MAX_CONCURRENT", "0")
            .env("OUTPOST_SHUTDOWN_GRACE", "30")
            .env("OUTPOST_LOG_FORMAT", "xml")
            .finish()
            .await;
        ended.assert_code(64);
        let names = ["COORDINATOR_URL", "BACKENDS", "MAX_CONCURRENT", "SHUTDOWN_GRACE", "LOG_FORMAT", "IDENTITY_PATH"];
        assert_says(&ended, &["the configuration has 6 errors:"]);
        for name in names {
            assert_says(&ended, &[&format!("\n  OUTPOST_{name}"), &format!("for example: OUTPOST_{name}=")]);
        }
        assert_eq!(ended.stdout, "");
    }
}

#[tokio::test]
async fn an_unencrypted_connection_to_another_host_must_be_allowed() {
    let url = "ws://coordinator.example/agent";
    let refused = check(&["config", "check"]).env("OUTPOST_COORDINATOR_URL", url).finish().await;
    refused.assert_code(64);
    assert_says(&refused, &["OUTPOST_COORDINATOR_URL", "OUTPOST_ALLOW_INSECURE=true"]);
    let allowed = check(&["config", "check"]).env("OUTPOST_COORDINATOR_URL", url).env("OUTPOST_ALLOW_INSECURE", "true");
    let allowed = allowed.finish().await;
    allowed.assert_code(0);
    assert_says(&allowed, &["warning: ", "is not encrypted"]);
    for near in ["ws://127.0.0.1:7700/agent", "ws://localhost:7700/agent", "ws://[::1]:7700/agent"] {
        check(&["config", "check"]).env("OUTPOST_COORDINATOR_URL", near).finish().await.assert_code(0);
    }
}

#[tokio::test]
async fn an_unknown_variable_is_reported_with_the_nearest_known_one() {
    let ended = check(&["config", "check"]).env("OUTPOST_MAX_CONCURENT", "4").env("OTHER_NAME", "x").finish().await;
    ended.assert_code(0);
    assert_eq!(ended.stdout, "the configuration is good\n");
    assert_says(&ended, &["OUTPOST_MAX_CONCURENT", "did you mean OUTPOST_MAX_CONCURRENT?"]);
    assert!(!ended.stderr.contains("OTHER_NAME"));
}

#[tokio::test]
async fn a_secret_is_never_shown() {
    let secrets = |setup: Setup| {
        setup
            .env("OUTPOST_BACKENDS", "vllm=http://127.0.0.1:8000")
            .env("OUTPOST_BACKEND_VLLM_API_KEY", "canary-1")
            .env("OUTPOST_ENROLLMENT_CODE", "canary-2")
            .env("OUTPOST_PROXY", "http://user:canary-3@proxy.example:3128")
            .env("OUTPOST_COORDINATOR_URL", "wss://coordinator.example/agent?token=canary-4")
    };
    let good = secrets(check(&["config", "print"])).finish().await;
    good.assert_code(0);
    let shown = ["OUTPOST_BACKEND_VLLM_API_KEY=(set)", "OUTPOST_ENROLLMENT_CODE=(set)", "proxy.example:3128"];
    assert!(shown.iter().all(|shown| good.stdout.contains(shown)), "{}", good.stdout);
    let bad = secrets(check(&["config", "check"]))
        .env("OUTPOST_ENROLLMENT_CODE", "canary-2\u{7}x")
        .env("OUTPOST_COORDINATOR_URL", "wss://user:canary-4@coordinator.example/")
        .env("OUTPOST_PROXY", "ftp://user:canary-3@proxy.example:3128")
        .env("OUTPOST_BACKENDS", "vllm=http://user:canary-5@127.0.0.1:8000,vllm=http://127.0.0.1:1?key=canary-6");
    let bad = bad.finish().await;
    bad.assert_code(64);
    assert_says(&bad, &["OUTPOST_ENROLLMENT_CODE", "OUTPOST_COORDINATOR_URL", "OUTPOST_PROXY", "OUTPOST_BACKENDS"]);
    for said in [good.stdout, good.stderr, bad.stdout, bad.stderr] {
        assert!(!said.contains("canary"), "{said}");
    }
}

#[tokio::test]
async fn what_print_prints_is_a_file_of_variables_that_means_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outpost.env");
    let first = check(&["config", "print"]).env("OUTPOST_PRICES", "a=1/2").env("OUTPOST_LOG", "warn").finish().await;
    first.assert_code(0);
    fs::write(&path, &first.stdout).unwrap();
    let file = path.to_str().unwrap();
    let second = Setup::new(&["--env-file", file, "config", "print"]).finish().await;
    second.assert_code(0);
    assert_eq!(second.stdout, first.stdout);
    let third = Setup::new(&["config", "print", "--env-file", file]).env("OUTPOST_PRICES", "b=3/4").finish().await;
    assert!(third.stdout.contains("OUTPOST_PRICES=b=3/4\n"), "the process's environment wins: {}", third.stdout);
}

#[tokio::test]
async fn an_example_file_is_good_as_it_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    for kind in ["agent", "coordinator"] {
        let example = Setup::new(&["config", "print", "--example", kind]).finish().await;
        example.assert_code(0);
        let path = folder.path().join(kind);
        fs::write(&path, &example.stdout).unwrap();
        let checked = check(&["config", "check", "--env-file", path.to_str().unwrap()]).finish().await;
        checked.assert_code(0);
        assert_eq!(checked.stderr, "");
    }
}

#[tokio::test]
async fn a_file_of_variables_that_can_not_be_read_is_an_error_of_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outpost.env");
    fs::write(&path, "# fine\nOUTPOST_LOG=info\nexport OUTPOST_ENROLLMENT_CODE=canary\ncanary\n").unwrap();
    let file = path.to_str().unwrap();
    let broken = Setup::new(&["--env-file", file, "config", "check"]).finish().await;
    broken.assert_code(64);
    assert_says(&broken, &[&format!("{file}:3: "), &format!("{file}:4: ")]);
    assert!(!broken.stderr.contains("canary"), "{}", broken.stderr);
    let missing = Setup::new(&["--env-file", "/nonexistent/outpost.env", "run"]).finish().await;
    missing.assert_code(64);
    assert_says(&missing, &["/nonexistent/outpost.env"]);
}

#[tokio::test]
async fn a_command_line_that_makes_no_sense_is_an_error_of_configuration() {
    for arguments in
        [&["--no-such-flag"][..], &["no-such-command"], &["run", "--listen", "x"], &["dev", "--listen", "x"]]
    {
        let ended = Setup::new(arguments).finish().await;
        ended.assert_code(64);
        assert_says(&ended, &["error: ", "--help"]);
        assert_eq!(ended.stdout, "");
    }
}

#[tokio::test]
async fn help_and_version_go_to_stdout() {
    let help = Setup::new(&["--help"]).finish().await;
    help.assert_code(0);
    for name in ["OUTPOST_COORDINATOR_URL", "OUTPOST_COORDINATOR_API_KEY", "coordinator", "completions", "--env-file"] {
        assert!(help.stdout.contains(name), "{name}");
    }
    let version = Setup::new(&["--version"]).finish().await;
    version.assert_code(0);
    assert_eq!(version.stdout, format!("outpost {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!((help.stderr.as_str(), version.stderr.as_str()), ("", ""));
    let script = Setup::new(&["completions", "bash"]).finish().await;
    script.assert_code(0);
    assert!(script.stdout.contains("complete -F _outpost"), "{}", script.stdout);
}

#[tokio::test]
async fn the_agents_own_key_signs_no_bare_nonces_for_a_check_where_auth2_is_required() {
    let url = "ws://127.0.0.1:9/agent";
    let refused = check(&["conformance", "--own-key", url]).env("OUTPOST_REQUIRE_AUTH2", "true").finish().await;
    refused.assert_code(64);
    assert_says(&refused, &["--own-key", "OUTPOST_REQUIRE_AUTH2"]);
}
