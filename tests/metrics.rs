//! `--metrics`: what a run serves while it goes on, scraped by a real Prometheus.
//!
//! Without `prometheus` the test that needs it says so and passes; `DUEL_REQUIRE_REAL=1` has it fail.

use crate::common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use common::{Sweep, eventually, output, text};

/// A child that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two trials: what is served of the first one's end is there while the second one runs.
const CONFIG: &str = r#"
name = "watched"
[target]
service_time = "2ms"
[plan]
arrivals = "constant"
duration = "60s"
[sweep]
engines = ["tokio"]
codecs = ["lean"]
lanes = [4]
rates = [200]
trials = 2
noise_repeats = 0
"#;

fn get(address: SocketAddr, path: &str) -> String {
    ask(address, "GET", path)
}

fn ask(address: SocketAddr, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    // Only a server that never answers meets it.
    stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer to its end");
    answer
}

/// A run that serves metrics, and where.
fn watched(more: &[&str]) -> (Running, SocketAddr, Sweep) {
    watch(Sweep::new(CONFIG), more)
}

fn watch(sweep: Sweep, more: &[&str]) -> (Running, SocketAddr, Sweep) {
    let mut command = sweep.command();
    command.args(["--metrics", ":0"]).args(more).stderr(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().expect("duel starts");
    let mut said = BufReader::new(child.stderr.take().expect("piped"));
    let run = Running(child);
    let mut line = String::new();
    said.read_line(&mut line).expect("a line");
    let url = line.trim().strip_prefix("duel: metrics on http://").expect("the address");
    let address = url.strip_suffix("/metrics").expect("a path").parse().expect("an address");
    // Read on, so that the run never waits for its reader.
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    (run, address, sweep)
}

fn value(page: &str, series: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

#[test]
fn counters_grow_and_histograms_come_with_the_end_of_a_trial() {
    let (_run, address, _sweep) =
        watched(&["--set", "plan.duration=400ms", "--set", "sweep.trials=40"]);
    assert!(address.ip().is_loopback(), "{address}");
    let cell = r#"cell="tokio-lean-l4-p1-c1-r200""#;
    let completed =
        format!(r#"duel_requests_total{{{cell},phase="measured",outcome="completed"}}"#);
    let count = format!("duel_response_seconds_count{{{cell}}}");
    let mut last = 0.0;
    eventually("a second trial under way after the first one's end", || {
        let page = get(address, "/metrics");
        let now = value(&page, &completed).unwrap_or(0.0);
        assert!(now >= last, "a counter went back from {last} to {now}");
        last = now;
        let ended = value(&page, &count).unwrap_or(0.0);
        ended > 0.0 && now > ended && page.contains("duel_worker_resident_bytes{")
    });
    let page = get(address, "/metrics");
    assert!(page.starts_with("HTTP/1.1 200 OK"), "{page}");
    for part in
        ["text/plain; version=0.0.4", "duel_run_info{name=\"watched\"", "duel_trials_planned 40"]
    {
        assert!(page.contains(part), "`{part}` is missing in: {page}");
    }
    assert!(get(address, "/").starts_with("HTTP/1.1 404"));
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"nonsense\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[test]
fn every_open_loop_shows_its_start_delay() {
    let trace: String = (0..2000).map(|n| format!("{}\t/{n}\n", n * 5)).collect();
    let of = |plan: &str| CONFIG.replace("arrivals = \"constant\"\nduration = \"60s\"", plan);
    let by_rate = |law: &str| of(&format!("arrivals = '{law}'\nduration = '60s'"));
    let without_rates = |plan: &str| of(plan).replace("rates = [200]\n", "");
    let plans = [
        by_rate("constant"),
        by_rate("poisson"),
        without_rates("arrivals = 'constant'\nstages = [{ duration = '60s', rate = 200 }]"),
        without_rates("arrivals = 'trace'\ntrace = 'trace.tsv'"),
    ];
    for plan in plans {
        let sweep = Sweep::new(&plan);
        std::fs::write(sweep.home.path().join("trace.tsv"), &trace).expect("a trace");
        let (_run, address, _sweep) = watch(sweep, &[]);
        eventually(&plan, || get(address, "/metrics").contains("duel_start_delay_seconds{"));
    }
}

/// Whoever connects and misbehaves delays no scrape and no request of the run.
#[test]
fn hostile_clients_disturb_neither_scrapes_nor_the_run() {
    let (_run, address, _sweep) = watched(&[]);
    let connect = || TcpStream::connect(address).expect("it listens");
    let send = |text: &str| {
        let mut stream = connect();
        stream.write_all(text.as_bytes()).expect("it listens");
        stream
    };
    let half = "GET /metrics HTTP/1.1\r\nHost: x\r\n";
    let long = format!("GET /metrics HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(64 << 10));
    let mut open: Vec<TcpStream> = (0..150).map(|_| connect()).collect();
    open.extend((0..150).map(|_| send(half)));
    open.extend((0..20).map(|_| send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")));
    // Refused while it still sends: what the kernel says of that is no matter.
    let _ = connect().write_all(long.as_bytes());
    for _ in 0..3 {
        let page = get(address, "/metrics");
        assert!(page.contains("duel_run_info"), "beside {} others: {page}", open.len());
    }
    let head = ask(address, "HEAD", "/metrics");
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(ask(address, "POST", "/metrics").starts_with("HTTP/1.1 405"));
    drop(open);
    let started =
        r#"duel_requests_started_total{cell="tokio-lean-l4-p1-c1-r200",phase="measured"}"#;
    let before = value(&get(address, "/metrics"), started).unwrap_or(0.0);
    eventually("the run goes on", || {
        value(&get(address, "/metrics"), started).is_some_and(|now| now > before)
    });
}

#[test]
fn an_address_that_cannot_be_served_is_refused() {
    let sweep = Sweep::new(CONFIG);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (address, says) in [("here", "IP:PORT"), (taken.as_str(), "cannot listen")] {
        let out = output(sweep.command().args(["--metrics", address]));
        assert_eq!(out.status.code(), Some(2), "{address}");
        assert!(text(&out).1.contains(says), "{address}: {}", text(&out).1);
        assert!(!sweep.dir().exists(), "{address}: nothing is left behind");
    }
}

#[test]
fn prometheus_scrapes_a_run_and_answers_a_query() {
    if Command::new("prometheus").arg("--version").output().is_err() {
        let required = std::env::var_os("DUEL_REQUIRE_REAL").is_some_and(|v| v == "1");
        assert!(!required, "DUEL_REQUIRE_REAL=1, but there is no prometheus");
        return println!("skipped: no prometheus");
    }
    let (_run, address, sweep) = watched(&[]);
    let home = sweep.home.path();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let at = listener.local_addr().expect("bound");
    drop(listener);
    std::fs::write(
        home.join("prometheus.yml"),
        format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\n\
             scrape_configs: [{{job_name: duel, static_configs: [{{targets: ['{address}']}}]}}]\n"
        ),
    )
    .expect("the config is written");
    let mut command = Command::new("prometheus");
    command.arg(format!("--config.file={}", home.join("prometheus.yml").display()));
    command.arg(format!("--storage.tsdb.path={}", home.join("tsdb").display()));
    command.arg(format!("--web.listen-address={at}"));
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _prometheus = Running(quiet.spawn().expect("prometheus starts"));
    eventually("prometheus listens", || TcpStream::connect(at).is_ok());
    // A rate needs two scrapes between which requests were sent: 200 a second are offered.
    let query =
        "/api/v1/query?query=sum(rate(duel_requests_total%7Boutcome%3D%22completed%22%7D%5B5s%5D))";
    eventually("a rate of completed requests", || {
        let answer = get(at, query);
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let rate: Option<f64> =
            body.find("\"value\":[").and_then(|from| body[from..].split('"').nth(3)?.parse().ok());
        rate.is_some_and(|rate| rate > 20.0)
    });
    let up = get(at, "/api/v1/query?query=duel_in_flight_requests");
    assert!(up.contains("tokio-lean-l4-p1-c1-r200"), "{up}");
}
