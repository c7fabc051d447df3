//! What a process used: read, compared with what a helper process is known to use.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use duel::side::cgroup::{Cgroup, CgroupMemory};
use duel::side::usage::{
    Edge, KERNEL_STACK_BYTES, MOST_WAITING_THREADS, ProcessUse, Usage, reset_hwm,
};

const HELPER: &str = "DUEL_TEST_HELPER";
const MIB: u64 = 1 << 20;

/// A second run of this test binary that plays a part and reports line by line.
struct Helper {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Helper {
    fn start(part: &str) -> Helper {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "helper", "--nocapture"])
            .env(HELPER, part)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Helper { child, lines }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn go(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    }

    /// The next line that begins with `!`, which the test harness never prints.
    fn says(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "the helper ended early");
            if let Some((_, text)) = line.split_once('!') {
                return text.trim().to_string();
            }
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn say(text: &str) {
    println!("\n!{text}");
    std::io::stdout().flush().unwrap();
}

fn wait_for_go() {
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

/// Starts parked threads with stacks of 64 KiB.
fn park(threads: u64) {
    let (ready, parked) = mpsc::channel();
    for _ in 0..threads {
        let ready = ready.clone();
        thread::Builder::new()
            .stack_size(64 << 10)
            .spawn(move || {
                ready.send(()).unwrap();
                thread::park();
            })
            .unwrap();
    }
    (0..threads).for_each(|_| parked.recv().unwrap());
}

fn spin(milliseconds: u64) {
    let end = duel::sys::thread_cpu_ns() + milliseconds * 1_000_000;
    while duel::sys::thread_cpu_ns() < end {}
}

#[test]
fn helper() {
    let Ok(part) = std::env::var(HELPER) else { return };
    match part.split_once(' ').unwrap_or((&part, "")) {
        ("threads", count) => {
            say("ready");
            wait_for_go();
            park(count.parse().unwrap());
            say("parked");
        }
        ("window", count) => window(count.parse().unwrap()),
        ("peak", _) => peak(),
        ("cost", count) => cost(count.parse().unwrap()),
        (other, _) => panic!("no part {other}"),
    }
    // The end of standard input ends the helper, so that it never outlives the test.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    std::process::exit(0);
}

/// A window in which two threads compute and the main one sleeps on a channel.
fn window(idle: u64) {
    park(idle);
    let before = Usage::read(Edge::Start);
    let (send, receive) = mpsc::channel();
    let workers: Vec<_> = (0..2)
        .map(|_| {
            let send = send.clone();
            thread::spawn(move || {
                spin(60);
                send.send(()).unwrap();
            })
        })
        .collect();
    (0..2).for_each(|_| receive.recv().unwrap());
    // One ends inside the window: its time must be kept all the same.
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    let spent = Usage::read(Edge::End).since(&before);
    let record = (&spent.cpu, &spent.switches, &spent.unavailable);
    say(&serde_json::to_string(&record).unwrap());
}

/// Holds 64 MiB, lets go, resets the peak.
fn peak() {
    let held = std::hint::black_box(vec![1u8; 64 << 20]);
    drop(held);
    let with = ProcessUse::read().unwrap();
    let reset = reset_hwm();
    let after = ProcessUse::read().unwrap();
    say(&serde_json::to_string(&(with, reset, after)).unwrap());
}

fn cost(threads: u64) {
    park(threads - 2);
    let mut micros = [0.0; 2];
    let rounds = 50;
    for _ in 0..rounds {
        let start = duel::sys::now_ns();
        std::hint::black_box(Usage::read(Edge::Start));
        let middle = duel::sys::now_ns();
        std::hint::black_box(ProcessUse::read().unwrap());
        micros[0] += (middle - start) as f64 / 1e3 / f64::from(rounds);
        micros[1] += (duel::sys::now_ns() - middle) as f64 / 1e3 / f64::from(rounds);
    }
    say(&format!(
        "{threads} threads: Usage::read {:.0} µs, ProcessUse::read {:.0} µs",
        micros[0], micros[1]
    ));
}

type Window = (duel::format::Cpu, duel::format::Switches, duel::format::Reasons);

#[test]
fn a_window_holds_the_time_of_every_thread_even_of_those_that_ended() {
    let (cpu, switches, unavailable): Window =
        serde_json::from_str(&Helper::start("window 0").says()).unwrap();
    assert!(cpu.total_ns >= 120_000_000, "two threads used 60 ms each: {cpu:?}");
    assert!(cpu.total_ns < 1_000_000_000, "that is far beyond what was used: {cpu:?}");
    let split = cpu.user_ns + cpu.system_ns;
    assert!(split.abs_diff(cpu.total_ns) < cpu.total_ns / 4, "parts and total disagree: {cpu:?}");
    assert!(switches.voluntary >= 1, "the main thread waited on a channel: {switches:?}");
    assert!(cpu.machine_busy_ns.is_some(), "no busy time of the machine: {unavailable:?}");
    assert_eq!(cpu.run_queue_wait_ns.is_none(), unavailable.contains_key("cpu.run_queue_wait_ns"));
}

#[test]
fn too_many_threads_leave_the_run_queue_unread_and_say_why() {
    let many = MOST_WAITING_THREADS + 1;
    let (cpu, _, unavailable): Window =
        serde_json::from_str(&Helper::start(&format!("window {many}")).says()).unwrap();
    assert_eq!(cpu.run_queue_wait_ns, None);
    let why = &unavailable["cpu.run_queue_wait_ns"];
    assert!(why.contains("would disturb"), "{why}");
}

#[test]
fn the_peak_is_kept_until_it_is_reset() {
    type Peak = (ProcessUse, Result<(), String>, ProcessUse);
    let (with, reset, after): Peak = serde_json::from_str(&Helper::start("peak").says()).unwrap();
    assert!(with.peak_rss_bytes > 64 * MIB, "64 MiB were held: {with:?}");
    assert!(with.rss_bytes < 64 * MIB, "and let go again: {with:?}");
    match reset {
        Ok(()) => assert!(after.peak_rss_bytes < 64 * MIB, "the reset did nothing: {after:?}"),
        Err(why) => println!("skipped: {why}"),
    }
    assert!(after.page_table_bytes > 0, "{after:?}");
}

#[test]
fn another_process_is_read_by_its_id() {
    let mut helper = Helper::start("threads 100");
    assert_eq!(helper.says(), "ready");
    let before = ProcessUse::of(helper.pid()).unwrap();
    helper.go();
    assert_eq!(helper.says(), "parked");
    let after = ProcessUse::of(helper.pid()).unwrap();
    assert_eq!(after.threads - before.threads, 100);
    assert_eq!(after.kernel_stack_bytes(), after.threads * KERNEL_STACK_BYTES);
    assert!(after.rss_bytes > before.rss_bytes, "{before:?} {after:?}");
}

#[test]
fn a_process_that_is_gone_is_an_error_that_names_it() {
    // Larger than any id that the kernel hands out.
    let error = ProcessUse::of(4_194_305).unwrap_err();
    assert!(error.contains("/proc/4194305/status"), "{error}");
}

#[test]
fn descriptors_are_counted() {
    let fds = |helper: &Helper| ProcessUse::of(helper.pid()).unwrap().fds.unwrap();
    let mut helper = Helper::start("threads 0");
    assert_eq!(helper.says(), "ready");
    let listed = std::fs::read_dir(format!("/proc/{}/fd", helper.pid())).unwrap().count() as u64;
    assert_eq!(fds(&helper), listed);
}

#[test]
fn the_kernel_memory_of_idle_threads_is_counted_by_a_cgroup() {
    const THREADS: u64 = 400;
    let cgroup = match Cgroup::create("test-kernel-memory") {
        Ok(cgroup) => cgroup,
        Err(why) => return println!("skipped: {why}"),
    };
    let mut helper = Helper::start(&format!("threads {THREADS}"));
    assert_eq!(helper.says(), "ready");
    cgroup.add(helper.pid()).unwrap();
    let kernel = |m: CgroupMemory| m.kernel_bytes.expect("kernel memory");
    let before = cgroup.read().unwrap();
    helper.go();
    assert_eq!(helper.says(), "parked");
    let after = cgroup.read().unwrap();
    let each = (kernel(after) - kernel(before)) / THREADS;
    println!("{each} bytes of kernel memory per thread; {before:?} → {after:?}");
    assert!(each >= KERNEL_STACK_BYTES, "less than its stack: {each} bytes per thread");
    assert!(each < 4 * KERNEL_STACK_BYTES, "more than a thread can take: {each} bytes");
    if let Some(peak) = after.kernel_peak_bytes {
        assert!(peak >= kernel(after), "{after:?}");
    }
    let dir = cgroup.dir().to_path_buf();
    drop(helper);
    cgroup.remove().unwrap();
    assert!(!dir.exists(), "{dir:?} is still there");
}

#[test]
fn a_cgroup_goes_when_it_is_dropped_and_its_name_is_free_again() {
    let dir = match Cgroup::create("test-drop") {
        Ok(cgroup) => {
            assert!(cgroup.read().unwrap().socket_bytes.is_some(), "no counter of TCP buffers");
            cgroup.dir().to_path_buf()
        }
        Err(why) => return println!("skipped: {why}"),
    };
    assert!(!dir.exists(), "{dir:?} is still there");
    let again = Cgroup::create("test-drop").unwrap();
    let error = Cgroup::create("test-drop").unwrap_err();
    assert!(error.contains("test-drop"), "the taken name must be named: {error}");
    let error = again.add(4_194_305).unwrap_err();
    assert!(error.contains("cgroup.procs"), "{error}");
}

#[test]
#[ignore = "prints what a reading costs; run it by hand with --nocapture in a release build"]
fn what_a_reading_costs() {
    for threads in [3, 512, 10_000] {
        println!("{}", Helper::start(&format!("cost {threads}")).says());
    }
}
