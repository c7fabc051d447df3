//! A target in this process, and a client that reads what HTTP/1.1 says and no more.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use duel::limits::Limits;
use duel::plan::Codec;
use duel::plan::server::{PoolOf, ServerEngine, ServerPlan, ServerStep};
use duel::plan::steps::Offload;
use duel::plan::target::EmbeddedTarget;
use duel::server::{Listening, TargetJob, TargetReport, serve_controlled};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// The seed of every target here.
pub(crate) const SEED: u64 = 7;

/// A target and the driver's ends of its pipes: the reference on a thread of its own, a server
/// under test in a process, with which its threads end.
pub(crate) struct Target {
    address: SocketAddr,
    /// How clients speak TLS with it; `None` over plain HTTP.
    tls: Option<Arc<ClientConfig>>,
    pub(crate) stdin: Box<dyn Write>,
    stdout: BufReader<Box<dyn Read>>,
    runs: Runs,
}

enum Runs {
    Thread(JoinHandle<anyhow::Result<()>>),
    Process(Child),
}

impl Target {
    pub(crate) fn start(spec: EmbeddedTarget) -> Self {
        Self::start_as(spec, None)
    }

    /// The same as a server under test, or as the reference.
    pub(crate) fn start_as(spec: EmbeddedTarget, server: Option<ServerPlan>) -> Self {
        let (mut stdin, stdout, runs): (Box<dyn Write>, Box<dyn Read>, Runs) = match &server {
            None => {
                let (stdin_end, stdin) = std::io::pipe().expect("a pipe");
                let (stdout, stdout_end) = std::io::pipe().expect("a pipe");
                let thread = std::thread::spawn(move || serve_controlled(stdin_end, stdout_end));
                (Box::new(stdin), Box::new(stdout), Runs::Thread(thread))
            }
            Some(_) => {
                let mut child = Command::new(env!("CARGO_BIN_EXE_duel"))
                    .args(["target", "--control"])
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()
                    .expect("duel starts");
                let stdin = Box::new(child.stdin.take().expect("a pipe"));
                let stdout = Box::new(child.stdout.take().expect("a pipe"));
                (stdin, stdout, Runs::Process(child))
            }
        };
        let job = TargetJob { server, ..TargetJob::new(([127, 0, 0, 1], 0).into(), spec, SEED) };
        let line = serde_json::to_string(&job).expect("a job is JSON");
        writeln!(stdin, "{line}").expect("the job is written");
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line");
        let said: Listening =
            serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line:?} is no Listening: {e}"));
        let address = said.listening.tcp().expect("a TCP address");
        let tls = said.certificate.map(|pem| {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_root_certificates(duel::codec::tls::roots(&pem).expect("a certificate"))
                .with_no_client_auth();
            Arc::new(config)
        });
        Self { address, tls, stdin, stdout, runs }
    }

    pub(crate) fn connect(&self) -> Client {
        let socket = self.connect_below();
        let wire = match self.session() {
            Some(session) => Wire::Tls(Box::new(StreamOwned::new(session, socket))),
            None => Wire::Plain(socket),
        };
        Client { reader: BufReader::new(wire) }
    }

    /// A socket on which nothing was said yet, not even of a handshake.
    pub(crate) fn connect_below(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).expect("the target accepts");
        // A target that never answers fails its test instead of hanging it.
        socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        socket.set_nodelay(true).expect("an option");
        socket
    }

    /// The client's end of TLS, where it is spoken.
    pub(crate) fn session(&self) -> Option<ClientConnection> {
        let name = "localhost".try_into().expect("a name");
        let config = self.tls.clone()?;
        Some(ClientConnection::new(config, name).expect("a configuration"))
    }

    /// The resident set of a server under test in bytes; `None` of the reference, which shares the
    /// test's process.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        let Runs::Process(child) = &self.runs else { return None };
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", child.id())).ok()?;
        let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
        Some(pages * rustix::param::page_size() as u64)
    }

    pub(crate) fn stop(mut self) -> TargetReport {
        drop(self.stdin);
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("a line");
        match self.runs {
            Runs::Thread(thread) => {
                let ended = thread.join().expect("the target does not panic");
                ended.expect("the target ends without an error");
            }
            Runs::Process(mut child) => {
                assert!(child.wait().expect("it ends").success(), "the server failed");
            }
        }
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line:?} is no report: {e}"))
    }
}

pub(crate) struct Client {
    pub(crate) reader: BufReader<Wire>,
}

