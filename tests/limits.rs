//! Limits: named before they are hit, and met where they were predicted.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use duel::limits::{
    CgroupLimit, LimitHit, Limits, LimitsReport, MAPS_PER_THREAD, TargetKind, Use, raise_nofile,
};
use duel::plan::endpoint::Endpoint;
use duel::plan::server::{ServerEngine, ServerPlan};
use duel::plan::steps::Offload;
use duel::plan::{Arrivals, Cell, Codec, Engine, Extent, TrialPlan};

const EMBEDDED: TargetKind = TargetKind::Embedded { processes: 1 };
const REMOTE: TargetKind = TargetKind::External { loopback: false };

fn cell(engine: Engine, lanes: u32, processes: u32) -> Cell {
    Cell {
        id: "test".into(),
        processes,
        total_lanes: lanes * processes,
        stack_size_bytes: Some(64 << 10),
        ..Cell::plain(engine, lanes)
    }
}

/// A machine without limits.
fn boundless() -> Limits {
    Limits { nofile_soft: u64::MAX, nofile_hard: u64::MAX, cpus: 2, ..Limits::default() }
}

fn hit(limits: &Limits, cell: &Cell, target: TargetKind) -> LimitHit {
    limits.check(cell, target).expect_err("the cell must not fit")
}

/// One machine for each limit, on which nothing else binds.
fn machines() -> Vec<(&'static str, Limits)> {
    let b = boundless;
    let some = |max| Some(Use { max, used: 60 });
    let cgroup = |file: &str, max| {
        Some(CgroupLimit { amount: Use { max, used: 60 }, file: format!("/cg/{file}").into() })
    };
    vec![
        ("RLIMIT_NOFILE", Limits { nofile_hard: 20_000, ..b() }),
        ("RLIMIT_NOFILE", Limits { nr_open: Some(20_000), ..b() }),
        ("fs.file-max", Limits { file_max: some(50_000), ..b() }),
        ("vm.max_map_count", Limits { max_map_count: some(65_530), ..b() }),
        ("kernel.pid_max", Limits { pid_max: some(32_768), ..b() }),
        ("kernel.threads-max", Limits { threads_max: some(20_000), ..b() }),
        ("pids.max (/cg/pids.max)", Limits { cgroup_pids: cgroup("pids.max", 10_813), ..b() }),
        ("RLIMIT_NPROC", Limits { nproc: some(10_000), ..b() }),
        ("RLIMIT_AS", Limits { address_space: some(8 << 30), ..b() }),
        ("RLIMIT_DATA", Limits { data: some(1 << 30), ..b() }),
        ("RLIMIT_MEMLOCK", Limits { memlock: some(700 << 10), ..b() }),
        ("vm.overcommit_memory", Limits { commit: some(1 << 30), ..b() }),
        ("available memory", Limits { memory_available_bytes: Some(1 << 30), ..b() }),
        (
            "memory.max (/cg/memory.max)",
            Limits { cgroup_memory: cgroup("memory.max", 1 << 30), ..b() },
        ),
        ("fs.epoll.max_user_watches", Limits { epoll_watches: Some(10_000), ..b() }),
        ("net.ipv4.ip_local_port_range", Limits { local_ports: Some((32_768, 60_999)), ..b() }),
        ("net.netfilter.nf_conntrack_max", Limits { conntrack: some(10_000), ..b() }),
    ]
}

#[test]
fn every_limit_lets_its_most_lanes_pass_and_names_itself_one_lane_later() {
    for (name, limits) in machines() {
        for target in [EMBEDDED, REMOTE, TargetKind::External { loopback: true }] {
            for engine in Engine::ALL {
                let Some(first) = limits.predict(engine, target).into_iter().next() else {
                    continue;
                };
                let most = u32::try_from(first.most_lanes).unwrap();
                assert!(most > 1_000, "{name}, {engine:?}: {first:?}");
                assert_eq!(
                    limits.check(&cell(engine, most, 1), target),
                    Ok(()),
                    "{name} must allow {most} lanes of {engine:?}"
                );
                let beyond = hit(&limits, &cell(engine, most + 1, 1), target);
                assert_eq!(beyond.most_lanes, u64::from(most), "{beyond}");
                assert!(beyond.need > beyond.have, "{beyond}");
                assert!(beyond.limit.starts_with(name), "{beyond} is not about {name}");
                assert!(beyond.to_string().contains(name), "{beyond} does not name {name}");
            }
        }
    }
}

