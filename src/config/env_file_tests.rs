use super::*;
use crate::config::{AgentConfig, CoordinatorConfig, Layered, Warning};

fn value(text: &str) -> String {
    parse(text).unwrap().get("A").unwrap().unwrap().to_string()
}

#[test]
fn values_mean_what_they_mean_to_systemd() {
    for (text, expected) in [
        ("A=b", "b"),
        ("A=", ""),
        ("  A = b c \t\r\n", "b c"),
        ("A=b # c", "b # c"),
        ("A=1\nA=2", "2"),
        ("A='b \\n \"$c\" '", "b \\n \"$c\" "),
        ("A=\"b \\\" \\\\ \\$ \\` \\n\"", "b \" \\ $ ` \\n"),
        ("A=\"b\\\nc\"", "bc"),
        ("A=\"b\nc\"", "b\nc"),
        ("A='b\\\nc'", "b\\\nc"),
        ("A='b' \"c\" d", "bcd"),
        ("A=b\"c\"", "b\"c\""),
        ("A=b\\\nc", "bc"),
        ("A=b\\c\\\\d", "bc\\d"),
        ("A=b\\ \\ ", "b  "),
        ("A=b\\ ", "b "),
        ("A=b\\", "b"),
        ("A=b=c", "b=c"),
        ("A=ü", "ü"),
        ("A=b\rB=c", "b"),
        ("A=\rB=c", ""),
        ("# x\rA=b", "b"),
        ("A=b\\\rc", "bc"),
        ("A=b\\\r\nc=d", "b"),
        ("A=\"b\rc\" \rd=e", "b\rc"),
        ("A=\"b\\\rc\"", "b\\\rc"),
    ] {
        assert_eq!(value(text), expected, "{text:?}");
    }
}

#[test]
fn comments_and_blank_lines_are_skipped() {
    let variables = parse("# A=1\n; A=2\n\n  # A=3 \\\nB=4\r\n\t\n").unwrap();
    assert_eq!(variables.names(), ["B"]);
    assert!(parse("").unwrap().names().is_empty());
}

#[test]
fn every_line_that_makes_no_sense_is_reported() {
    let text = "A=1\nnonsense\nexport B=2\n1C=3\n=4\nD=a\0b\nE='multi\nline'\nF=\"open\nand on\n";
    let expected = vec![
        (2, LineFault::NotAnAssignment),
        (3, LineFault::NotAName),
        (4, LineFault::NotAName),
        (5, LineFault::NotAName),
        (6, LineFault::ZeroByte),
        (9, LineFault::OpenQuote),
    ];
    assert_eq!(parse(text).err(), Some(expected));
}

#[test]
fn an_error_names_the_file_and_the_line_but_not_what_is_in_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "A=1\ncanary\nexport B=canary\n").unwrap();
    let error = read_env_file(file.path()).err().unwrap();
    let text = error.to_string();
    assert!(matches!(error, EnvFileError::Lines { lines, .. } if lines.len() == 2));
    assert!(text.contains(&format!("{}:2: ", file.path().display())), "{text}");
    assert!(!text.contains("canary"));
}

#[test]
fn a_file_with_secrets_that_others_can_read_is_exposed() {
    let exposed = |mode: u32, text: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        read_env_file(file.path()).unwrap().exposed_files() == [file.path()]
    };
    for secret in ["OUTPOST_ENROLLMENT_CODE=x", "OUTPOST_COORDINATOR_API_KEY=x", "OUTPOST_BACKEND_A_B_API_KEY='x'"] {
        assert!([0o644, 0o640, 0o604].into_iter().all(|mode| exposed(mode, secret)), "{secret}");
        assert!(!exposed(0o600, secret), "{secret}");
    }
    for public in ["OUTPOST_ENROLLMENT_CODE=", "OUTPOST_ENROLLMENT_CODE_FILE=/x", "OUTPOST_BACKEND_A_MODELS=m", "A=x"] {
        assert!(!exposed(0o644, public), "{public}");
    }
}

#[test]
fn an_exposed_file_is_warned_of_by_every_command_that_reads_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let secrets = "OUTPOST_ENROLLMENT_CODE=x\nOUTPOST_COORDINATOR_URL=wss://c/\nHOME=/h\n";
    std::fs::write(file.path(), secrets).unwrap();
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let (lower, upper) = (read_env_file(file.path()).unwrap(), MapEnvironment::default());
    let env = Layered { upper: &upper, lower: &lower };
    let expected = [Warning::EnvFileReadableByOthers { path: file.path().to_owned() }];
    assert_eq!(AgentConfig::from_env(&env).unwrap().1, expected);
    assert_eq!(CoordinatorConfig::from_env(&env).unwrap().1, expected);
}

#[test]
fn a_file_that_is_not_there_or_no_text_or_too_large_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("env");
    assert!(matches!(read_env_file(&path), Err(EnvFileError::Unreadable { .. })));
    assert!(matches!(read_env_file(folder.path()), Err(EnvFileError::Unreadable { .. })));
    std::fs::write(&path, b"A=1\nB=\xff\n").unwrap();
    assert!(matches!(read_env_file(&path), Err(EnvFileError::NotUnicode { line: 2, .. })));
    std::fs::write(&path, vec![b'#'; MAX as usize + 1]).unwrap();
    assert!(matches!(read_env_file(&path), Err(EnvFileError::TooLarge { .. })));
}

proptest::proptest! {
    #[test]
    fn a_quoted_value_is_read_back_as_it_is(text in "[^\0]{0,40}") {
        proptest::prop_assert_eq!(value(&format!("A={}\nB=1", quote(&text))), text);
    }

    #[test]
    fn no_text_makes_the_reader_fail_otherwise_than_with_a_report(text in "[A-C=\"'\\\\\n\r#; $]{0,60}") {
        let lines = text.lines().count();
        if let Err(faults) = parse(&text) {
            proptest::prop_assert!(faults.iter().all(|(line, _)| (1..=lines).contains(line)));
        }
    }
}