/// A connection, plain or encrypted.
pub(crate) enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Wire {
    /// Says that nothing follows.
    pub(crate) fn end(&mut self) -> std::io::Result<()> {
        match self {
            Wire::Plain(socket) => socket.shutdown(Shutdown::Write),
            Wire::Tls(tls) => {
                tls.conn.send_close_notify();
                tls.flush()?;
                tls.sock.shutdown(Shutdown::Write)
            }
        }
    }
}

impl Read for Wire {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Wire::Plain(socket) => socket.read(bytes),
            Wire::Tls(tls) => tls.read(bytes),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Wire::Plain(socket) => socket.write(bytes),
            Wire::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Wire::Plain(socket) => socket.flush(),
            Wire::Tls(tls) => tls.flush(),
        }
    }
}

/// An answer's head in lower case, and its body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub(crate) fn expect(&self, status: &str, body: &[u8]) {
        assert!(self.head.starts_with(&format!("http/1.1 {status} ")), "{}", self.head);
        assert_eq!(self.body, body, "body of {}", self.head);
    }
}

impl Client {
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let wire = self.reader.get_mut();
        wire.write_all(bytes).and_then(|()| wire.flush()).expect("written");
    }

    pub(crate) fn read_head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let length = self.reader.read_line(&mut head).expect("a line of a head");
            assert!(length > 0, "the stream ended in the head {head:?}");
        }
        head.to_ascii_lowercase()
    }

    pub(crate) fn read(&mut self) -> Answer {
        let head = self.read_head();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.expect("a content-length").parse().expect("a number");
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body).expect("the whole body");
        Answer { head, body }
    }

    pub(crate) fn ask(&mut self, request: &[u8]) -> Answer {
        self.send(request);
        self.read()
    }

    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        let mut rest = Vec::new();
        self.reader.read_to_end(&mut rest).expect("the stream ends without an error");
        assert_eq!(rest, b"", "bytes after the last answer");
    }
}

/// A server under test.
pub(crate) fn server(
    engine: ServerEngine,
    codec: Codec,
    pool: PoolOf,
    pool_size: u32,
    steps: Vec<ServerStep>,
) -> ServerPlan {
    // As a job has it, so that a field which is new and has a default is none of a test's business.
    let setting = serde_json::json!({
        "pool": pool, "pool_size": pool_size, "stack_bytes": 256 << 10, "steps": steps,
    });
    let plan = serde_json::json!({
        "engine": engine, "codec": codec, "offload": Offload::default(), "setting": setting,
    });
    serde_json::from_value(plan).expect("a server")
}

/// Every server under test, with pools of so many threads.
pub(crate) fn servers(pool_size: u32) -> impl Iterator<Item = ServerPlan> {
    // Rings are forbidden in many containers.
    let limits = Limits::read();
    let engines = ServerEngine::ALL
        .into_iter()
        .filter(|e| !matches!(e, ServerEngine::Reference | ServerEngine::Own))
        .filter(move |e| limits.refusal(e.alike()).is_none());
    let pools = engines.flat_map(|engine| match engine {
        ServerEngine::Pool => vec![(engine, PoolOf::Connections), (engine, PoolOf::Requests)],
        _ => vec![(engine, PoolOf::Requests)],
    });
    pools.flat_map(move |(engine, pool)| {
        Codec::ALL.into_iter().map(move |codec| server(engine, codec, pool, pool_size, vec![]))
    })
}

/// One server for each way of driving connections that there is, over TLS.
pub(crate) fn encrypted(pool_size: u32) -> impl Iterator<Item = ServerPlan> {
    use ServerEngine::{Rayon, Threads, Tokio, Uring};
    let driven = servers(pool_size).filter(|s| matches!(s.engine, Threads | Rayon | Tokio | Uring));
    driven.map(|mut server| {
        server.setting.tls = true;
        server
    })
}

/// Runs a test against the reference and every server under test; what it prints names the one.
pub(crate) fn each(pool_size: u32, test: impl Fn(&dyn Fn(EmbeddedTarget) -> Target, &str)) {
    let servers = servers(pool_size).chain(encrypted(pool_size)).map(Some);
    for server in [None].into_iter().chain(servers) {
        let name = server.as_ref().map_or("reference".into(), |s| {
            let tls = if s.setting.tls { " over TLS" } else { "" };
            format!("{} {} {:?}{tls}", s.engine.name(), s.codec.name(), s.setting.pool)
        });
        println!("as {name}:");
        test(&|spec| Target::start_as(spec, server.clone()), &name);
    }
}
