//! TLS to the service: what to trust, and as whom to address it.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};
use tokio::sync::OnceCell;

use crate::{
    backend::{DialError, DialErrorKind, secrets::Secrets},
    error::Faults,
    proto::Tls,
};

/// How a pool does TLS.
#[derive(Debug)]
pub(super) struct TlsPlan {
    pub(super) name: ServerName<'static>,
    trust: Trust,
    /// Made once: reading the system's certificates takes milliseconds. A CA file is read at each dial instead, so
    /// that it can be replaced.
    shared: OnceCell<Arc<ClientConfig>>,
}

#[derive(Debug)]
enum Trust {
    System,
    File(String),
    Anyone,
}

impl TlsPlan {
    /// Reads a definition's part; `host` is what certificates must be for.
    pub(super) fn new(host: &str, own: &Tls, faults: &mut Faults) -> Option<Self> {
        let Ok(name) = ServerName::try_from(host.to_owned()) else {
            faults.add(
                "server_name",
                format!("`{host}` is neither a DNS name nor an address"),
            );
            return None;
        };
        let trust = match (own.skip_verify, own.ca_file.is_empty()) {
            (true, _) => Trust::Anyone,
            (false, true) => Trust::System,
            (false, false) => Trust::File(own.ca_file.clone()),
        };
        Some(Self {
            name,
            trust,
            shared: OnceCell::new(),
        })
    }

    /// What to dial with now.
    pub(super) async fn config(&self, secrets: &Secrets) -> Result<Arc<ClientConfig>, DialError> {
        match &self.trust {
            Trust::System => self
                .shared
                .get_or_try_init(|| blocking(system_config))
                .await
                .cloned(),
            Trust::Anyone => self
                .shared
                .get_or_try_init(async || trusting_anyone())
                .await
                .cloned(),
            Trust::File(path) => {
                let (secrets, path) = (secrets.clone(), path.clone());
                blocking(move || file_config(&secrets, &path)).await
            }
        }
    }
}

/// Runs what reads files where that holds nobody up. If the future is dropped, the reading goes on and its result
/// is dropped.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DialError> + Send + 'static,
) -> Result<T, DialError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(permanent("reading files for the connection failed")))
}

fn system_config() -> Result<Arc<ClientConfig>, DialError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(permanent(
            "the system has no certificate authorities: install ca-certificates, or set http.tls.ca_file",
        ));
    }
    trusting(roots)
}

fn file_config(secrets: &Secrets, path: &str) -> Result<Arc<ClientConfig>, DialError> {
    let text = secrets.read_file(path)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let added = certificate
            .map_err(|error| error.to_string())
            .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()));
        added.map_err(|error| permanent(format!("the file `{path}` of the secrets folder: {error}")))?;
    }
    if roots.is_empty() {
        return Err(permanent(format!(
            "the file `{path}` of the secrets folder holds no PEM certificate"
        )));
    }
    trusting(roots)
}

fn trusting(roots: RootCertStore) -> Result<Arc<ClientConfig>, DialError> {
    let config = builder()?.with_root_certificates(roots).with_no_client_auth();
    Ok(finished(config))
}

fn trusting_anyone() -> Result<Arc<ClientConfig>, DialError> {
    let anyone = Arc::new(Anyone(ring::default_provider()));
    let config = builder()?
        .dangerous()
        .with_custom_certificate_verifier(anyone)
        .with_no_client_auth();
    Ok(finished(config))
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, DialError> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| permanent(error.to_string()))
}

fn finished(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

fn permanent(message: impl Into<String>) -> DialError {
    DialError {
        kind: DialErrorKind::Permanent,
        message: message.into(),
    }
}

/// Takes any certificate; that whoever shows it has its key is still checked.
#[derive(Debug)]
struct Anyone(CryptoProvider);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
