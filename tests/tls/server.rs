//! TLS servers of the tests: nginx, and one on rustls that can be as hostile as a test needs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

use crate::common::eventually;

pub(crate) const BODY: &str = "0123456789abcdef0123456789abcdef";

/// An authority, a certificate that it signed, and the files of both.
pub(crate) struct Certificate {
    pub(crate) home: TempDir,
}

impl Certificate {
    /// A certificate for `names`, changed by `change`.
    pub(crate) fn new(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "authority of a test");
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("keys"))
            .expect("an authority");
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("names");
        change(&mut params);
        let key = KeyPair::generate().expect("keys");
        let leaf = params.signed_by(&key, &authority).expect("a certificate");
        let home = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: String| {
            std::fs::write(home.path().join(name), text).expect("a file");
        };
        write("ca.pem", authority.pem());
        write("cert.pem", leaf.pem());
        write("key.pem", key.serialize_pem());
        let key = KeyPair::generate().expect("keys");
        let params = CertificateParams::new(vec!["client".into()]).expect("a name");
        let client = params.signed_by(&key, &authority).expect("a certificate");
        write("client.pem", client.pem());
        write("client.key", key.serialize_pem());
        Certificate { home }
    }

    /// For the loopback address and `localhost`.
    pub(crate) fn good() -> Self {
        Self::new(&["127.0.0.1", "localhost"], |_| {})
    }

    /// That ended long ago.
    pub(crate) fn expired() -> Self {
        Self::new(&["127.0.0.1"], |p| {
            p.not_before = date_time_ymd(2001, 2, 3);
            p.not_after = date_time_ymd(2002, 3, 4);
        })
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        let file = self.file("cert.pem");
        let chain = CertificateDer::pem_file_iter(file).expect("the certificate");
        chain.collect::<Result<_, _>>().expect("PEM")
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_file(self.file("key.pem")).expect("the key")
    }

    pub(crate) fn config(&self) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(self.chain(), self.key())
            .expect("they belong together")
    }
}

/// A connection of a [`Server`] after its handshake.
pub(crate) type Tls = StreamOwned<ServerConnection, TcpStream>;

/// A server on threads that end with the test.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Requests that arrived whole.
    pub(crate) heard: Arc<AtomicU64>,
}

impl Server {
    /// Plays `play` to every connection, request after request.
    pub(crate) fn start(
        certificate: &Certificate,
        play: impl Fn(&mut Tls) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let config = Arc::new(certificate.config());
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let address = listener.local_addr().expect("bound");
        let heard = Arc::new(AtomicU64::new(0));
        let (play, count) = (Arc::new(play), heard.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, play, count) = (config.clone(), play.clone(), count.clone());
                std::thread::spawn(move || {
                    let connection = ServerConnection::new(config).expect("a configuration");
                    let mut tls = StreamOwned::new(connection, stream);
                    // The client may leave at any time: that is what is tested.
                    while request(&mut tls).is_ok() {
                        count.fetch_add(1, SeqCst);
                        if play(&mut tls).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Server { address, heard }
    }
}

/// Reads one request without a body; an error once the client has gone.
fn request(stream: &mut impl Read) -> std::io::Result<()> {
    let (mut head, mut byte) = (vec![], [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(())
}

/// Answers with these bytes.
pub(crate) fn answer(bytes: &'static [u8]) -> impl Fn(&mut Tls) -> std::io::Result<()> {
    move |tls| {
        tls.write_all(bytes)?;
        tls.flush()
    }
}

/// nginx over TLS on a TCP port and on a Unix socket.
pub(crate) struct Nginx {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) certificate: Certificate,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Nginx {
    /// With `more` in its server block; `None` where there is no nginx and none is required.
    pub(crate) fn start(more: &str) -> Option<Self> {
        if !Command::new("nginx").arg("-v").output().is_ok_and(|o| o.status.success()) {
            let required = std::env::var_os("DUEL_REQUIRE_REAL").is_some_and(|v| v == "1");
            assert!(!required, "DUEL_REQUIRE_REAL=1, but there is no nginx");
            println!("skipped: no nginx");
            return None;
        }
        let certificate = Certificate::good();
        let at = certificate.home.path().to_path_buf();
        std::fs::create_dir(at.join("www")).expect("a directory");
        std::fs::write(at.join("www/page"), BODY).expect("a page");
        std::fs::write(at.join("www/big"), vec![b'x'; 300_000]).expect("a page");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
        let conf = format!(
            "daemon off;\nmaster_process off;\npid {0}/pid;\nerror_log {0}/error.log;\n\
             events {{ worker_connections 256; }}\nhttp {{\n log_format line '$request $status \
             $ssl_protocol $connection_requests';\n access_log {0}/access.log line;\n \
             client_body_temp_path {0}/b;\n proxy_temp_path {0}/p;\n fastcgi_temp_path {0}/f;\n \
             uwsgi_temp_path {0}/u;\n scgi_temp_path {0}/s;\n server {{\n  listen {1} ssl;\n  \
             listen unix:{0}/sock ssl;\n  ssl_certificate {0}/cert.pem;\n  \
             ssl_certificate_key {0}/key.pem;\n  root {0}/www;\n  {more}\n }}\n}}\n",
            at.display(),
            port,
        );
        std::fs::write(at.join("nginx.conf"), conf).expect("a configuration");
        let mut child = Command::new("nginx")
            .arg("-e")
            .arg(at.join("error.log"))
            .arg("-p")
            .arg(&at)
            .arg("-c")
            .arg(at.join("nginx.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx starts");
        eventually("nginx listens", || {
            if let Some(status) = child.try_wait().expect("a child") {
                panic!("nginx ended: {status}");
            }
            TcpStream::connect(port).is_ok()
        });
        Some(Nginx { child, address: port, certificate })
    }

    /// Lines of the access log.
    pub(crate) fn log(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.certificate.file("access.log")).unwrap_or_default();
        log.lines().map(str::to_string).collect()
    }

    pub(crate) fn home(&self) -> &Path {
        self.certificate.home.path()
    }
}
