//! The server's end: a certificate of its own, and what its connections share.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::{NoServerSessionStorage, UnbufferedServerConnection};

use super::{Session, TlsError};
use crate::plan::endpoint::TlsPlan;

/// The name in the certificate: a server's address is known only when it listens.
const NAME: &str = "localhost";

/// What the connections of a server share.
#[derive(Debug)]
pub(crate) struct Acceptor {
    config: Arc<ServerConfig>,
    /// The certificate, for clients to trust.
    pub(crate) pem: String,
}

impl Acceptor {
    /// Makes a key, and a certificate that it signs itself; neither is written anywhere.
    pub(crate) fn new() -> anyhow::Result<Acceptor> {
        let made = rcgen::generate_simple_self_signed([NAME.to_string()])?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())?;
        // As the client has it: each connection makes a full handshake, and no session is kept.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Acceptor { config: Arc::new(config), pem: made.cert.pem() })
    }

    /// How a client speaks with servers that show these certificates; without any it takes whatever
    /// it is shown.
    pub(crate) fn client_plan(certificates: &[String]) -> TlsPlan {
        TlsPlan {
            server_name: NAME.into(),
            ca_pem: (!certificates.is_empty()).then(|| certificates.concat()),
            insecure: certificates.is_empty(),
            client: None,
        }
    }

    pub(crate) fn session(&self) -> Result<Session<UnbufferedServerConnection>, TlsError> {
        Ok(Session::on(UnbufferedServerConnection::new(self.config.clone())?))
    }
}
