//! Whom a client trusts, and who it is: certificates, authorities and keys.

use std::io::Read;
use std::sync::Arc;

use anyhow::{anyhow, bail, ensure};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::explain::explain;
use crate::plan::endpoint::{Identity, TlsPlan};

/// Longest file of certificates or keys.
const MAX_PEM_BYTES: u64 = 4 << 20;

/// What the connections of a worker share.
#[derive(Debug, Clone)]
pub struct Client {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
}

impl Client {
    /// Prepares the configuration of a plan.
    ///
    /// # Errors
    /// A name that no certificate can hold, or no certificate authority; in one sentence.
    pub fn new(plan: &TlsPlan) -> anyhow::Result<Self> {
        let name = ServerName::try_from(plan.server_name.clone())
            .map_err(|_| anyhow!("`{}` cannot stand in a certificate", plan.server_name))?;
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?;
        let builder = if plan.insecure {
            let verifier = Arc::new(Anyone(provider));
            builder.dangerous().with_custom_certificate_verifier(verifier)
        } else {
            let roots = match &plan.ca_pem {
                Some(pem) => roots(pem)?,
                None => system_roots()?,
            };
            builder.with_root_certificates(roots)
        };
        let mut config = match &plan.client {
            None => builder.with_no_client_auth(),
            Some(client) => builder
                .with_client_auth_cert(
                    chain(client).map_err(|why| anyhow!("`{}` {why}", client.cert.display()))?,
                    private_key(client)
                        .map_err(|why| anyhow!("`{}` {why}", client.key.display()))?,
                )
                .map_err(|e| anyhow!("the client's certificate and key: {e}"))?,
        };
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Client { config: Arc::new(config), name })
    }
}

/// The certificates of a PEM text as authorities to trust.
///
/// # Errors
/// What is wrong with the text, in one sentence without a subject.
pub fn roots(pem: &str) -> anyhow::Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|e| anyhow!("is not PEM: {e}"))?;
        let number = store.len() + 1;
        store
            .add(certificate)
            .map_err(|e| anyhow!("certificate {number} cannot be read: {}", explain(&e)))?;
    }
    ensure!(!store.is_empty(), "holds no certificate: write one or more in PEM");
    Ok(store)
}

/// A file in PEM, which may be neither a pipe nor a device.
fn read(path: &std::path::Path) -> anyhow::Result<Vec<u8>> {
    let mut pem = Vec::new();
    let file = crate::sys::open_file(path);
    let whole = file.and_then(|f| f.take(MAX_PEM_BYTES).read_to_end(&mut pem));
    whole.map_err(|e| anyhow!("cannot be read: {e}"))?;
    Ok(pem)
}

/// A client's certificate and those between it and its authority.
///
/// # Errors
/// What is wrong with the file, in one sentence without a subject.
pub(crate) fn chain(client: &Identity) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let pem = read(&client.cert)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|e| anyhow!("is not PEM: {e}"))?;
    ensure!(!chain.is_empty(), "holds no certificate: write it in PEM");
    Ok(chain)
}

/// The private key of a client's certificate.
pub(crate) fn private_key(client: &Identity) -> anyhow::Result<PrivateKeyDer<'static>> {
    let pem = read(&client.key)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|e| anyhow!("holds no private key in PEM: {e}"))
}

/// The certificate authorities that this system trusts.
fn system_roots() -> anyhow::Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    // Old bundles hold certificates that no verifier reads; the others count.
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let why = found.errors.first().map(|e| format!(" ({e})")).unwrap_or_default();
        bail!(
            "this system trusts no certificate authority{why}: name one as ca_file, or install \
             ca-certificates"
        );
    }
    Ok(store)
}

/// Accepts every certificate, as `insecure = true` asks; signatures are still checked, so that
/// the handshake costs the same but for the chain.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
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
