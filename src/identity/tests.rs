//! An identity is made once, kept whole, held by one process, and refused rather than replaced.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use ed25519_dalek::{Signature, VerifyingKey};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::identity::error::{FileFault, KeyFault};
use crate::identity::{Identity, IdentityError, Origin};
use crate::messages::ids::{CoordinatorId, ProviderId};

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("identity.key")
    }

    fn provider(&self) -> PathBuf {
        self.folder.path().join("identity.key.provider")
    }

    /// A place with a key, which no process holds.
    fn with_key() -> (Self, [u8; 32]) {
        let place = Self::new();
        let pubkey = take(&place.key()).0.pubkey();
        (place, pubkey)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn take(path: &Path) -> (Identity, Origin) {
    Identity::load_or_create(path).unwrap()
}

fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

/// No process is started for it: until a child has started its program it shares the locks of the tests that run beside it.
fn make_pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

fn id(text: &str) -> ProviderId {
    text.parse().unwrap()
}

/// What is in a file, if it is one: to read a pipe would wait for its other end.
fn content(path: &Path) -> Option<Vec<u8>> {
    path.is_file().then(|| fs::read(path).unwrap())
}

/// Both ways to an identity refuse it, and leave the file as it is.
fn refusal(path: &Path) -> IdentityError {
    let before = content(path);
    let looked = Identity::load(path).map(|_| ()).unwrap_err();
    let taken = Identity::load_or_create(path).map(|_| ()).unwrap_err();
    assert_eq!(looked.to_string(), taken.to_string());
    assert!(taken.to_string().contains(&path.display().to_string()), "{taken}");
    assert_eq!(content(path), before);
    taken
}

fn file_fault(path: &Path) -> FileFault {
    match refusal(path) {
        IdentityError::File { fault, .. } => fault,
        other => panic!("{other}"),
    }
}

fn key_fault(content: &[u8]) -> KeyFault {
    let place = Place::new();
    write(&place.key(), content);
    match refusal(&place.key()) {
        IdentityError::Key { fault, .. } => fault,
        other => panic!("{other}"),
    }
}

#[test]
fn each_coordinator_gives_an_id_of_its_own_and_the_first_ones_file_stays() {
    let place = Place::new();
    let other = |identity: &Identity| identity.at(CoordinatorId(1), &"other.example:443".parse().unwrap()).unwrap();
    {
        let (first, _) = take(&place.key());
        first.store_provider_id(&id("p-first")).unwrap();
        let second = other(&first);
        assert_eq!((second.provider_id(), second.pubkey()), (None, first.pubkey()));
        second.store_provider_id(&id("p-second")).unwrap();
        assert_eq!(first.provider_id(), Some(id("p-first")));
    }
    let (first, _) = take(&place.key());
    assert_eq!((first.provider_id(), other(&first).provider_id()), (Some(id("p-first")), Some(id("p-second"))));
    let looked = Identity::load(&place.key()).unwrap();
    assert_eq!(other(&looked).provider_id(), Some(id("p-second")));
    assert!(other(&looked).store_provider_id(&id("p")).is_err());
    // A new key has no id at any coordinator.
    drop(first);
    std::fs::remove_file(place.key()).unwrap();
    let (fresh, origin) = take(&place.key());
    assert_eq!((origin, fresh.provider_id(), other(&fresh).provider_id()), (Origin::Created, None, None));
}

#[test]
fn the_first_run_makes_an_identity_and_the_next_one_finds_it() {
    let place = Place::new();
    let path = place.folder.path().join("state/outpost/identity.key");
    let (first, origin) = take(&path);
    assert_eq!(origin, Origin::Created);
    let pubkey = first.pubkey();
    drop(first);
    let (second, origin) = take(&path);
    assert_eq!((origin, second.pubkey(), second.provider_id()), (Origin::Loaded, pubkey, None));
    assert_eq!(
        [mode(&path), mode(path.parent().unwrap()), mode(&place.folder.path().join("state"))],
        [0o600, 0o700, 0o700]
    );
}

#[test]
fn a_signature_belongs_to_the_public_key() {
    for identity in [Identity::ephemeral().unwrap(), take(&Place::new().key()).0] {
        let verifying = VerifyingKey::from_bytes(&identity.pubkey()).unwrap();
        let signature = Signature::from_bytes(&identity.sign(b"message"));
        assert!(verifying.verify_strict(b"message", &signature).is_ok());
        assert!(verifying.verify_strict(b"massage", &signature).is_err());
    }
}

#[test]
fn the_public_key_is_shown_as_the_wire_has_it_and_the_private_one_never() {
    let (place, _) = Place::with_key();
    let identity = Identity::load(&place.key()).unwrap();
    assert_eq!(identity.pubkey_base64().len(), 44);
    assert_eq!(format!("{identity:?}"), format!("Identity({:?})", identity.pubkey_base64()));
}

#[test]
fn an_identity_is_held_by_one_agent_at_a_time() {
    let place = Place::new();
    let (first, _) = take(&place.key());
    let clone = first.clone();
    drop(first);
    assert!(matches!(Identity::load_or_create(&place.key()), Err(IdentityError::InUse { .. })));
    assert_eq!(Identity::load(&place.key()).unwrap().pubkey(), clone.pubkey());
    drop(clone);
    assert_eq!(take(&place.key()).1, Origin::Loaded);
}

#[test]
fn of_many_that_start_at_once_one_gets_the_identity_and_all_see_the_same() {
    let place = Place::new();
    let path = place.key();
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| Identity::load_or_create(&path))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (held, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!(held.len(), 1);
    assert!(refused.iter().all(|result| matches!(result, Err(IdentityError::InUse { .. }))));
}

#[test]
fn to_look_makes_nothing() {
    let place = Place::new();
    assert!(matches!(Identity::load(&place.key()), Err(IdentityError::Missing { .. })));
    assert!(matches!(Identity::load(&place.folder.path().join("no/where")), Err(IdentityError::Missing { .. })));
    assert!(place.names().is_empty());
    let (place, _) = Place::with_key();
    let looked = Identity::load(&place.key()).unwrap();
    assert!(matches!(looked.store_provider_id(&id("p")), Err(IdentityError::OnlyLookedAt { .. })));
    assert_eq!(looked.provider_id(), None);
}

#[test]
fn a_provider_id_is_kept_next_to_the_key() {
    let place = Place::new();
    let (identity, _) = take(&place.key());
    assert_eq!(identity.store_provider_id(&id("p-1")).unwrap(), None);
    assert_eq!(identity.store_provider_id(&id("p-1")).unwrap(), None);
    assert_eq!(identity.store_provider_id(&id("p:2")).unwrap(), Some(id("p-1")));
    drop(identity);
    assert_eq!(take(&place.key()).0.provider_id(), Some(id("p:2")));
    assert_eq!(fs::read(place.provider()).unwrap(), b"p:2\n");
    assert_eq!(mode(&place.provider()), 0o600);
    assert_eq!(place.names(), ["identity.key", "identity.key.lock", "identity.key.provider"]);
}

#[test]
fn an_id_that_can_not_be_written_holds_for_now_and_is_tried_again() {
    let place = Place::new();
    let (identity, _) = take(&place.key());
    // Nothing can be put in the place of a directory that is not empty.
    fs::create_dir_all(place.provider().join("x")).unwrap();
    for _ in 0..2 {
        assert!(matches!(identity.store_provider_id(&id("p-1")), Err(IdentityError::Unwritable { .. })));
        assert_eq!(identity.provider_id(), Some(id("p-1")));
    }
    fs::remove_dir_all(place.provider()).unwrap();
    assert_eq!(identity.store_provider_id(&id("p-1")).unwrap(), None);
    assert_eq!(fs::read(place.provider()).unwrap(), b"p-1\n");
    assert_eq!(place.names(), ["identity.key", "identity.key.lock", "identity.key.provider"]);
}

#[test]
fn an_ephemeral_identity_keeps_its_id_in_memory() {
    let identity = Identity::ephemeral().unwrap();
    assert_eq!(identity.store_provider_id(&id("p")).unwrap(), None);
    assert_eq!(identity.clone().provider_id(), Some(id("p")));
    assert_ne!(Identity::ephemeral().unwrap().pubkey(), identity.pubkey());
}

#[test]
fn a_malformed_stored_id_is_refused() {
    for content in [b"".as_slice(), b"\n", b"a b\n", b"a\nb\n", b"a\r\n", b"\xff", b"../x", &[b'a'; 129]] {
        let (place, _) = Place::with_key();
        write(&place.provider(), content);
        let error = Identity::load_or_create(&place.key()).unwrap_err();
        assert!(matches!(error, IdentityError::ProviderId { .. }), "{content:?}");
        assert_eq!(fs::read(place.provider()).unwrap(), content);
    }
}

#[test]
fn a_new_key_does_not_inherit_the_id_of_the_one_before() {
    let place = Place::new();
    take(&place.key()).0.store_provider_id(&id("p-1")).unwrap();
    fs::remove_file(place.key()).unwrap();
    let (identity, origin) = take(&place.key());
    assert_eq!((origin, identity.provider_id()), (Origin::Created, None));
    assert_eq!(fs::read(place.folder.path().join("identity.key.provider.old")).unwrap(), b"p-1\n");
}

#[test]
fn a_file_that_is_not_a_key_is_refused() {
    let (place, _) = Place::with_key();
    let pem = fs::read(place.key()).unwrap();
    assert_eq!(key_fault(b""), KeyFault::Empty);
    assert_eq!(key_fault(b"\n"), KeyFault::Empty);
    assert_eq!(key_fault(&[0; 64]), KeyFault::NotPem);
    assert_eq!(key_fault(&pem[..pem.len() / 2]), KeyFault::NotPem);
    assert_eq!(key_fault(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"), KeyFault::NotAPrivateKey);
}

#[test]
fn a_file_that_is_not_ours_is_refused() {
    let (place, pubkey) = Place::with_key();
    let at = |name: &str| place.folder.path().join(name);
    symlink(place.key(), at("link")).unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    fs::create_dir(at("directory")).unwrap();
    make_pipe(&at("pipe"));
    write(&at("large"), vec![b'x'; 16 * 1024 + 1]);
    let faults = ["link", "dangling", "directory", "pipe", "large"].map(|name| file_fault(&at(name)));
    let expected = [
        FileFault::Symlink,
        FileFault::Symlink,
        FileFault::NotRegular,
        FileFault::NotRegular,
        FileFault::TooLarge { max: 16 * 1024 },
    ];
    assert_eq!(faults, expected);
    assert_eq!(Identity::load(&place.key()).unwrap().pubkey(), pubkey);
}

#[test]
fn a_lock_that_is_not_a_file_of_ours_is_refused_and_its_target_left_alone() {
    type Put = fn(&Path, &Path);
    let puts: [(Put, FileFault); 4] = [
        (|lock, target| symlink(target, lock).unwrap(), FileFault::Symlink),
        (
            |lock, target| {
                write(target, "text");
                symlink(target, lock).unwrap()
            },
            FileFault::Symlink,
        ),
        (|lock, _| fs::create_dir(lock).unwrap(), FileFault::NotRegular),
        (|lock, _| make_pipe(lock), FileFault::NotRegular),
    ];
    for (put, expected) in puts {
        let place = Place::new();
        let target = place.folder.path().join("target");
        put(&place.folder.path().join("identity.key.lock"), &target);
        let before = content(&target);
        match Identity::load_or_create(&place.key()).unwrap_err() {
            IdentityError::File { fault, .. } => assert_eq!(fault, expected),
            other => panic!("{other}"),
        }
        assert_eq!((content(&target), place.key().exists()), (before, false));
    }
}

#[test]
fn a_file_that_others_have_access_to_is_refused_with_the_command_that_helps() {
    for mode in [0o640, 0o604, 0o620, 0o660, 0o644, 0o666, 0o610] {
        let (place, _) = Place::with_key();
        fs::set_permissions(place.key(), Permissions::from_mode(mode)).unwrap();
        assert_eq!(file_fault(&place.key()), FileFault::OpenToOthers { mode, path: place.key() });
        assert!(refusal(&place.key()).to_string().ends_with(&format!("chmod 600 {}", place.key().display())));
    }
    let (place, _) = Place::with_key();
    fs::set_permissions(place.key(), Permissions::from_mode(0o400)).unwrap();
    assert_eq!(take(&place.key()).1, Origin::Loaded);
}

#[test]
fn a_file_that_can_not_be_read_or_created_is_an_error() {
    let (place, _) = Place::with_key();
    // A directory that is a file fails for root too.
    let below = place.key().join("identity.key");
    assert!(matches!(Identity::load(&below), Err(IdentityError::Unreadable { .. })));
    assert!(matches!(Identity::load_or_create(&below), Err(IdentityError::Unwritable { .. })));
}

#[test]
fn a_start_after_a_kill_at_any_point_finds_or_makes_a_whole_identity() {
    let (place, pubkey) = Place::with_key();
    let pem = fs::read(place.key()).unwrap();
    let draft = |place: &Place, of: &str| place.folder.path().join(format!(".{of}.0123456789abcdef.tmp"));
    // Killed before the first key had its name.
    for content in [&pem[..0], &pem[..40], &pem[..]] {
        let place = Place::new();
        write(&draft(&place, "identity.key"), content);
        assert_eq!(take(&place.key()).1, Origin::Created);
        assert_eq!(place.names(), ["identity.key", "identity.key.lock"]);
    }
    // Killed when it had both names, and while the id was written.
    fs::hard_link(place.key(), draft(&place, "identity.key")).unwrap();
    write(&draft(&place, "identity.key.provider"), "p-");
    write(&place.provider(), "p-0\n");
    let (identity, origin) = take(&place.key());
    assert_eq!((origin, identity.pubkey(), identity.provider_id()), (Origin::Loaded, pubkey, Some(id("p-0"))));
    assert_eq!(place.names(), ["identity.key", "identity.key.lock", "identity.key.provider"]);
}
