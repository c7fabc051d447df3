//! Known amounts of memory of each class, in a process of their own, read back by the split.
//!
//! This binary is its own helper: with `DUEL_TEST_HOLD` set it takes what it is told to and says so.

mod common;

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;

use duel::format::{MemorySplit, SplitSource};
use duel::side::cgroup::Cgroup;
use duel::side::split::{Look, Moment, ObjectSizes, Ports, between, held_bytes};

const THREADS: u64 = 64;
const TOUCHED_BYTES: u64 = 512 << 10;
const STACK_BYTES: u64 = 1 << 20;
const BLOCKS: u64 = 40_000;
const BLOCK_BYTES: u64 = 256;
const LARGE_BYTES: u64 = 8 << 20;
const SOCKETS: u64 = 400;

/// Touches this much of the calling thread's stack, a page at a time.
#[inline(never)]
fn touch_stack() -> u64 {
    // By reference, since an unoptimised build would put a copy on the stack.
    let mut pages = [0u8; TOUCHED_BYTES as usize];
    std::hint::black_box(&mut pages).fill(1);
    pages.iter().map(|b| u64::from(*b)).sum()
}

/// The helper: takes `what`, and tells its allocator's count before and after.
fn hold(what: &str, address: &str) {
    let mut lines = std::io::stdin().lines();
    let mut say = |held: Option<u64>| {
        println!("held {}", held.unwrap_or(0));
        std::io::stdout().flush().unwrap();
        lines.next()
    };
    say(held_bytes(false));
    let mut blocks: Vec<Box<[u8; BLOCK_BYTES as usize]>> = Vec::new();
    let mut large: Vec<u8> = Vec::new();
    let mut sockets: Vec<TcpStream> = Vec::new();
    match what {
        "heap" => {
            blocks.extend((0..BLOCKS).map(|_| Box::new([1; BLOCK_BYTES as usize])));
            large = vec![1; LARGE_BYTES as usize];
        }
        "sockets" => {
            sockets.extend((0..SOCKETS).map(|_| TcpStream::connect(address).unwrap()));
        }
        "stacks" => {
            let (ready, wait) = std::sync::mpsc::channel();
            for _ in 0..THREADS {
                let ready = ready.clone();
                let builder = thread::Builder::new().stack_size(STACK_BYTES as usize);
                let run = move || {
                    ready.send(touch_stack()).unwrap();
                    loop {
                        thread::park();
                    }
                };
                builder.spawn(run).unwrap();
            }
            let touched: u64 = wait.iter().take(THREADS as usize).sum();
            assert_eq!(touched, THREADS * TOUCHED_BYTES);
        }
        other => panic!("cannot hold {other}"),
    }
    say(held_bytes(false));
    drop((blocks, large, sockets));
}

#[test]
#[ignore = "not a test: the helper of the others, which start it"]
fn helper() {
    if let Ok(what) = std::env::var("DUEL_TEST_HOLD") {
        hold(&what, &std::env::var("DUEL_TEST_TARGET").unwrap_or_default());
    }
}

struct Helper {
    child: Child,
    stdin: ChildStdin,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Helper {
    fn start(what: &str, address: &str) -> Helper {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "helper", "--ignored", "--nocapture", "--test-threads=1"])
            .env("DUEL_TEST_HOLD", what)
            .env("DUEL_TEST_TARGET", address)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Helper { child, stdin, lines }
    }

    fn held(&mut self) -> u64 {
        loop {
            let line = self.lines.next().expect("the helper speaks").unwrap();
            // libtest prints the test's name on the same line.
            if let Some((_, held)) = line.split_once("held ") {
                return held.parse().unwrap();
            }
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a helper that holds `what` added, and whether a cgroup counted.
fn split_of(what: &str) -> MemorySplit {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let kept: Vec<_> = listener.incoming().collect();
        drop(kept);
    });
    let cgroup = Cgroup::create(&format!("test-split-{what}"))
        .map_err(|why| println!("without a cgroup: {why}"))
        .ok();
    let mut helper = Helper::start(what, &address);
    let pid = helper.child.id();
    if let Some(cgroup) = &cgroup {
        cgroup.add(pid).unwrap();
    }
    let moment = |held, ports: Option<&Ports>| {
        let mut inodes = HashSet::new();
        let mut look = Look::default();
        look.add(pid, STACK_BYTES, &mut inodes).unwrap();
        look.port_buckets = ports.map_or(0, |p| p.added(&inodes));
        let cgroup = cgroup.as_ref().map(|g| g.read().unwrap());
        Moment { look: Some(look), cgroup, held_bytes: Some(held) }
    };
    let held = helper.held();
    let (ports, before) = (Ports::read(), moment(held, None));
    helper.stdin.write_all(b"go\n").unwrap();
    let held = helper.held();
    let after = moment(held, Some(&ports));
    let version = cgroup.as_ref().map(Cgroup::version);
    let split = between(&before, &after, version, &ObjectSizes::read()).unwrap();
    println!("{what}: {split:?}");
    split
}

#[track_caller]
fn within_5_percent(name: &str, seen: i64, known: u64) {
    let off = (seen as f64 / known as f64 - 1.0).abs();
    assert!(off <= 0.05, "{name}: {seen} bytes where {known} are known, {:.1} % off", 100.0 * off);
}

#[test]
fn known_heap_reads_back() {
    let split = split_of("heap");
    // glibc's blocks carry 8 bytes and are multiples of 16; the list of the blocks grows by doubling.
    let blocks = BLOCKS * (BLOCK_BYTES + 16) + BLOCKS.next_power_of_two() * 8;
    let known = blocks + LARGE_BYTES;
    within_5_percent("heap held", split.heap_bytes.expect("a count"), known);
    within_5_percent("heap resident", split.heap_resident_bytes, known);
    within_5_percent("all of it is heap", split.parts_bytes(), known);
}

#[test]
fn known_stacks_and_threads_read_back() {
    let split = split_of("stacks");
    assert_eq!(split.threads, THREADS as i64);
    within_5_percent("stacks", split.stack_bytes, THREADS * TOUCHED_BYTES);
    assert_eq!(split.kernel_stack_bytes, (THREADS * (16 << 10)) as i64);
    // Each thread's 512 KiB lie in a page table of their own or share one of 2 MiB with a neighbour.
    assert!(split.page_table_bytes > 0, "{split:?}");
    if split.source != SplitSource::Proc {
        within_5_percent("total", split.total_bytes.unwrap(), split.parts_bytes() as u64);
    }
}

#[test]
fn known_sockets_read_back() {
    let split = split_of("sockets");
    assert_eq!(split.sockets, SOCKETS as i64);
    let kernel = split.socket_object_bytes + split.other_kernel_bytes + split.page_table_bytes;
    let (Some(total), SplitSource::CgroupV1 | SplitSource::CgroupV2) =
        (split.total_bytes, split.source)
    else {
        return println!("skipped: no memory cgroup says what sockets cost");
    };
    let user = split.parts_bytes() - kernel;
    within_5_percent("sockets", kernel, (total - user) as u64);
}
