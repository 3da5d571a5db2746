//! What the agent keeps between runs: a key that is made once, owned by one process, and never half written.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;

use rustix::process::{Resource, Rlimit, Signal, prlimit};

use crate::support::{Coordinator, End, Home, NOBODY, Outpost, Setup, agent};

fn mode(path: &std::path::Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

fn limit_file_size(process: &Outpost, bytes: Option<u64>) {
    prlimit(Some(process.pid), Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
}

#[tokio::test]
async fn the_first_run_makes_a_key_that_outlives_a_kill_and_enrolls_once() {
    let (coordinator, home) = (Coordinator::start().await, Home::new());
    let setup = || agent(&coordinator, &home, NOBODY).env("OUTPOST_ENROLLMENT_CODE", "code-7");
    let first = setup().start();
    let mut session = coordinator.accept().await;
    let answer = session.challenge().await;
    assert_eq!(answer["enrollment_code"], "code-7");
    session.send(r#"{"type":"auth_ok","provider_id":"prov-1"}"#).await;
    // The id is stored before the agent goes on.
    session.message().await;
    assert_eq!((mode(&home.key()), mode(&home.provider())), (0o600, 0o600));
    assert_eq!(fs::read_to_string(home.provider()).unwrap(), "prov-1\n");
    let key = fs::read(home.key()).unwrap();
    first.signal(Signal::KILL);
    assert_eq!(first.finish().await.status.signal(), Some(9));

    let _second = setup().start();
    let again = coordinator.accept().await.challenge().await;
    assert_eq!(again["pubkey"], answer["pubkey"]);
    assert_ne!(again["signature"], answer["signature"]);
    assert_eq!(again.get("enrollment_code"), None);
    assert_eq!(fs::read(home.key()).unwrap(), key);
    assert_eq!(home.files(), ["identity.key", "identity.key.provider"]);
}

#[tokio::test]
async fn a_second_process_with_the_same_identity_leaves_and_says_so() {
    let (coordinator, home) = (Coordinator::start().await, Home::new());
    let _first = agent(&coordinator, &home, NOBODY).start();
    let mut session = coordinator.join().await;
    let second = agent(&coordinator, &home, NOBODY).finish().await;
    second.assert_code(66);
    assert!(second.stderr.contains("another agent uses the identity"), "{}", second.stderr);
    assert!(second.stderr.contains(home.key().to_str().unwrap()));
    session.settle().await;
}

#[tokio::test]
async fn a_key_that_can_not_be_used_is_named_and_left_as_it_is() {
    let coordinator = Coordinator::start().await;
    let good = {
        let home = Home::new();
        let _agent = agent(&coordinator, &home, NOBODY).start();
        coordinator.accept().await;
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
        let ended = agent(&coordinator, &home, NOBODY).finish().await;
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

#[tokio::test]
async fn a_provider_id_that_is_none_fails_the_handshake_and_is_not_written() {
    let (coordinator, home) = (Coordinator::start().await, Home::new());
    let mut process = agent(&coordinator, &home, NOBODY).start();
    let mut session = coordinator.accept().await;
    session.challenge().await;
    session.send(r#"{"type":"auth_ok","provider_id":"prov\nOUTPOST_ALLOW_INSECURE=true"}"#).await;
    assert_eq!(session.end().await, End::Close(Some(1002)));
    process.logged("the provider id is not 1 to 128 characters").await;
    assert_eq!(home.files(), ["identity.key"]);
}

#[tokio::test]
async fn a_full_disk_leaves_no_piece_of_a_key() {
    let coordinator = Coordinator::start().await;
    // What the system does at a limit is its choice: an error, as on a full disk, or a signal, as at a kill.
    for (prelude, code, signal) in
        [("trap '' XFSZ; ulimit -f 0", Some(66), None), ("ulimit -c 0; ulimit -f 0", None, Some(25))]
    {
        let home = Home::new();
        let setup = Setup::after(prelude, &["run"]).for_agent(&coordinator, &home, NOBODY);
        let ended = setup.finish().await;
        assert_eq!((ended.status.code(), ended.status.signal()), (code, signal), "{}", ended.stderr);
        assert!(!home.key().exists());
        if code.is_some() {
            assert!(ended.stderr.contains("can't be written"), "{}", ended.stderr);
            assert_eq!(home.files(), [""; 0]);
        }
        let _later = agent(&coordinator, &home, NOBODY).start();
        coordinator.accept().await.challenge().await;
        assert_eq!(home.files(), ["identity.key"]);
    }
}

#[tokio::test]
async fn a_provider_id_that_finds_no_room_on_the_disk_is_used_and_stored_when_there_is_some() {
    let (coordinator, home) = (Coordinator::start().await, Home::new());
    let mut process = Setup::after("trap '' XFSZ", &["run"]).for_agent(&coordinator, &home, NOBODY).start();
    let mut session = coordinator.accept().await;
    session.challenge().await;
    limit_file_size(&process, Some(0));
    session.send(r#"{"type":"auth_ok","provider_id":"prov-1"}"#).await;
    process.logged("provider id not stored").await;
    session.settle().await;
    assert_eq!(home.files(), ["identity.key"]);
    limit_file_size(&process, None);
    session.reset();
    let mut session = coordinator.accept().await;
    session.challenge().await;
    session.send(r#"{"type":"auth_ok","provider_id":"prov-1"}"#).await;
    session.message().await;
    assert_eq!(fs::read_to_string(home.provider()).unwrap(), "prov-1\n");
}

#[tokio::test]
async fn the_identity_command_shows_what_the_agent_uses_and_makes_none() {
    let (coordinator, home) = (Coordinator::start().await, Home::new());
    let show = || Setup::new(&["identity"]).env("OUTPOST_IDENTITY_PATH", home.key());
    let before = show().finish().await;
    before.assert_code(66);
    assert!(before.stderr.contains("the first run makes one"), "{}", before.stderr);
    assert_eq!(home.files(), [""; 0]);
    let _agent = agent(&coordinator, &home, NOBODY).start();
    let mut session = coordinator.accept().await;
    let answer = session.challenge().await;
    session.send(r#"{"type":"auth_ok","provider_id":"prov-1"}"#).await;
    session.message().await;
    let shown = show().finish().await;
    shown.assert_code(0);
    let pubkey = answer["pubkey"].as_str().unwrap();
    assert_eq!(shown.stdout, format!("public key   {pubkey}\nprovider id  prov-1\n"));
}
