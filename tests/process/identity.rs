//! What the agent keeps between runs: a key that is made once, owned by one process, and never half written.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use outpost::messages::wire::AuthResponse;
use outpost::testkit::{CoordinatorLink, ScriptedCoordinator};
use rustix::process::Signal;

use crate::support::{Home, NO_BACKEND, Setup, agent, close_code, coordinator, reset};

/// The next connection, and the agent's response to its challenge.
async fn challenged(coordinator: &mut ScriptedCoordinator) -> (CoordinatorLink, AuthResponse) {
    let mut link = coordinator.next_connection().await;
    link.challenge();
    let response = link.expect_auth().await;
    (link, response)
}

fn mode(path: &std::path::Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

#[cfg(target_os = "linux")]
fn limit_file_size(process: &crate::support::Outpost, bytes: Option<u64>) {
    use rustix::process::{Resource, Rlimit, prlimit};
    prlimit(Some(process.pid), Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
}

/// Without openssl, only the tests of the key's text form check this.
fn assert_openssl_reads(key: &std::path::Path, pubkey: &str) {
    let Ok(read) = Command::new("openssl").args(["pkey", "-pubout", "-outform", "DER", "-in"]).arg(key).output() else {
        return;
    };
    assert!(read.status.success());
    assert!(read.stdout.ends_with(&STANDARD.decode(pubkey).unwrap()));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_first_run_makes_a_key_that_outlives_a_kill_and_enrolls_once() {
    let (mut coordinator, home) = (coordinator().await, Home::new());
    let first = agent(&coordinator, &home, NO_BACKEND).env("OUTPOST_ENROLLMENT_CODE", "code-7").start();
    let (mut link, response) = challenged(&mut coordinator).await;
    assert_eq!(response.enrollment_code.as_deref(), Some("code-7"));
    link.accept(Some("prov-1"));
    // The id is stored before the agent goes on.
    link.capabilities().await;
    assert_eq!((mode(&home.key()), mode(&home.provider())), (0o600, 0o600));
    assert_eq!(fs::read_to_string(home.provider()).unwrap(), "prov-1\n");
    let key = fs::read(home.key()).unwrap();
    assert_openssl_reads(&home.key(), &response.pubkey);
    first.signal(Signal::KILL);
    assert_eq!(first.finish().await.status.signal(), Some(9));

    let _second = agent(&coordinator, &home, NO_BACKEND).env("OUTPOST_ENROLLMENT_CODE", "code-7").start();
    let (_link, again) = challenged(&mut coordinator).await;
    assert_eq!(again.pubkey, response.pubkey);
    assert_ne!(again.signature, response.signature);
    assert_eq!(again.enrollment_code, None);
    assert_eq!(fs::read(home.key()).unwrap(), key);
    assert_eq!(home.files(), ["identity.key", "identity.key.provider"]);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_second_process_with_the_same_identity_exits_with_an_error() {
    let (mut coordinator, home) = (coordinator().await, Home::new());
    let _first = agent(&coordinator, &home, NO_BACKEND).start();
    let mut link = coordinator.welcome().await;
    let second = agent(&coordinator, &home, NO_BACKEND).finish().await;
    second.assert_code(66);
    assert!(second.stderr.contains("another agent uses the identity"), "{}", second.stderr);
    assert!(second.stderr.contains(home.key().to_str().unwrap()));
    link.ping(b"settled").await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_key_that_can_not_be_used_is_named_and_left_as_it_is() {
    let mut coordinator = coordinator().await;
    let good = {
        let home = Home::new();
        let _agent = agent(&coordinator, &home, NO_BACKEND).start();
        coordinator.next_connection().await;
        fs::read_to_string(home.key()).unwrap()
    };
    let damaged = good.replacen("-----\nM", "-----\n#", 1);
    assert_ne!(damaged, good);
    for (content, permissions, words) in [
        (good.as_str(), 0o640, "chmod 600 "),
        (&good, 0o602, "chmod 600 "),
        (&good[..good.len() / 2], 0o600, "restore it from a backup"),
        (&damaged, 0o600, "restore it from a backup"),
        ("", 0o600, "it is empty"),
    ] {
        let home = Home::new();
        fs::write(home.key(), content).unwrap();
        fs::set_permissions(home.key(), fs::Permissions::from_mode(permissions)).unwrap();
        let ended = agent(&coordinator, &home, NO_BACKEND).finish().await;
        ended.assert_code(66);
        let path = home.key();
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
        assert!(ended.stderr.contains(path.to_str().unwrap()), "{}", ended.stderr);
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode(&path)), (content, permissions));
        assert_eq!(home.files(), ["identity.key"]);
        let secret = good.lines().nth(1).unwrap();
        assert!(!ended.stderr.contains(secret));
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_malformed_provider_id_fails_the_handshake_and_is_not_written() {
    let (mut coordinator, home) = (coordinator().await, Home::new());
    let mut process = agent(&coordinator, &home, NO_BACKEND).start();
    let (mut link, _) = challenged(&mut coordinator).await;
    link.accept(Some("prov\nOUTPOST_ALLOW_INSECURE=true"));
    assert_eq!(close_code(&mut link).await, Some(1002));
    process.logged("the provider id is not 1 to 128 characters").await;
    assert_eq!(home.files(), ["identity.key"]);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_full_disk_leaves_no_piece_of_a_key() {
    let mut coordinator = coordinator().await;
    // What the system does at a limit is its choice: an error, as on a full disk, or a signal, as at a kill.
    for (prelude, code, signal) in
        [("trap '' XFSZ; ulimit -f 0", Some(66), None), ("ulimit -c 0; ulimit -f 0", None, Some(25))]
    {
        let home = Home::new();
        let setup = Setup::after(prelude, &["run"]).for_agent(&coordinator, &home, NO_BACKEND);
        let ended = setup.finish().await;
        assert_eq!((ended.status.code(), ended.status.signal()), (code, signal), "{}", ended.stderr);
        assert!(!home.key().exists());
        if code.is_some() {
            assert!(ended.stderr.contains("can't be written"), "{}", ended.stderr);
            assert_eq!(home.files(), [""; 0]);
        }
        let _later = agent(&coordinator, &home, NO_BACKEND).start();
        challenged(&mut coordinator).await;
        assert_eq!(home.files(), ["identity.key"]);
    }
}

#[cfg(target_os = "linux")]
#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_provider_id_that_finds_no_room_on_the_disk_is_used_and_stored_when_there_is_some() {
    let (mut coordinator, home) = (coordinator().await, Home::new());
    let mut process = Setup::after("trap '' XFSZ", &["run"]).for_agent(&coordinator, &home, NO_BACKEND).start();
    let (mut link, _) = challenged(&mut coordinator).await;
    limit_file_size(&process, Some(0));
    link.accept(Some("prov-1"));
    process.logged("provider id not stored").await;
    link.ping(b"settled").await;
    assert_eq!(home.files(), ["identity.key"]);
    limit_file_size(&process, None);
    reset(link);
    let (mut link, _) = challenged(&mut coordinator).await;
    link.accept(Some("prov-1"));
    link.capabilities().await;
    assert_eq!(fs::read_to_string(home.provider()).unwrap(), "prov-1\n");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_identity_command_shows_the_agents_identity_and_creates_none() {
    let (mut coordinator, home) = (coordinator().await, Home::new());
    let show = || Setup::new(&["identity"]).env("OUTPOST_IDENTITY_PATH", home.key());
    let before = show().finish().await;
    before.assert_code(66);
    assert!(before.stderr.contains("the first run makes one"), "{}", before.stderr);
    assert_eq!(home.files(), [""; 0]);
    let _agent = agent(&coordinator, &home, NO_BACKEND).start();
    let (mut link, response) = challenged(&mut coordinator).await;
    link.accept(Some("prov-1"));
    link.capabilities().await;
    let shown = show().finish().await;
    shown.assert_code(0);
    assert_eq!(shown.stdout, format!("public key   {}\nprovider id  prov-1\n", response.pubkey));
}