#[test]
fn each_limit_binds_the_engines_that_it_concerns() {
    let binds = |name: &str, engine, target| {
        let (_, limits) = machines().into_iter().find(|(n, _)| n.starts_with(name)).unwrap();
        !limits.predict(engine, target).is_empty()
    };
    for thread_limit in ["vm.max_map_count", "kernel.pid_max", "pids.max", "RLIMIT_NPROC"] {
        assert!(binds(thread_limit, Engine::Threads, EMBEDDED), "{thread_limit}");
        assert!(binds(thread_limit, Engine::Rayon, EMBEDDED), "{thread_limit}");
        assert!(!binds(thread_limit, Engine::Tokio, EMBEDDED), "{thread_limit}");
        assert!(!binds(thread_limit, Engine::TokioSingle, EMBEDDED), "{thread_limit}");
    }
    assert!(binds("RLIMIT_MEMLOCK", Engine::Uring, EMBEDDED), "rings lock memory");
    assert!(!binds("RLIMIT_MEMLOCK", Engine::Tokio, EMBEDDED), "sockets do not");
    assert!(binds("RLIMIT_NOFILE", Engine::Tokio, EMBEDDED));
    assert!(!binds("RLIMIT_NOFILE", Engine::Sequential, EMBEDDED), "it has one lane");
    assert!(binds("net.ipv4.ip_local", Engine::Tokio, REMOTE));
    assert!(!binds("net.ipv4.ip_local", Engine::Tokio, EMBEDDED), "loopback addresses are spread");
    assert!(!binds("fs.epoll", Engine::Threads, REMOTE), "blocking sockets are in no epoll set");
    assert!(binds("fs.epoll", Engine::Threads, EMBEDDED), "the target's are");
}

#[test]
fn a_hit_says_what_is_needed_what_is_allowed_and_the_way_out() {
    let limits =
        Limits { max_map_count: Some(Use { max: 65_530, used: 50 }), cpus: 2, ..boundless() };
    let hit = hit(&limits, &cell(Engine::Threads, 16_500, 2), EMBEDDED);
    // 50 maps, 64 in reserve, 2 × 8 arenas of 2 maps, 8 threads and 16,500 lanes of 4.
    assert_eq!(hit.need, 50 + 64 + 32 + 4 * (8 + 16_500));
    assert_eq!(
        hit.to_string(),
        "16,500 lanes under threads in each of 2 processes need 66,178 memory maps in a worker; \
         vm.max_map_count allows 65,530: at most 16,338 lanes in each of 2 processes; raise it \
         with `sysctl -w vm.max_map_count=66178`, or use fewer lanes and more processes"
    );
}

#[test]
fn descriptors_of_target_processes_are_counted_for_the_busiest() {
    let limits = Limits { nofile_hard: 20_000, ..boundless() };
    let three = cell(Engine::Tokio, 9_000, 3);
    let hit = hit(&limits, &three, EMBEDDED);
    assert_eq!(hit.limit, "RLIMIT_NOFILE of the target");
    assert!(hit.way_out.contains("[target] processes"), "{hit}");
    // Three workers on two targets: one target serves two of them.
    assert_eq!(limits.check(&three, TargetKind::Embedded { processes: 2 }), Ok(()));
    let more = cell(Engine::Tokio, 9_990, 3);
    assert!(limits.check(&more, TargetKind::Embedded { processes: 2 }).is_err());
    assert_eq!(limits.check(&more, TargetKind::Embedded { processes: 3 }), Ok(()));
    assert_eq!(limits.check(&more, TargetKind::External { loopback: true }), Ok(()));
}

