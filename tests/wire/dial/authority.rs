//! A private certificate authority, trusted by way of its PEM file as an operator's is, and the certificates it issues.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use outpost::testkit::client_config;
use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, SupportedProtocolVersion};

/// Both versions of TLS.
const VERSIONS: &[&SupportedProtocolVersion] = rustls::ALL_VERSIONS;

/// The authority.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: tempfile::NamedTempFile,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority of the tests");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(issuer.pem().as_bytes()).unwrap();
        Self { issuer, file }
    }

    /// The file that names it.
    pub(crate) fn file(&self) -> &Path {
        self.file.path()
    }

    /// What a client has that trusts it.
    pub(crate) fn trusted(&self) -> Arc<rustls::ClientConfig> {
        client_config(Some(self.file())).unwrap()
    }

    /// A certificate for a name or an address.
    pub(crate) fn issue(&self, name: &str) -> Identity {
        self.issue_with(name, |_| {})
    }

    /// The same with something changed.
    pub(crate) fn issue_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Identity { certificate: params.signed_by(&key, &self.issuer).unwrap(), key }
    }
}

/// A server's certificate and its key.
pub(crate) struct Identity {
    certificate: Certificate,
    key: KeyPair,
}

impl Identity {
    /// A certificate that nobody but its owner has signed.
    pub(crate) fn self_signed(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        Self { certificate: CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap(), key }
    }

    /// What a server of it is set up with.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        self.server_of(VERSIONS, &[])
    }

    /// The same with these versions, and these protocols, the best first.
    pub(crate) fn server_of(&self, versions: &[&'static SupportedProtocolVersion], alpn: &[&str]) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}
