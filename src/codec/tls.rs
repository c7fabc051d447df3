//! TLS on a connection: one configuration for every engine, codec and socket of each side.
//!
//! [`Session`] is sans-IO, over rustls's unbuffered connection: bytes in, bytes out, and nothing
//! kept of either while the connection waits but an incomplete record. [`super::stream`] puts it on
//! sockets.
//!
//! * TLS 1.3 and 1.2, ALPN `http/1.1`, the provider's order of cipher suites (AES-256-GCM first, as
//!   OpenSSL's).
//! * Sessions are not resumed and no early data is sent: every connection makes a full handshake,
//!   so that `handshake_ns` holds one kind of handshake and lanes do not depend on one another.
//! * An end of the stream without `close_notify` is a broken connection, as the stream may have
//!   been cut (RFC 8446, 6.1).

mod explain;
mod serve;
mod trust;

use std::fmt;
use std::ops::DerefMut;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, UnbufferedConnectionCommon, UnbufferedStatus,
};
use rustls::{CipherSuite, ProtocolVersion};

use explain::explain;
pub(crate) use serve::Acceptor;
pub use trust::{Client, roots};
pub(crate) use trust::{chain, private_key};

/// Plaintext of one record: the most that TLS allows (RFC 8446, 5.1).
const RECORD_BYTES: usize = 16 * 1024;
/// Room beside the plaintext of a record: header, nonce, type and tag of any suite, rounded up.
const RECORD_EXTRA_BYTES: usize = 64;
/// Buffers larger than this are given back when they are empty.
const KEPT_BYTES: usize = 4 * 1024;

/// What ended a TLS session, or kept it from beginning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("TLS: {what}")]
pub(crate) struct TlsError {
    /// What is wrong, mostly with the certificate, and the way out.
    pub what: String,
    /// The target refused the connection: its alert came before any of its data. In TLS 1.3 that
    /// is after the client's side of the handshake, amid the first exchange.
    pub(crate) refused: bool,
}

impl TlsError {
    fn new(what: impl fmt::Display) -> Self {
        TlsError { what: what.to_string(), refused: false }
    }
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        TlsError::new(explain(&error))
    }
}

/// What a handshake agreed on; shown as `TLSv1_3 TLS13_AES_256_GCM_SHA384`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    version: ProtocolVersion,
    suite: CipherSuite,
}

impl fmt::Display for Agreed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.version, self.suite)
    }
}

/// One of the two ends of a connection, as rustls has them.
pub trait TlsEnd: DerefMut<Target = UnbufferedConnectionCommon<Self::Data>> + Unpin {
    /// What rustls keeps for this end alone.
    type Data;
    /// Whether it hears before it speaks.
    const ACCEPTS: bool;

    /// Takes records up to the next thing that is to be done.
    fn advance<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl TlsEnd for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    const ACCEPTS: bool = false;

    fn advance<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(bytes)
    }
}

impl TlsEnd for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    const ACCEPTS: bool = true;

    fn advance<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(bytes)
    }
}

pub(crate) struct Session<E: TlsEnd = UnbufferedClientConnection> {
    connection: E,
    /// An incomplete record; empty, and mostly not allocated, unless one came in pieces.
    carry: Vec<u8>,
    /// Bytes for the socket, from `sent` on.
    out: Vec<u8>,
    sent: usize,
    /// The handshake is over, and this end has not said that nothing follows.
    pub(super) open: bool,
    heard: bool,
    pub(super) peer_closed: bool,
    /// What ended the session: rustls must not be asked again.
    failed: Option<TlsError>,
}

impl Session {
    /// A session whose first flight waits in [`Session::unsent`].
    pub(crate) fn new(client: &Client) -> Result<Self, TlsError> {
        let name = client.name.clone();
        let mut session =
            Session::on(UnbufferedClientConnection::new(client.config.clone(), name)?);
        session.receive(&mut [], |_| {})?;
        Ok(session)
    }
}

impl<E: TlsEnd> Session<E> {
    fn on(connection: E) -> Self {
        Session {
            connection,
            carry: Vec::new(),
            out: Vec::new(),
            sent: 0,
            open: false,
            heard: false,
            peer_closed: false,
            failed: None,
        }
    }

    /// What the two sides agreed on; `None` before the handshake is over.
    pub(crate) fn agreed(&self) -> Option<Agreed> {
        let version = self.connection.protocol_version()?;
        let suite = self.connection.negotiated_cipher_suite()?.suite();
        Some(Agreed { version, suite })
    }

    pub(crate) fn unsent(&self) -> &[u8] {
        &self.out[self.sent..]
    }

    pub(crate) fn wrote(&mut self, written: usize) {
        self.sent += written;
        if self.sent == self.out.len() {
            self.sent = 0;
            self.out.clear();
            if self.out.capacity() > KEPT_BYTES {
                self.out = Vec::new();
            }
        }
    }

