//! The agent's token: a file that only the user of the agent can read. It is a new one at each start.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::messages::secret::Secret;

/// The largest token that is read, in bytes.
const LONGEST: usize = 256;

/// Makes a token and puts it into the file, in place of an earlier one.
pub(crate) fn create_token(file: &Path) -> io::Result<Secret> {
    let token = Secret::new(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()));
    write_private(file, token.reveal())?;
    Ok(token)
}

/// The token of the agent that was started last.
pub(crate) fn read_token(file: &Path) -> io::Result<Secret> {
    let text = fs::read_to_string(file)?;
    let token = text.trim();
    if token.is_empty() || token.len() > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(Secret::new(token))
}

/// Writes a file that only this user can read. An earlier one, whatever it is, is removed and not written into.
pub(crate) fn write_private(file: &Path, text: &str) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_is_new_each_time_and_only_ours_to_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let first = create_token(&file).unwrap();
        assert!(read_token(&file).unwrap() == first && first.reveal().len() == 43);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(create_token(&file).unwrap() != first);
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (folder.path().join("token"), folder.path().join("other"));
        fs::write(&other, "untouched").unwrap();
        std::os::unix::fs::symlink(&other, &file).unwrap();
        create_token(&file).unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "untouched");
    }
}
