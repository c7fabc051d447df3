//! Gates that fail in a run, each for its own reason; the others are provoked in unit tests.

use duel::format::{Flag, Status};
use duel::plan::Engine;
use duel::report::summary::summarise;

use crate::harness::{alone, failed_gates, gate, run};

/// More than one CPU can send: the schedule is not kept, and the worker has no CPU to spare.
#[test]
fn a_schedule_beyond_the_machine_is_invalid() {
    let _alone = alone();
    let done = run("[target]\nservice_time = '0ms'\n\
         [plan]\narrivals = 'constant'\nduration = '300ms'\ntimeout = '300ms'\n\
         [sweep]\nengines = ['tokio']\nlanes = [64]\nrates = ['2M']\ntrials = 1\n\
         noise_repeats = 0");
    let record = done.only();
    assert_eq!((record.status, done.code), (Status::Invalid, Some(4)), "{}", done.stderr);
    assert_eq!(gate(record, "delivered_rate").ok, Some(false), "{}", done.stderr);
    // The worker's CPU was full. What other programs and other guests of the machine took of it is
    // seen, and may keep the worker just below the limit of its own gate.
    let shares = ["worker_cpu_share", "foreign_cpu_share", "steal_share"];
    let used: f64 = shares.iter().filter_map(|name| gate(record, name).value).sum();
    assert!(used > 0.85, "{used} of a CPU: {:?}", record.gates);
    assert!(record.ledger.balances() && record.ledger.unsent > 0, "{:?}", record.ledger);
    let groups = summarise(&done.records, Engine::Tokio, duel::stats::MARGIN);
    assert!(groups.iter().flat_map(|g| &g.rows).all(|r| !r.ranked), "an invalid row is ranked");
    assert!(
        done.stdout.contains("duel sent fewer requests than the plan asks for"),
        "{}",
        done.stdout
    );
}

/// Two lanes of 50 ms carry 40 requests/s: the machine has time, the lanes have not.
#[test]
fn a_rate_beyond_the_lanes_is_invalid_and_says_that_lanes_ran_out() {
    let done = run("[target]\nservice_time = '50ms'\n\
         [plan]\narrivals = 'constant'\nduration = '500ms'\ntimeout = '500ms'\n\
         [sweep]\nengines = ['threads', 'tokio']\nlanes = [2]\nrates = [400]\ntrials = 1\n\
         noise_repeats = 0");
    assert_eq!(done.code, Some(4), "{}", done.stderr);
    for record in &done.records {
        assert!(failed_gates(record).contains(&"delivered_rate"), "{}", done.stderr);
        assert_eq!(gate(record, "worker_cpu_share").ok, Some(true), "{}", done.stderr);
        assert_eq!(record.occupancy, None, "an open loop has no occupancy");
    }
    assert!(done.stdout.contains("lanes ran out"), "{}", done.stdout);
}

/// A target whose queue of connections takes two and never accepts: the other lanes have none.
#[test]
fn a_target_that_refuses_lanes_is_seen() {
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("an address");
    socket.listen(1).expect("listens");
    let port = socket.local_addr().expect("bound").as_socket().expect("IPv4").port();
    let done = run(&format!(
        "[target]\nurl = 'http://127.0.0.1:{port}'\n\
         [plan]\nduration = '200ms'\ntimeout = '200ms'\n\
         [sweep]\nengines = ['threads']\nlanes = [8]\ntrials = 1\nnoise_repeats = 0"
    ));
    let record = done.only();
    assert_eq!((record.status, done.code), (Status::Invalid, Some(1)), "{}", done.stderr);
    assert_eq!(failed_gates(record), ["connected_lanes"], "{}", done.stderr);
    assert!(record.error.as_ref().is_some_and(|e| e.contains("nothing completed")));
}

/// In a closed loop that does nothing but wait, nearly every lane is in service.
#[test]
fn a_closed_loop_says_how_busy_its_lanes_were() {
    let done =
        run("[target]\nservice_time = '20ms'\n[plan]\nduration = '400ms'\nwarmup = '50ms'\n\
         [sweep]\nengines = ['threads', 'tokio']\nlanes = [8]\ntrials = 1\nnoise_repeats = 0");
    for record in &done.records {
        let occupancy = record.occupancy.expect("a closed loop has an occupancy");
        assert!((0.5..=1.02).contains(&occupancy), "{} {occupancy}", record.cell.id);
    }
}

/// In a closed loop of a server under test whose client may be the slower side, the gate says what the
/// CPU of both says, and the report what to do.
#[test]
fn a_client_that_is_slower_than_the_server_is_named() {
    let done =
        run("[plan]\nduration = '400ms'\nwarmup = '100ms'\n[target]\nservice_time = '0ms'\n\
         [sweep]\nserver_engines = ['tokio-single']\nserver_codecs = ['lean']\ncodecs = ['hyper']\n\
         lanes = [32]\ntrials = 1\nnoise_repeats = 0");
    let record = done.only();
    let gate = gate(record, "client_cpu_share");
    if record.flags.contains(&Flag::SharedCpu) {
        assert_eq!(gate.ok, None, "on one CPU nobody can tell");
        return;
    }
    let server = record.server.as_ref().expect("it was read").cpu.total_ns;
    let share = server as f64 / record.measured_ns as f64;
    let client = gate.value.expect("it was decided");
    println!("client {:.0} %, server {:.0} % of a CPU", client * 100.0, share * 100.0);
    if duel::driver::cpus::allowed().expect("CPUs").len() == 2 {
        // Each side has one of them.
        assert_eq!(gate.ok, Some(client <= 0.9 || share > 0.9), "{gate:?}, server {share}");
    }
    if gate.ok == Some(false) {
        assert_eq!((record.status, done.code), (Status::Invalid, Some(4)), "{}", done.stderr);
        assert!(done.stdout.contains("the rate is the client's"), "{}", done.stdout);
        assert!(done.stdout.contains("offer a rate"), "{}", done.stdout);
    }
}