#[test]
fn a_pool_of_fixed_size_needs_its_slots_only() {
    let limits =
        Limits { max_map_count: Some(Use { max: 65_530, used: 50 }), cpus: 2, ..boundless() };
    let mut pool = cell(Engine::Rayon, 1_000_000, 1);
    pool.rayon_threads = Some(2);
    assert_eq!(limits.check(&pool, EMBEDDED), Ok(()));
    pool.rayon_threads = Some(20_000);
    assert_eq!(hit(&limits, &pool, EMBEDDED).most_lanes, 0, "no number of lanes helps");
}

#[test]
fn threads_that_steps_are_offloaded_to_are_counted() {
    let machine = |ids| Limits { pid_max: Some(Use { max: ids, used: 0 }), ..boundless() };
    let placed = |offload, lanes| Cell { offload, ..cell(Engine::TokioSingle, lanes, 1) };
    let need = |offload, lanes| hit(&machine(1), &placed(offload, lanes), REMOTE).need;
    let inline = need(Some(Offload::Inline), 1_000);
    assert_eq!(inline, need(None, 1_000));
    assert_eq!(need(Some(Offload::Rayon), 1_000), inline + 1, "a thread a CPU");
    // One for each lane's job; tokio starts at most 512 for blocking work.
    assert_eq!(need(Some(Offload::SpawnBlocking), 64), inline + 64);
    assert_eq!(need(Some(Offload::SpawnBlocking), 1_000), inline + 512);
}

/// A plan that closes every connection, at a rate or as fast as it can.
fn closing(rate: Option<f64>, extent: Extent) -> TrialPlan {
    let sweep = duel::config::parse("", "x.toml", &[], std::path::Path::new("")).unwrap();
    let arrivals = if rate.is_some() { Arrivals::Constant } else { Arrivals::Closed };
    TrialPlan { arrivals, offered_per_s: rate, extent, keep_alive: false, ..sweep.plan }
}

