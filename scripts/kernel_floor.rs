//! What this machine's kernel asks whatever the program: how late a thread wakes up and what falling
//! asleep costs it, and what an open connection takes. Figures of duel that miss a goal are to be read
//! beside these.
//!
//! ```text
//! taskset -c 0 cargo run --release --example kernel_floor
//! ```
//!
//! Pacing cannot be more punctual than a bare thread that sleeps until each release without watching the
//! clock in between, and connections cannot take less than the sockets of both ends.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;

use duel::sys::{now_ns, process_cpu_ns, timespec};
use rustix::thread::{ClockId, clock_nanosleep_absolute, set_current_timer_slack};

const RATES: [u64; 3] = [1_000, 5_000, 20_000];
const SECONDS: u64 = 4;
const CONNECTIONS: u64 = 8_000;
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Sleeps until every release of a constant rate and tells how late it woke up.
fn pace(rate: u64) {
    let (gap_ns, releases) = (1_000_000_000 / rate, rate * SECONDS);
    let (begin_ns, cpu_ns) = (now_ns() + 1_000_000, process_cpu_ns());
    let mut late: Vec<u64> = (0..releases)
        .map(|release| {
            let due = begin_ns + release * gap_ns;
            while now_ns() < due {
                // A signal ends a sleep early.
                let _ = clock_nanosleep_absolute(ClockId::Monotonic, &timespec(due));
            }
            now_ns() - due
        })
        .collect();
    let cpu_us = (process_cpu_ns() - cpu_ns) as f64 / 1e3 / releases as f64;
    late.sort_unstable();
    let us = |share: f64| late[(share * releases as f64) as usize] as f64 / 1e3;
    println!(
        "{rate} releases/s, asleep in between: late by p50 {:.1}, p90 {:.1}, p99 {:.1} us; {cpu_us:.1} us of CPU each",
        us(0.5),
        us(0.9),
        us(0.99)
    );
}

/// Bytes that the kernel holds in its own objects.
fn slab_bytes() -> std::io::Result<u64> {
    let all = std::fs::read_to_string("/proc/meminfo")?;
    let line = all.lines().find_map(|line| line.strip_prefix("Slab:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| std::io::Error::other("/proc/meminfo names no slab"))
}

/// Opens connections to itself, sends a request over each, and tells what both ends hold.
fn connect() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut ends = Vec::with_capacity(CONNECTIONS as usize);
    let before = slab_bytes()?;
    for _ in 0..CONNECTIONS {
        let mut client = TcpStream::connect(address)?;
        let (mut server, _) = listener.accept()?;
        client.write_all(REQUEST)?;
        server.read_exact(&mut [0; REQUEST.len()])?;
        ends.push((client, server));
    }
    let held = slab_bytes()?.saturating_sub(before) / CONNECTIONS;
    println!(
        "{CONNECTIONS} connections on loopback, a request received on each: {held} bytes of kernel memory per connection, both ends"
    );
    Ok(())
}

fn main() -> ExitCode {
    let _ = set_current_timer_slack(std::num::NonZeroU64::new(1));
    RATES.into_iter().for_each(pace);
    match duel::limits::raise_nofile().map_err(std::io::Error::other).and_then(|_| connect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kernel_floor: {error}");
            ExitCode::FAILURE
        }
    }
}
