//! The TLS settings of every outgoing connection: which roots are trusted, which protocol is offered. Not a connector;
//! made once at the start, shared by all threads.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Why there are no TLS settings. All but the last name the operator's file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of extra roots can't be read.
    #[error("can't read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The file of extra roots is not PEM text.
    #[error("{} is not PEM", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// Where the text fails.
        source: rustls::pki_types::pem::Error,
    },
    /// The file of extra roots holds no certificate.
    #[error("{} holds no certificate", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A certificate in the file can't serve as a root.
    #[error("{} holds a certificate that can't be a root", path.display())]
    NotARoot {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// The crypto provider supports no TLS version.
    #[error("no usable TLS version")]
    Provider(#[source] rustls::Error),
}

/// Settings that trust the built-in roots (Mozilla's) and those of `ca_file`, a PEM file.
///
/// TLS 1.2 and 1.3, no client certificate. HTTP/1.1 is the only protocol offered: a WebSocket can't be opened over
/// HTTP/2, and a request that is cancelled by closing its connection must have one of its own.
pub fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = ca_file {
        add_file(&mut roots, path)?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Provider)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), TlsError> {
    let path = || path.to_owned();
    let text = std::fs::read(path()).map_err(|source| TlsError::Unreadable { path: path(), source })?;
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|source| TlsError::NotPem { path: path(), source })?;
        roots.add(certificate).map_err(|source| TlsError::NotARoot { path: path(), source })?;
    }
    if roots.len() == before {
        return Err(TlsError::Empty { path: path() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    #[test]
    fn only_http_1_1_is_offered() {
        assert_eq!(client_config(None).unwrap().alpn_protocols, [b"http/1.1".to_vec()]);
    }

    #[test]
    fn a_file_of_roots_is_added_to_the_built_in_ones() {
        let authority = rcgen::generate_simple_self_signed(["ca.example".to_owned()]).unwrap();
        let pem = authority.cert.pem();
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        add_file(&mut roots, file(&format!("{pem}{pem}")).path()).unwrap();
        assert_eq!(roots.len(), webpki_roots::TLS_SERVER_ROOTS.len() + 2);
    }

    #[test]
    fn a_file_that_gives_no_root_is_refused_with_its_cause() {
        let missing = client_config(Some(Path::new("/nonexistent/ca.pem")));
        assert!(matches!(missing, Err(TlsError::Unreadable { .. })));
        assert!(matches!(client_config(Some(file("hello").path())), Err(TlsError::Empty { .. })));
        let cut = "-----BEGIN CERTIFICATE-----\nMIIB";
        assert!(matches!(client_config(Some(file(cut).path())), Err(TlsError::NotPem { .. })));
        let rubbish = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(client_config(Some(file(rubbish).path())), Err(TlsError::NotARoot { .. })));
    }
}
