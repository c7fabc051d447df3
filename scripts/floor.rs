//! The floor under every load generator: one thread, one epoll, one prebuilt request; a write and a
//! read a request, and no parser. What an engine costs above this is scheduling, HTTP and recording.
//!
//! ```text
//! cargo run --release --example floor -- http://127.0.0.1:8081/ -c 64 -d 4
//! ```
//!
//! It learns the length of a response from the first one and takes every later one to be as long,
//! which holds for a server that answers from memory. Only loopback addresses are loaded.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use duel::sys::{now_ns, process_cpu_ns, timespec};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};

const USAGE: &str = "usage: floor http://ADDRESS:PORT/PATH [-c CONNECTIONS] [-d SECONDS]";

struct Options {
    target: SocketAddr,
    request: Vec<u8>,
    connections: usize,
    seconds: u64,
}

struct Connection {
    stream: TcpStream,
    received: usize,
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let (mut url, mut connections, mut seconds) = (None, 64, 4);
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let value = arguments.next().and_then(|v| v.trim_end_matches('s').parse().ok());
            value.filter(|n| *n > 0).ok_or(format!("{argument} takes a number above 0; {USAGE}"))
        };
        match argument.as_str() {
            "-c" => connections = number()? as usize,
            "-d" => seconds = number()?,
            _ => url = Some(argument),
        }
    }
    let url = url.ok_or(USAGE)?;
    let rest = url.strip_prefix("http://").ok_or(USAGE)?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let target: SocketAddr =
        host.parse().map_err(|_| format!("`{host}` is not ADDRESS:PORT; {USAGE}"))?;
    if !target.ip().is_loopback() {
        return Err(format!("{target} is not a loopback address"));
    }
    let path = if path.is_empty() { "/" } else { path };
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\naccept: */*\r\n\r\n");
    Ok(Options { target, request: request.into_bytes(), connections, seconds })
}

/// Sends one request and takes all that comes until the server is quiet for a while.
fn response_length(options: &Options) -> std::io::Result<usize> {
    let mut stream = TcpStream::connect(options.target)?;
    stream.set_read_timeout(Some(Duration::from_millis(300)))?;
    stream.write_all(&options.request)?;
    let mut buffer = [0; 16 * 1024];
    let mut length = 0;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Err(std::io::Error::other("the server closes after each response")),
            Ok(n) => length += n,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock && length > 0 => {
                return Ok(length);
            }
            Err(e) => return Err(e),
        }
    }
}

/// Drives every connection for `options.seconds`; returns the requests that completed.
fn run(options: &Options, length: usize) -> std::io::Result<u64> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut connections = Vec::with_capacity(options.connections);
    for slot in 0..options.connections {
        let stream = TcpStream::connect(options.target)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        epoll::add(&epoll, &stream, EventData::new_u64(slot as u64), EventFlags::IN)?;
        connections.push(Connection { stream, received: 0 });
    }
    for connection in &mut connections {
        connection.stream.write_all(&options.request)?;
    }
    let end = now_ns() + options.seconds * 1_000_000_000;
    let mut events: Vec<Event> = Vec::with_capacity(512);
    let mut buffer = vec![0; 16 * 1024];
    let mut completed = 0;
    while now_ns() < end {
        events.clear();
        epoll::wait(&epoll, spare_capacity(&mut events), Some(&timespec(100_000_000)))?;
        for event in &events {
            let connection = &mut connections[event.data.u64() as usize];
            let read = connection.stream.read(&mut buffer)?;
            if read == 0 {
                return Err(std::io::Error::other("the server closed a connection"));
            }
            connection.received += read;
            if connection.received >= length {
                connection.received -= length;
                completed += 1;
                connection.stream.write_all(&options.request)?;
            }
        }
    }
    Ok(completed)
}

fn main() -> ExitCode {
    let measured = options(std::env::args().skip(1)).and_then(|options| {
        duel::limits::raise_nofile().map_err(|e| e.to_string())?;
        let length = response_length(&options).map_err(|e| e.to_string())?;
        let completed = run(&options, length).map_err(|e| e.to_string())?;
        Ok((options, completed))
    });
    match measured {
        Ok((options, completed)) => {
            let cpu = process_cpu_ns() as f64 / 1e3 / completed.max(1) as f64;
            let rate = completed / options.seconds;
            println!("{completed} requests, {rate} per second, {cpu:.2} us of CPU per request");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::FAILURE
        }
    }
}
