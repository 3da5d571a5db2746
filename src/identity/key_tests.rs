use ed25519_dalek::Signer as _;

use super::*;

/// Made with `openssl genpkey -algorithm ed25519`, for these tests only, like the other keys here.
const OPENSSL: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIF6u8hVxIDiIfMuAeGto68E9kBLHzmSkPakU7lHGWCOr
-----END PRIVATE KEY-----
";
const OPENSSL_PUBLIC: &str = "520a920cc6296ed0ce1ae58e6fa56c7fe14de3f33bc367f4198a16350b0be76a";
const X25519: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VuBCIEIECvbOux3PDuZja8Sqw+gUWXRsA+Dqwdz1gwjAvjmM9O
-----END PRIVATE KEY-----
";
const P256: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgs/XPverFnLwn3sWd
OQcW4nonn7cSAkSGKzMozy+dCDyhRANCAARD0SWSUi+XasvP8Ng1MxQGtnHiJX8/
5xsuZrOlr1gfLFH97di7pTBhJD0Pchx3H4firAf1bS1R5DvhV0+m/ayN
-----END PRIVATE KEY-----
";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_key_survives_its_text_form() {
    let key = generate().unwrap();
    let again = from_pem(to_pem(&key).unwrap().as_bytes()).unwrap();
    assert_eq!(again.to_bytes(), key.to_bytes());
    assert_ne!(generate().unwrap().to_bytes(), key.to_bytes());
}

#[test]
fn a_key_of_openssl_is_read_and_written_as_openssl_does() {
    let key = from_pem(OPENSSL.as_bytes()).unwrap();
    assert_eq!(hex(key.verifying_key().as_bytes()), OPENSSL_PUBLIC);
    assert_eq!(to_pem(&key).unwrap().as_str(), OPENSSL);
    for text in [OPENSSL.replace('\n', "\r\n"), format!("\n{OPENSSL}"), OPENSSL.trim_end().to_owned()] {
        assert_eq!(from_pem(text.as_bytes()).unwrap().to_bytes(), key.to_bytes(), "{text:?}");
    }
}

#[test]
fn a_key_with_its_public_key_beside_it_is_read_if_they_belong_together() {
    let key = generate().unwrap();
    let with = |public: &SigningKey| {
        let public_key = Some(ed25519::pkcs8::PublicKeyBytes(public.verifying_key().to_bytes()));
        KeypairBytes { secret_key: key.to_bytes(), public_key }.to_pkcs8_pem(LineEnding::LF).unwrap()
    };
    assert_eq!(from_pem(with(&key).as_bytes()).unwrap().to_bytes(), key.to_bytes());
    assert_eq!(from_pem(with(&generate().unwrap()).as_bytes()).err(), Some(KeyFault::Mismatch));
}

#[test]
fn what_is_no_ed25519_key_is_told_apart() {
    let relabelled = |label: &str| OPENSSL.replace("PRIVATE KEY", label);
    for (text, fault) in [
        (String::new(), KeyFault::Empty),
        ("\n \n".to_owned(), KeyFault::Empty),
        ("not a key".to_owned(), KeyFault::NotPem),
        (X25519.to_owned(), KeyFault::OtherAlgorithm),
        (P256.to_owned(), KeyFault::OtherAlgorithm),
        (relabelled("PUBLIC KEY"), KeyFault::NotAPrivateKey),
        (relabelled("EC PRIVATE KEY"), KeyFault::NotAPrivateKey),
        (relabelled("ENCRYPTED PRIVATE KEY"), KeyFault::Encrypted),
        (
            "-----BEGIN OPENSSH PRIVATE KEY-----\n!\n-----END OPENSSH PRIVATE KEY-----\n".to_owned(),
            KeyFault::NotAPrivateKey,
        ),
    ] {
        assert_eq!(from_pem(text.as_bytes()).err(), Some(fault), "{text}");
    }
    assert_eq!(from_pem(&[0xff; 40]).err(), Some(KeyFault::NotPem));
}

#[test]
fn a_text_that_is_cut_anywhere_is_no_key() {
    for end in 1..OPENSSL.len() - 1 {
        assert!(from_pem(&OPENSSL.as_bytes()[..end]).is_err(), "{end}");
    }
}

proptest::proptest! {
    #[test]
    fn a_damaged_text_is_an_error_or_another_key_but_no_panic(at in 0..OPENSSL.len(), byte: u8) {
        let mut text = OPENSSL.as_bytes().to_vec();
        text[at] = byte;
        let _ = from_pem(&text).map(|key| key.sign(b"x"));
    }
}