    /// Encrypts as much of `plain` as fits one record; returns how much that was.
    ///
    /// # Errors
    /// The session is over.
    pub(crate) fn send(&mut self, plain: &[u8]) -> Result<usize, TlsError> {
        self.is_sound()?;
        let plain = &plain[..plain.len().min(RECORD_BYTES)];
        let mut room = plain.len() + RECORD_EXTRA_BYTES;
        loop {
            // rustls keeps places in the incomplete record, so that it must see that again.
            let UnbufferedStatus { discard, state } = self.connection.advance(&mut self.carry);
            let mut taken = None;
            match state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    let begin = self.out.len();
                    self.out.resize(begin + room, 0);
                    let encrypted = traffic.encrypt(plain, &mut self.out[begin..]);
                    self.out.truncate(begin + *encrypted.as_ref().unwrap_or(&0));
                    match encrypted {
                        Ok(_) => taken = Some(plain.len()),
                        Err(EncryptError::InsufficientSize(e)) => room = e.required_size,
                        Err(e) => return Err(TlsError::new(e)),
                    }
                }
                // An answer to the peer, such as to its wish for new keys, goes first.
                ConnectionState::EncodeTlsData(mut data) => {
                    encode(&mut self.out, |room| data.encode(room))?;
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                _ => return Err(TlsError::new("the session is not open")),
            }
            self.carry.drain(..discard);
            if let Some(taken) = taken {
                return Ok(taken);
            }
        }
    }

    /// Takes what one read brought and hands what it decrypts to, record by record, to `on_plain`.
    ///
    /// # Errors
    /// The session is over; an alert for the peer may wait in [`Session::unsent`].
    pub(crate) fn receive(
        &mut self,
        bytes: &mut [u8],
        mut on_plain: impl FnMut(&[u8]),
    ) -> Result<(), TlsError> {
        self.is_sound()?;
        let mut heard = self.heard;
        let mut on_plain = |plain: &[u8]| {
            heard = true;
            on_plain(plain);
        };
        let result = if self.carry.is_empty() {
            let result = self.process(bytes, &mut on_plain);
            if let Ok(used) = result {
                self.carry.extend_from_slice(&bytes[used..]);
            }
            result
        } else {
            let mut carry = std::mem::take(&mut self.carry);
            carry.extend_from_slice(bytes);
            let result = self.process(&mut carry, &mut on_plain);
            carry.drain(..*result.as_ref().unwrap_or(&0));
            if !carry.is_empty() || carry.capacity() <= KEPT_BYTES {
                self.carry = carry;
            }
            result
        };
        self.heard = heard;
        result.map(|_| ()).map_err(|error| {
            self.encode_alert();
            let refused = !heard && matches!(error, rustls::Error::AlertReceived(_));
            let error = TlsError { refused, ..error.into() };
            self.failed = Some(error.clone());
            error
        })
    }

    /// Runs rustls over whole records; returns how many bytes it is done with.
    fn process(
        &mut self,
        bytes: &mut [u8],
        on_plain: &mut impl FnMut(&[u8]),
    ) -> Result<usize, rustls::Error> {
        let mut used = 0;
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.connection.advance(&mut bytes[used..]);
            let more = match state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        if !record.payload.is_empty() {
                            on_plain(record.payload);
                        }
                    }
                    true
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    encode(&mut self.out, |room| data.encode(room))?;
                    true
                }
                ConnectionState::TransmitTlsData(data) => {
                    // What was encoded stands in `out`, which goes out before anything else.
                    data.done();
                    true
                }
                ConnectionState::PeerClosed => {
                    self.peer_closed = true;
                    true
                }
                ConnectionState::WriteTraffic(_) => {
                    self.open = true;
                    false
                }
                ConnectionState::BlockedHandshake | ConnectionState::Closed => false,
                _ => return Err(rustls::Error::General("a state that needs early data".into())),
            };
            used += discard;
            if !more {
                return Ok(used);
            }
        }
    }

    /// Says to the peer why the session is over, where rustls has something to say.
    fn encode_alert(&mut self) {
        // Without this look rustls would go on to the buffer, of which nothing is left.
        if self.connection.wants_write()
            && let Ok(ConnectionState::EncodeTlsData(mut data)) =
                self.connection.advance(&mut []).state
        {
            let _ = encode(&mut self.out, |room| data.encode(room));
        }
    }

    fn is_sound(&self) -> Result<(), TlsError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Says to the peer that nothing follows.
    pub(crate) fn close(&mut self) {
        if !self.open || self.failed.is_some() {
            return;
        }
        let state = self.connection.advance(&mut self.carry).state;
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) = state {
            let begin = self.out.len();
            self.out.resize(begin + RECORD_EXTRA_BYTES, 0);
            let length = traffic.queue_close_notify(&mut self.out[begin..]).unwrap_or(0);
            self.out.truncate(begin + length);
        }
        self.open = false;
    }

    /// Says nothing more, not even that nothing follows.
    pub(crate) fn fall_silent(&mut self) {
        self.open = false;
        self.out.clear();
        self.sent = 0;
    }
}

/// Lets rustls append to `out`, whose room it names by refusing once.
fn encode(
    out: &mut Vec<u8>,
    mut into: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), rustls::Error> {
    let begin = out.len();
    let mut room = RECORD_EXTRA_BYTES;
    loop {
        out.resize(begin + room, 0);
        match into(&mut out[begin..]) {
            Ok(length) => {
                out.truncate(begin + length);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(e)) => room = e.required_size,
            Err(e) => return Err(rustls::Error::General(e.to_string())),
        }
    }
}
