//! TLS to a backend: what to trust, and as whom to address it.

use std::{io, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::OnceCell,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    backend::{
        DialError,
        secrets::{self, Secrets},
    },
    error::Faults,
    proto::Tls,
};

/// How a pool does TLS.
#[derive(Debug)]
pub(super) struct TlsPlan {
    name: ServerName<'static>,
    trust: Trust,
    alpn: &'static [&'static [u8]],
    /// Made once: reading the system's certificates takes milliseconds. A CA file is read at each dial instead, so
    /// that it can be replaced.
    shared: OnceCell<Arc<ClientConfig>>,
}

/// What a definition asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// Its part about TLS.
    pub(super) own: &'a Tls,
    /// Whether there is TLS at all.
    pub(super) on: bool,
    /// What certificates must be for, unless it names another.
    pub(super) host: &'a str,
    /// The protocols to agree on, the best first; empty for none.
    pub(super) alpn: &'static [&'static [u8]],
}

#[derive(Debug)]
enum Trust {
    System,
    File(String),
    Anyone,
}

impl TlsPlan {
    /// Reads a definition's part. Faults are relative to it.
    pub(super) fn read(asked: &Asked<'_>, faults: &mut Faults) -> Option<Self> {
        let own = asked.own;
        if !own.ca_file.is_empty() {
            secrets::check_path("ca_file", &own.ca_file, faults);
        }
        if own.skip_verify && !own.ca_file.is_empty() {
            faults.add(
                "skip_verify",
                "trusts any certificate, so that ca_file means nothing: leave one out",
            );
        }
        if asked.on {
            return Self::new(asked, faults);
        }
        unused(own, faults);
        None
    }

    fn new(asked: &Asked<'_>, faults: &mut Faults) -> Option<Self> {
        let own = asked.own;
        let host = if own.server_name.is_empty() {
            asked.host
        } else {
            &own.server_name
        };
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
            alpn: asked.alpn,
            shared: OnceCell::new(),
        })
    }

    /// Does the handshake over `io`.
    pub(super) async fn connect<T: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: T,
        secrets: &Secrets,
    ) -> Result<TlsStream<T>, DialError> {
        let mut config = ClientConfig::clone(&*self.config(secrets).await?);
        config.alpn_protocols = self.alpn.iter().map(|name| name.to_vec()).collect();
        let connector = TlsConnector::from(Arc::new(config));
        let connected = connector.connect(self.name.clone(), io).await;
        connected.map_err(|error| tls_fault(&error))
    }

    /// What to dial with now.
    async fn config(&self, secrets: &Secrets) -> Result<Arc<ClientConfig>, DialError> {
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
        .unwrap_or_else(|_| Err(DialError::permanent("reading files for the connection failed")))
}

fn system_config() -> Result<Arc<ClientConfig>, DialError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(DialError::permanent(
            "the system has no certificate authorities: install ca-certificates, or set tls.ca_file",
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
        added.map_err(|error| {
            DialError::permanent(format!("the file `{path}` of the secrets folder: {error}"))
        })?;
    }
    if roots.is_empty() {
        return Err(DialError::permanent(format!(
            "the file `{path}` of the secrets folder holds no PEM certificate"
        )));
    }
    trusting(roots)
}

fn trusting(roots: RootCertStore) -> Result<Arc<ClientConfig>, DialError> {
    let config = builder()?.with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::new(config))
}

fn trusting_anyone() -> Result<Arc<ClientConfig>, DialError> {
    let anyone = Arc::new(Anyone(ring::default_provider()));
    let config = builder()?
        .dangerous()
        .with_custom_certificate_verifier(anyone)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, DialError> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| DialError::permanent(error.to_string()))
}

fn unused(own: &Tls, faults: &mut Faults) {
    let set = [
        ("server_name", !own.server_name.is_empty()),
        ("ca_file", !own.ca_file.is_empty()),
        ("skip_verify", own.skip_verify),
    ];
    for (field, _) in set.iter().filter(|(_, set)| *set) {
        faults.add(
            field,
            "means nothing without TLS: set tls.enabled, or an https:// address",
        );
    }
}

/// What TLS itself refuses stays refused; a connection that breaks in the middle may not next time.
fn tls_fault(error: &io::Error) -> DialError {
    let refused = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    let message = format!("TLS: {error}");
    if refused {
        DialError::permanent(message)
    } else {
        DialError::transient(message)
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