#[test]
fn ports_in_time_wait_are_counted_before_anything_is_sent() {
    const SECOND: u64 = 1_000_000_000;
    let limits = Limits { local_ports: Some((32_768, 60_999)), tw_reuse: Some(2), ..boundless() };
    let remote: Endpoint = "192.0.2.1:80".parse().unwrap();
    let one = cell(Engine::Tokio, 10, 1);
    let minute = Extent::DurationNs(60 * SECOND);
    let ports = |limits: &Limits, plan: &TrialPlan, to: Option<&Endpoint>| {
        limits.ports(plan, &one, to).expect("a plan that closes needs ports")
    };

    // One source address towards another machine: 28,232 ports in 60 s.
    assert_eq!(ports(&limits, &closing(Some(470.0), minute), Some(&remote)).check(), Ok(()));
    let short = ports(&limits, &closing(Some(471.0), minute), Some(&remote)).check();
    let error = short.unwrap_err().to_string();
    assert_eq!(
        error,
        "keep_alive = false needs 28,270 ports at once; net.ipv4.ip_local_port_range allows \
         28,232 ports from one source address, each held for 60 s after its connection: at most 470 new \
         connections/s; use a lower rate, or keep-alive, or widen it with \
         `sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"`"
    );
    // A window too short to use them up, and a kernel that forgets before.
    let short = closing(Some(471.0), Extent::DurationNs(10 * SECOND));
    assert_eq!(ports(&limits, &short, Some(&remote)).check(), Ok(()));
    let forgets = Limits { tw_buckets: Some(8_192), ..limits.clone() };
    assert_eq!(ports(&forgets, &closing(Some(5e3), minute), Some(&remote)).check(), Ok(()));

    // On loopback each worker has 254 source addresses, and ports are free again after a second.
    let local = ports(&limits, &closing(Some(1e5), minute), None);
    assert_eq!((local.sources, local.held_s, local.have()), (254, 1, 254 * 28_232));
    assert_eq!(local.check(), Ok(()));
    let waits = Limits { tw_reuse: Some(0), ..limits.clone() };
    assert_eq!(ports(&waits, &closing(Some(1e5), minute), None).most_per_s(), 119_515);
    assert!(ports(&waits, &closing(Some(2e5), minute), None).check().is_err());

    // As fast as it can: not certain, so it is said and not refused.
    let fast = ports(&limits, &closing(None, Extent::Requests(30_000)), Some(&remote));
    assert!(fast.check().is_ok() && fast.may_run_out());
    assert!(!ports(&limits, &closing(None, Extent::Requests(28_000)), Some(&remote)).may_run_out());
    assert!(ports(&limits, &closing(None, minute), Some(&remote)).may_run_out());

    // No port is taken by a Unix socket or a connection that is kept.
    let unix: Endpoint = "unix:/x".parse().unwrap();
    assert_eq!(limits.ports(&closing(Some(1e6), minute), &one, Some(&unix)), None);
    let kept = TrialPlan { keep_alive: true, ..closing(Some(1e6), minute) };
    assert_eq!(limits.ports(&kept, &one, Some(&remote)), None);
}

#[test]
fn absurd_cells_are_refused_without_overflow() {
    let mut absurd = cell(Engine::Threads, 1, 1);
    (absurd.lanes, absurd.processes) = (u32::MAX, u32::MAX);
    absurd.stack_size_bytes = Some(u64::MAX / 4);
    for (name, limits) in machines() {
        let target = if name.contains("port") { REMOTE } else { EMBEDDED };
        absurd.engine = if name == "RLIMIT_MEMLOCK" { Engine::Uring } else { Engine::Threads };
        assert!(limits.check(&absurd, target).is_err(), "{name}");
    }
}

#[test]
fn the_report_marks_the_first_limit_and_answers_for_the_lanes() {
    let limits = Limits {
        nofile_hard: 20_000,
        max_map_count: Some(Use { max: 65_530, used: 50 }),
        ..boundless()
    };
    let report = LimitsReport::new(&limits, EMBEDDED, Some(17_000));
    let text = duel::cmd::limits::text(&report, None);
    let line = |start: &str| {
        let found = text.lines().find(|l| l.trim_start().starts_with(start));
        found.unwrap_or_else(|| panic!("no line {start:?} in:\n{text}"))
    };
    assert_eq!(line("vm.max_map_count").matches('►').count(), 2, "threads and rayon:\n{text}");
    assert_eq!(line("RLIMIT_NOFILE ").matches('►').count(), 3, "the task engines:\n{text}");
    assert!(line("17,000 lanes under threads").contains("vm.max_map_count"), "{text}");
    assert_eq!(line("17,000 lanes under tokio "), "17,000 lanes under tokio fit");

    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<LimitsReport>(&json).unwrap(), report);
    let fits: Vec<_> = report.engines.iter().map(|e| e.fits).collect();
    assert_eq!(fits, [false, false, true, true, true].map(Some));
}

#[test]
fn this_machine_is_read_as_proc_shows_it() {
    let limits = Limits::read();
    let proc = |name: &str| {
        std::fs::read_to_string(name).ok().and_then(|text| text.trim().parse::<u64>().ok())
    };
    assert_eq!(limits.max_map_count.map(|m| m.max), proc("/proc/sys/vm/max_map_count"));
    assert_eq!(limits.pid_max.map(|m| m.max), proc("/proc/sys/kernel/pid_max"));
    assert!(limits.max_map_count.is_none_or(|m| m.used > 5), "no maps: {limits:?}");
    assert!(limits.pid_max.is_none_or(|m| m.used > 1), "no threads: {limits:?}");
    assert!(limits.nofile_soft <= limits.nofile_hard, "{limits:?}");
}

#[test]
fn the_soft_limit_of_descriptors_is_raised_to_the_hard_one() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let half = limit.maximum.map(|n| n / 2);
    setrlimit(Resource::Nofile, Rlimit { current: half.or(Some(4_096)), maximum: limit.maximum })
        .unwrap();
    assert_eq!(raise_nofile().unwrap(), limit.maximum.unwrap_or(u64::MAX));
    assert_eq!(getrlimit(Resource::Nofile).current, limit.maximum);
}

const HELPER_THREADS: &str = "DUEL_TEST_THREADS";

/// Plays the worker: starts as many threads as it is told, each of which allocates and parks.
#[test]
fn helper_threads() {
    let Some(wanted) = std::env::var(HELPER_THREADS).ok().and_then(|n| n.parse::<u64>().ok())
    else {
        return;
    };
    static STARTED: AtomicU64 = AtomicU64::new(0);
    let before = count_maps();
    let (done, parked) = mpsc::channel();
    let (mut error, mut parked_or_starting) = (String::new(), 0);
    for _ in 0..wanted {
        let done = done.clone();
        let thread = thread::Builder::new().stack_size(64 << 10).spawn(move || {
            // Opens the thread's arena while there are few.
            std::hint::black_box(vec![1u8; 128]);
            STARTED.fetch_add(1, Ordering::Relaxed);
            let _ = done.send(());
            thread::park();
        });
        if let Err(e) = thread {
            error = e.to_string();
            break;
        }
        parked_or_starting += 1;
    }
    for _ in 0..parked_or_starting {
        // A thread that std could not give its signal stack panics before it runs any of this.
        if parked.recv_timeout(Duration::from_secs(10)).is_err() {
            std::process::exit(1);
        }
    }
    let started = STARTED.load(Ordering::Relaxed);
    println!("\nstarted={started} before={before} after={} {error}", count_maps());
    std::io::stdout().flush().unwrap();
    std::process::exit(0);
}

fn count_maps() -> u64 {
    std::fs::read("/proc/self/maps").unwrap().iter().filter(|byte| **byte == b'\n').count() as u64
}

/// Runs the helper in a process of its own; `None` when it was aborted.
fn start_threads(wanted: u64) -> Option<(u64, u64, u64)> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_threads", "--nocapture"])
        .env(HELPER_THREADS, wanted.to_string())
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.starts_with("started="))?;
    println!("{wanted} wanted: {line}");
    let number = |key: &str| {
        let (_, rest) = line.split_once(key).unwrap();
        rest.split(' ').next().unwrap().parse().unwrap()
    };
    Some((number("started="), number("before="), number("after=")))
}

#[test]
fn a_thread_takes_as_many_maps_as_predicted() {
    let (started, before, after) = start_threads(200).expect("200 threads must start");
    assert_eq!(started, 200);
    let per_thread = (after - before) as f64 / 200.0;
    // Arenas come on top: two maps for each of eight a CPU.
    let arenas = 2.0 * 8.0 * f64::from(Limits::read().cpus) / 200.0;
    let most = MAPS_PER_THREAD as f64 + arenas + 0.05;
    assert!(per_thread <= most, "{per_thread} maps a thread; the prediction would be too high");
}

#[test]
fn threads_stop_where_the_maps_were_predicted_to_end() {
    let limits = Limits::read();
    let ceilings = limits.predict(Engine::Threads, REMOTE);
    let maps = ceilings.iter().find(|c| c.limit == "vm.max_map_count");
    let Some(most) = maps.map(|c| c.most_lanes).filter(|n| *n < 50_000) else {
        println!("skipped: vm.max_map_count is out of reach");
        return;
    };
    let room = |c: &&duel::limits::Ceiling| {
        let descriptors = c.limit.starts_with("RLIMIT_NOFILE") || c.limit.starts_with("net.");
        !descriptors && c.limit != "vm.max_map_count" && c.most_lanes < most + 4_000
    };
    if let Some(other) = ceilings.iter().find(room) {
        println!("skipped: {} binds before the maps do", other.limit);
        return;
    }
    let below = start_threads(most).map(|(started, ..)| started);
    assert_eq!(below, Some(most), "the predicted number of threads must start");
    // What was kept in reserve, and as much again for what differs between two processes.
    let beyond = most + most / 100;
    let started = start_threads(beyond).map(|(started, ..)| started);
    assert_ne!(started, Some(beyond), "the limit lies more than 1 % above the prediction");
}

#[test]
fn a_server_needs_a_descriptor_for_each_connection_and_for_each_call() {
    let limits = Limits { nofile_hard: 20_000, ..boundless() };
    let toml = |fan_out: u32, lanes: u32| {
        format!(
            "[sweep]\nserver_engines = [\"threads\", \"pool\", \"rayon\", \"tokio\", \"tokio-single\"]\n\
             fan_out = {fan_out}\nlanes = {lanes}\n[server]\npool_size = 4\nupstream = {{}}\n\
             [[server.step]]\nkind = \"call\"\ncalls = 3\n"
        )
    };
    for (fan_out, lanes, fits) in
        [(1, 9_900, true), (1, 10_000, false), (3, 4_900, true), (3, 5_000, false)]
    {
        let text = toml(fan_out, lanes);
        let sweep = duel::config::parse(&text, "x.toml", &[], std::path::Path::new("")).unwrap();
        for cell in sweep.cells() {
            let server = sweep.server_plan(&cell).expect("a server of duel's own");
            let checked = limits.check_with(&cell, EMBEDDED, Some(&server));
            // The threads of a pool call for few connections at a time.
            let pooled = ["pool", "rayon"].contains(&server.engine.name());
            assert_eq!(checked.is_ok(), fits || pooled, "{}: {checked:?}", cell.id);
            if let Err(hit) = checked {
                let said = hit.to_string();
                assert!(said.contains("RLIMIT_NOFILE of the server"), "{said}");
                assert!(said.contains("fan_out"), "{said}");
                assert!(u64::from(lanes) > hit.most_lanes, "{said}");
            }
        }
    }
}

/// A server engine with the settings that predictions are for, and more of `[server]`.
fn server(engine: ServerEngine, more: &str) -> ServerPlan {
    let pool = if engine == ServerEngine::Pool { "pool_size = 8\n" } else { "" };
    let toml = format!(
        "[sweep]\nserver_engines = [\"{}\"]\nfan_out = 3\n[server]\nstack_size = \"64KiB\"\n{pool}{more}",
        engine.name()
    );
    let toml = if more.is_empty() { toml.replace("fan_out = 3\n", "") } else { toml };
    let sweep = duel::config::parse(&toml, "x.toml", &[], std::path::Path::new("")).unwrap();
    sweep.server_plan(&sweep.cells()[0]).expect("a server of duel's own")
}

fn of_duels_own() -> impl Iterator<Item = ServerEngine> {
    let others = [ServerEngine::Reference, ServerEngine::Own];
    ServerEngine::ALL.into_iter().filter(move |engine| !others.contains(engine))
}

/// The client that loads servers in predictions.
fn client(lanes: u32) -> Cell {
    Cell { codec: Codec::Lean, ..cell(Engine::TokioSingle, lanes, 1) }
}

/// Every limit that holds for a process of the client holds for one of the server, and what the machine
/// has is shared by both.
#[test]
fn every_limit_lets_the_most_connections_of_a_server_pass_and_names_itself_one_later() {
    let mut bound = 0;
    for (name, limits) in machines() {
        for engine in of_duels_own() {
            let Some(first) = limits.predict_server(engine).into_iter().next() else { continue };
            bound += 1;
            let most = u32::try_from(first.most_lanes).unwrap();
            let plan = server(engine, "");
            let fits = |lanes: u32| limits.check_with(&client(lanes), EMBEDDED, Some(&plan));
            assert_eq!(fits(most), Ok(()), "{name} must allow {most} connections of {engine:?}");
            let beyond = fits(most + 1).expect_err("one more does not fit");
            assert_eq!(beyond.most_lanes, u64::from(most), "{engine:?}: {beyond}");
            assert!(beyond.limit.starts_with(name), "{engine:?}: {beyond} is not about {name}");
        }
    }
    assert!(bound > 30, "limits bind {bound} times");
    let threads = machines().into_iter().find(|(name, _)| *name == "vm.max_map_count").unwrap().1;
    let hit =
        threads.check_with(&client(17_000), EMBEDDED, Some(&server(ServerEngine::Threads, "")));
    let said = hit.expect_err("17,000 threads do not fit").to_string();
    assert!(said.contains("under tokio-single on a server `threads` need"), "{said}");
    assert!(said.contains("vm.max_map_count of the server allows 65,530"), "{said}");
    assert!(
        said.contains("sysctl -w vm.max_map_count="),
        "the way out names the limit alone: {said}"
    );
}

/// What fits alone on either side does not fit together where both take of the same.
#[test]
fn the_threads_of_both_sides_are_counted_together() {
    let limits = Limits { pid_max: Some(Use { max: 10_000, used: 100 }), ..boundless() };
    let threads = cell(Engine::Threads, 6_000, 1);
    assert_eq!(limits.check(&threads, EMBEDDED), Ok(()));
    let on = |engine| limits.check_with(&threads, EMBEDDED, Some(&server(engine, "")));
    assert_eq!(on(ServerEngine::Tokio), Ok(()));
    let hit = on(ServerEngine::Threads).expect_err("12,000 threads do not fit");
    assert_eq!((hit.limit.as_str(), hit.server), ("kernel.pid_max", Some(ServerEngine::Threads)));
    // Handlers that block have a thread for each call but one.
    let calls = "upstream = {}\n[[server.step]]\nkind = \"call\"\ncalls = 3\n";
    let tokio_single = client(4_000);
    for (engine, fits) in
        [(ServerEngine::Threads, false), (ServerEngine::Tokio, true), (ServerEngine::Pool, true)]
    {
        let checked = limits.check_with(&tokio_single, EMBEDDED, Some(&server(engine, calls)));
        assert_eq!(checked.is_ok(), fits, "{engine:?}: {checked:?}");
    }
    // All servers call one upstream.
    let fds = Limits { nofile_hard: 20_000, ..boundless() };
    let spread = Cell { processes: 3, total_lanes: 12_000, ..client(4_000) };
    let three = TargetKind::Embedded { processes: 3 };
    let checked = fds.check_with(&spread, three, Some(&server(ServerEngine::Tokio, calls)));
    let said = checked.expect_err("36,000 calls do not fit into one process").to_string();
    assert!(said.contains("RLIMIT_NOFILE of the upstream"), "{said}");
}

#[test]
fn a_server_on_rings_needs_its_locked_memory() {
    let limits = Limits { memlock: Some(Use { max: 300 << 10, used: 0 }), cpus: 3, ..boundless() };
    let on = |engine| limits.check_with(&client(2), EMBEDDED, Some(&server(engine, "")));
    assert_eq!(on(ServerEngine::Tokio), Ok(()));
    // Two CPUs beside the client's, each with a ring for 4,096 connections.
    let said = on(ServerEngine::Uring).expect_err("400 KiB").to_string();
    assert!(said.contains("on a server `uring` need 400 KiB locked memory"), "{said}");
    assert!(said.contains("RLIMIT_MEMLOCK allows 300 KiB: at most 0 lanes"), "{said}");
    assert!(said.contains("ulimit -l 400"), "{said}");
    // By hand it may have fewer, or more.
    let uring = server(ServerEngine::Uring, "");
    assert_eq!(limits.check_on(&client(2), EMBEDDED, Some((&uring, 1))), Ok(()));
    let said = limits.check_on(&client(2), EMBEDDED, Some((&uring, 4))).expect_err("800 KiB");
    assert!(said.to_string().contains("need 800 KiB locked memory"), "{said}");
}
