//! Configs as users write them: what is refused, with which words, and what becomes of the rest.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use duel::config::{self, ConfigError};
use duel::plan::allocator::Allocator;
use duel::plan::cell::RayonThreads;
use duel::plan::engine::Receive;
use duel::plan::expect::Expected;
use duel::plan::steps::{FileOp, Offload, StepPlan};
use duel::plan::sweep::{MemoryTrials, Sweep, Target};
use duel::plan::target::{EmbeddedTarget, Law};
use duel::plan::{Arrivals, Codec, Engine, Extent, Pacer};
use duel::stats::precision::FEWEST_BLOCKS;
use proptest::prelude::*;

/// One millisecond.
const MS: u64 = 1_000_000;

fn parse_with(text: &str, overrides: &[&str]) -> Result<Sweep, ConfigError> {
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    config::parse(text, "x.toml", &overrides, Path::new(env!("CARGO_MANIFEST_DIR")))
}

#[track_caller]
fn parse(text: &str) -> Sweep {
    sweep(text, &[])
}

#[track_caller]
fn sweep(text: &str, overrides: &[&str]) -> Sweep {
    parse_with(text, overrides).unwrap_or_else(|error| panic!("refused: {error}\n{text}"))
}

#[test]
fn what_is_refused_is_refused_in_these_words() {
    let mut lines = include_str!("data/refused.txt").lines();
    let mut wrong = String::new();
    let mut cases = 0;
    while let Some(case) = lines.next() {
        if case.is_empty() || case.starts_with('#') {
            continue;
        }
        let expected = lines.next().unwrap_or("").trim_start();
        let (mut text, mut overrides) = (case.replace('↵', "\n"), Vec::new());
        while let Some((given, rest)) = text.strip_prefix("--set ").and_then(|t| t.split_once(';'))
        {
            overrides.push(given.to_string());
            text = rest.trim_start().to_string();
        }
        let found =
            match config::parse(&text, "x.toml", &overrides, Path::new(env!("CARGO_MANIFEST_DIR")))
            {
                Ok(_) => "accepted".to_string(),
                Err(error) => error.to_string().replace('\n', "↵"),
            };
        if found != expected {
            wrong += &format!("{case}\n  expected {expected}\n  found    {found}\n");
        }
        cases += 1;
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(cases > 278, "only {cases} cases were read");
}

#[test]
fn errors_repeat_no_secret() {
    let secret = "hunter2";
    for text in [
        format!("[target]\nurl = 'http://me:{secret}@127.0.0.1/'"),
        format!("[[plan.request]]\nheaders = {{ authorization = \"{secret}\\u0001\" }}"),
        format!("[[plan.request]]\nheaders = {{ authorization = [['{secret}']] }}"),
        format!("[[plan.request]]\nheaders = '{secret}'"),
    ] {
        let error = parse_with(&text, &[]).expect_err("must be refused").to_string();
        assert!(!error.contains(secret), "{error}");
    }
    let header = format!("plan.request.0.headers.authorization=\"{secret}\\u0001\"");
    let error = parse_with("", &[&header]).expect_err("must be refused").to_string();
    assert!(error.starts_with("--set plan.request.0.headers.authorization: "), "{error}");
    assert!(!error.contains(secret), "{error}");
}

#[test]
fn overrides_replace_keys_and_displace_what_contradicts_them() {
    let file = "name = 'f'\n[plan]\nduration = '1s'\n[target]\nservice_time = '5ms'\nbody = 3\n";
    let requests = sweep(file, &["plan.requests=100"]);
    assert_eq!(requests.plan.extent, Extent::Requests(100), "requests displace the duration");
    let twice = sweep(file, &["plan.requests=1", "plan.requests=2k"]);
    assert_eq!(twice.plan.extent, Extent::Requests(2_000), "the last override counts");
    let longer = sweep("plan.requests = 5", &["plan.duration=2s"]);
    assert_eq!(longer.plan.extent, Extent::DurationNs(2_000 * MS), "duration displaces requests");
    let external = sweep(file, &["target.url=http://127.0.0.1:81/x"]);
    assert!(matches!(external.target, Target::External { .. }), "a url displaces the embedded");
    let rates = "plan.arrivals = 'poisson'\nsweep.rates = [5]";
    assert!(sweep(rates, &["plan.arrivals=closed"]).axes.rates_per_s.is_empty());
    assert_eq!(sweep(file, &["sweep.bodies=[1, 2]"]).axes.bodies, [1, 2]);
    let precise = "sweep.precision = '10%'\nsweep.budget = '1m'\nsweep.max_blocks = 20";
    let fixed = sweep(precise, &["sweep.trials=2"]);
    assert_eq!((fixed.trials, fixed.precision), (2, None), "trials displace the precision");
    assert!(sweep("sweep.trials = 2", &["sweep.precision=5%"]).precision.is_some());

    let made = sweep(
        file,
        &[
            "sweep.engines=tokio",
            "sweep.lanes=[1, \"1k\"]",
            "plan.request.0.path=/a=b?c=d",
            "plan.request.0.headers.Accept=*/*",
            "plan.request.1={ method = 'PUT', weight = 3 }",
            "name=by-hand",
        ],
    );
    assert_eq!(made.name, "by-hand");
    assert_eq!(made.axes.engines, [Engine::Tokio], "one value stands for a list of one");
    assert_eq!(made.axes.lanes, [1, 1_000]);
    assert_eq!(made.plan.mix[0].path, "/a=b?c=d", "only the first = splits");
    assert_eq!(made.plan.mix[0].headers, [("Accept".into(), "*/*".into())]);
    assert_eq!((made.plan.mix[1].method.as_str(), made.plan.mix[1].weight), ("PUT", 3));
}

#[test]
fn a_single_value_stands_for_a_list_of_one_in_files_and_overrides() {
    for (file, set) in [
        ("[sweep]\nengines = 'tokio'", "sweep.engines=tokio"),
        ("[sweep]\ncodecs = 'lean'", "sweep.codecs=lean"),
        ("[sweep]\nlanes = 5", "sweep.lanes=5"),
        ("[sweep]\nprocesses = 2", "sweep.processes=2"),
        ("[sweep]\nbodies = '2KiB'", "sweep.bodies=2KiB"),
        ("[sweep]\nstack_sizes = '1MiB'", "sweep.stack_sizes=1MiB"),
        ("[sweep]\nrayon_threads = 'cores'", "sweep.rayon_threads=cores"),
        ("[sweep]\nallocators = 'glibc'", "sweep.allocators=glibc"),
        ("[plan]\nexpect_status = 404", "plan.expect_status=404"),
        ("[machine]\nworker_cpus = 0", "machine.worker_cpus=0"),
        ("[plan.request]\npath = '/a'", "plan.request={ path = '/a' }"),
        ("[sweep.expect_failed]\nengine = 'rayon'", "sweep.expect_failed.0.engine=rayon"),
    ] {
        let (written, set) = (sweep(file, &[]), sweep("", &[set]));
        assert_eq!(written, set, "{file}");
        assert_ne!(written, sweep("", &[]), "{file}");
    }
    let steps = "[[plan.request]]\nstep = [{ kind = 'http' }, { kind = 'compute', bytes = 1 }]\n";
    let inline = sweep(steps, &["sweep.offload=inline"]);
    assert_eq!(inline.axes.offload, [Offload::Inline]);
    let over_single = sweep("[plan.request]\npath = '/a'", &["plan.request.0.weight=3"]);
    assert_eq!((over_single.plan.mix[0].path.as_str(), over_single.plan.mix[0].weight), ("/a", 3));
    let lanes = sweep("[sweep]\nlanes = 5", &["sweep.lanes.1=6"]);
    assert_eq!(lanes.axes.lanes, [5, 6]);
}

#[test]
fn a_header_may_be_a_list_and_requests_take_the_path_of_the_url() {
    let text = "[target]\nurl = '127.0.0.1:81/a?x=a@b.c'\n[[plan.request]]\n\
                headers = { x = ['1', '2'], y = '3' }\n[[plan.request]]\npath = '/b'\n";
    let sweep = parse(text);
    assert_eq!(sweep.plan.mix[0].path, "/a?x=a@b.c");
    assert_eq!(sweep.plan.mix[1].path, "/b");
    let sent = [("x", "1"), ("x", "2"), ("y", "3")].map(|(n, v)| (n.to_string(), v.to_string()));
    assert_eq!(sweep.plan.mix[0].headers, sent);
}

#[test]
fn an_empty_config_has_the_documented_defaults() {
    let sweep = parse("");
    assert_eq!(sweep.name, "x");
    let Target::Embedded(EmbeddedTarget { service_time, servers, processes, body_bytes, .. }) =
        sweep.target
    else {
        panic!("the default target is the embedded one")
    };
    assert_eq!(service_time, Law::Fixed { ns: 0 });
    assert_eq!((servers, processes, body_bytes), (0, 1, 1024));
    let plan = &sweep.plan;
    assert_eq!(plan.arrivals, Arrivals::Closed);
    assert_eq!(plan.extent, Extent::DurationNs(10_000 * MS));
    assert_eq!((plan.warmup_ns, plan.timeout_ns, plan.seed), (0, 5_000 * MS, 1));
    assert_eq!((plan.pacer, plan.keep_alive), (Pacer::Precise, true));
    assert!(plan.expect_status.is_empty());
    assert_eq!((plan.mix.len(), plan.mix[0].path.as_str()), (1, "/"));
    assert_eq!(sweep.axes.engines, Engine::by_default());
    assert_eq!(sweep.axes.codecs, [Codec::Hyper]);
    assert_eq!((&sweep.axes.lanes[..], &sweep.axes.processes[..]), (&[64][..], &[1][..]));
    assert_eq!(
        (&sweep.axes.cpus[..], &sweep.axes.stack_sizes_bytes[..]),
        (&[1][..], &[65_536][..])
    );
    assert_eq!((sweep.trials, sweep.baseline, sweep.aa), (100, Engine::Threads, false));
    let precision = sweep.precision.expect("a sweep runs until it is precise");
    // Ten blocks of five cells of ten seconds take longer than three minutes.
    assert_eq!((precision.half_width, precision.budget_ns), (0.05, 15 * 5 * 10_060 * MS));
    assert_eq!(parse("plan.duration = '10ms'").precision.unwrap().budget_ns, 180_000 * MS);
    assert_eq!(sweep.equal_within, 0.05);
    assert!(sweep.slo.is_none() && sweep.expect_failed.is_empty());
}

#[test]
fn every_key_is_read() {
    let sweep = parse(include_str!("data/every_key.toml"));
    let Target::Embedded(target) = &sweep.target else { panic!("embedded") };
    assert_eq!(target.service_time, Law::Lognormal { mean_ns: 5 * MS, sigma: 1.0 });
    assert_eq!((target.servers, target.processes), (4, 2));
    assert_eq!((target.faults.error_rate, target.faults.reset_rate), (0.01, 0.001));
    let stall = target.faults.stall.expect("a stall is named");
    assert_eq!((stall.every_ns, stall.for_ns), (5_000 * MS, 200 * MS));
    assert_eq!(sweep.plan.extent, Extent::Requests(1_000));
    assert_eq!(
        (sweep.plan.warmup_ns, sweep.plan.timeout_ns, sweep.plan.seed),
        (100 * MS, 1_000 * MS, 7)
    );
    assert_eq!((sweep.plan.pacer, sweep.plan.arrivals), (Pacer::Native, Arrivals::Poisson));
    assert_eq!(sweep.plan.expect_status, [200, 404]);
    let first = &sweep.plan.mix[0];
    assert_eq!((first.method.as_str(), first.path.as_str(), first.weight), ("POST", "/a?b", 3));
    assert_eq!(first.headers[0].0, "zeta", "headers keep the order in which they are written");
    assert_eq!(first.headers[1].1, "$PATH", "the name stays, its value goes nowhere");
    assert_eq!(first.body, b"$PATH");
    let on_disk = include_bytes!("../rustfmt.toml");
    assert_eq!(sweep.plan.mix[1].body, on_disk, "body files are relative to the config");
    let [StepPlan::File(file), StepPlan::Http, StepPlan::Compute { bytes: 262_144 }] =
        &sweep.plan.mix[1].steps[..]
    else {
        panic!("{:?}", sweep.plan.mix[1].steps)
    };
    assert_eq!((file.op, file.bytes, file.files), (FileOp::Write, 8_192, 2));
    assert!(file.direct && file.sync);
    assert!(file.dir.as_ref().is_some_and(|d| d.is_absolute() && d.ends_with("tests")));
    assert!(sweep.plan.heartbeat);
    let expect = &sweep.expect[0];
    assert_eq!((expect.winner.engine, expect.over.engine), (Engine::Tokio, Engine::Rayon));
    assert_eq!((expect.winner.offload, expect.over.offload), (Some(Offload::Rayon), None));
    assert_eq!((expect.measure, expect.by), (Expected::HeartbeatP99, 1.5));
    assert_eq!((expect.lanes, expect.processes, expect.cpus), (Some(1_000), Some(2), Some(2)));
    assert_eq!((expect.codec, expect.rate), (Some(Codec::Lean), Some(0.5)));
    assert_eq!(sweep.axes.offload, [Offload::Inline, Offload::Rayon]);
    assert_eq!(sweep.axes.uring_receive, [Receive::OneShot]);
    assert_eq!((sweep.aa, sweep.idle, sweep.noise_repeats), (true, true, 1));
    assert_eq!(sweep.memory, MemoryTrials::Also);
    assert_eq!(sweep.axes.allocators, [Allocator::Glibc, Allocator::GlibcArenas(1)]);
    assert_eq!(sweep.axes.engines, [Engine::Tokio, Engine::Rayon]);
    assert_eq!(sweep.axes.codecs, [Codec::Lean, Codec::Hyper]);
    assert_eq!((&sweep.axes.lanes[..], &sweep.axes.processes[..]), (&[1_000][..], &[1, 2][..]));
    assert_eq!(
        (&sweep.axes.rates_per_s[..], &sweep.axes.bodies[..]),
        (&[0.5, 2_500.0][..], &[1_024, 0][..])
    );
    assert_eq!(sweep.axes.stack_sizes_bytes, [65_536, 2 << 20]);
    assert_eq!(sweep.axes.rayon_threads, [RayonThreads::Cores]);
    assert_eq!((sweep.trials, sweep.aa), (40, true));
    let precision = sweep.precision.expect("named");
    assert_eq!((precision.half_width, precision.budget_ns), (0.02, 600 * 3_600_000 * MS));
    assert_eq!(sweep.equal_within, 0.1);
    assert_eq!(sweep.baseline, Engine::Tokio, "without threads, the first engine");
    let [old, new] = &sweep.axes.targets[..] else { panic!("{:?}", sweep.axes.targets) };
    assert_eq!((old.name.as_str(), &old.target), ("old", &sweep.target));
    let Target::Embedded(changed) = &new.target else { panic!("embedded") };
    assert_eq!(changed.service_time, Law::Exponential { mean_ns: 5 * MS });
    assert_eq!((changed.servers, changed.faults.error_rate), (3, 0.02));
    assert_eq!(changed.processes, 2, "what it does not name is as in [target]");
    let expected = &sweep.expect_failed[0];
    assert_eq!((expected.engine, expected.lanes), (Engine::Threads, Some(20_000)));
    assert_eq!(expected.limit.as_deref(), Some("vm.max_map_count"));
    assert_eq!(sweep.machine.worker_cpus, Some(vec![1, 0]));
    assert_eq!(sweep.machine.target_cpus, Some(vec![2]));
    let slo = sweep.slo.as_ref().expect("an SLO is named");
    assert_eq!((slo.p99_ns, slo.p50_ns, slo.error_rate), (Some(50 * MS), None, Some(0.001)));
    let json = serde_json::to_string(&sweep).expect("a sweep is JSON");
    assert_eq!(serde_json::from_str::<Sweep>(&json).expect("and back"), sweep);
}

#[test]
fn urls_give_authority_host_and_path() {
    for (url, authority, host, path) in [
        ("http://127.0.0.1:8080/path?q", "127.0.0.1:8080", "127.0.0.1:8080", "/path?q"),
        ("http://example.org", "example.org:80", "example.org", "/"),
        ("http://example.org:80/", "example.org:80", "example.org", "/"),
        ("HTTP://[::1]:81?a=b", "[::1]:81", "[::1]:81", "/?a=b"),
        ("http://[::1]/", "[::1]:80", "[::1]", "/"),
    ] {
        let text = format!("[target]\nurl = '{url}'\nallow = ['10.0.0.1:80']");
        let sweep = parse(&text);
        let allow = vec!["10.0.0.1:80".to_string()];
        let authority = authority.into();
        let plain = Target::External { authority, allow, unix_socket: None, tls: None };
        assert_eq!(sweep.target, plain, "{url}");
        assert_eq!((sweep.plan.host.as_str(), sweep.plan.mix[0].path.as_str()), (host, path));
        assert_eq!(sweep.cells()[0].body_bytes, None);
        assert_eq!(sweep.embedded_target(&sweep.cells()[0]), None);
    }
}

#[test]
fn a_config_is_read_from_disk_or_the_reason_is_named() {
    let missing = config::load(Path::new("no/such.toml"), &[]).expect_err("there is no such file");
    assert!(missing.to_string().starts_with("no/such.toml: cannot be read: "), "{missing}");
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("disk.toml");
    std::fs::write(folder.path().join("body.txt"), "hello").expect("written");
    std::fs::write(&file, "[[plan.request]]\nbody_file = 'body.txt'\n").expect("written");
    let sweep = config::load(&file, &[]).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((sweep.name.as_str(), &sweep.plan.mix[0].body[..]), ("disk", &b"hello"[..]));
    std::fs::write(&file, b"[plan]\n# \xff\n").expect("written");
    let error = config::load(&file, &[]).expect_err("not UTF-8").to_string();
    assert!(error.contains("disk.toml: cannot be read: line 2 is not UTF-8"), "{error}");
    std::fs::write(&file, "\u{feff}[plan]\r\nrequests = 7\r\n").expect("written");
    let sweep = config::load(&file, &[]).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(sweep.plan.extent, Extent::Requests(7), "a mark and CRLF change nothing");
    for empty in ["", "# nothing\n", "\u{feff}\r\n"] {
        std::fs::write(&file, empty).expect("written");
        let error = config::load(&file, &[]).expect_err("no key").to_string();
        assert!(error.contains("disk.toml: sets no key") && error.contains("duel init"), "{error}");
    }
    std::fs::write(folder.path().join("body.txt"), "$PATH").expect("written");
    std::fs::write(&file, "[[plan.request]]\nbody_file = 'body.txt'\n").expect("written");
    let error = config::load(&file, &[]).expect_err("ambiguous").to_string();
    assert!(error.contains("nothing but a $NAME"), "{error}");
}

fn shipped() -> Vec<(PathBuf, Sweep)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let mut configs = Vec::new();
    for entry in std::fs::read_dir(folder).expect("configs/ is there") {
        let path = entry.expect("an entry").path();
        // What `duel capacity --hosts` reads is no sweep; tests/capacity_cli.rs reads it.
        let is_sweep = path.file_name().is_some_and(|name| name != "hosts.toml");
        if is_sweep && path.extension().is_some_and(|extension| extension == "toml") {
            let sweep = config::load(&path, &[]).unwrap_or_else(|error| panic!("{error}"));
            configs.push((path, sweep));
        }
    }
    configs
}

#[test]
fn shipped_configs_parse_and_open_with_their_question() {
    let configs = shipped();
    let names: BTreeSet<&str> = configs.iter().map(|(_, sweep)| sweep.name.as_str()).collect();
    for name in ["first", "seed", "parallel"] {
        assert!(names.contains(name), "configs/{name}.toml is missing: {names:?}");
    }
    assert_eq!(names.len(), configs.len(), "two configs share a name");
    for (path, sweep) in &configs {
        let text = std::fs::read_to_string(path).expect("read before");
        let comment: String = text.lines().take_while(|line| line.starts_with('#')).collect();
        assert!(comment.contains('?'), "{} must open with its question", path.display());
        assert_eq!(path.file_stem().and_then(|s| s.to_str()), Some(sweep.name.as_str()));
    }
}

#[test]
fn first_toml_loads_for_less_than_half_a_minute_before_its_first_verdict_and_seed_toml_sends_ten() {
    let configs = shipped();
    let find = |name| &configs.iter().find(|(_, s)| s.name == name).expect("shipped").1;
    let first = find("first");
    let trial_ns = first.trial_ns().expect("first.toml runs by time");
    let trials = first.cells().len() as u64 * u64::from(FEWEST_BLOCKS);
    assert!(first.precision.is_some());
    // With what a trial takes beside its load, and room for a few blocks more.
    assert!(trials * trial_ns < 25_000 * MS, "{trials} trials");
    let seed = find("seed");
    assert_eq!(seed.plan.extent, Extent::Requests(10));
    let parallel = find("parallel");
    assert_eq!(parallel.cells().len(), 20, "five engines, two CPU counts, two bodies");
}

#[test]
fn keys_nested_without_end_are_refused_and_not_followed() {
    let deep = "a.".repeat(100_000) + "a = 1";
    assert!(parse_with(&deep, &[]).is_err());
    assert!(parse_with("", &[&("a.".repeat(100_000) + "a=1")]).is_err());
    assert!(parse_with("", &[&format!("plan={}", "{a=".repeat(50_000))]).is_err());
    assert!(parse_with(&("a = ".to_string() + &"[".repeat(50_000)), &[]).is_err());
}

/// A valid config, for mutations.
fn valid() -> impl Strategy<Value = String> {
    let first = include_str!("../configs/first.toml").to_string();
    let parallel = include_str!("../configs/parallel.toml").to_string();
    prop_oneof![Just(include_str!("data/grid.toml").to_string()), Just(first), Just(parallel)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>(), set in any::<String>()) {
        let _ = parse_with(&text, &[]);
        let _ = parse_with("", &[&set]);
        let _ = parse_with("[plan]\nseed = 1", &[&format!("plan.seed={set}")]);
        let _ = parse_with("", &[&format!("{}=1", text.replace('=', "."))]);
    }

    #[test]
    fn no_mutation_of_a_config_makes_the_parser_panic(
        text in valid(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, "[-0-9a-z\"'\\[\\]{}.=,\n]{0,6}"), 1..4),
        set in ("(target|plan|sweep|machine|slo)\\.[a-z_]{1,12}(\\.[0-9a-z]{1,4})?=[-0-9a-zA-Z\"\\[\\]{}.,]{0,12}"),
    ) {
        let mut mutated: Vec<char> = text.chars().collect();
        for (index, removed, inserted) in edits {
            let at = index.index(mutated.len() + 1);
            let end = (at + removed).min(mutated.len());
            mutated.splice(at..end, inserted.chars());
        }
        let mutated: String = mutated.into_iter().collect();
        for overrides in [&[][..], &[set.as_str()][..]] {
            match parse_with(&mutated, overrides) {
                Ok(sweep) => prop_assert!(!sweep.cells().is_empty()),
                Err(error) => {
                    let told = error.to_string();
                    let placed = |line: &str| line.starts_with("x.toml:") || line.starts_with("--set ");
                    prop_assert!(told.lines().all(placed), "{told}");
                }
            }
        }
    }
}

/// What is wrong with a data file is named with the config's line, the file and the file's line.
#[test]
fn data_files_are_checked_before_anything_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("backwards", "5\t/a\n4\t/b\n");
    write("torn", "5\t/a\n6\t");
    write("good", "5\t/a\n6\t/b\n1500\t/c\n");
    write("words", "one\ntwo words\n");
    write("bell", "one\n\u{7}\n");
    let base = dir.path().display();
    let trace = "[plan]\narrivals = 'trace'\n";
    let with = |choice: &str, request: &str| {
        format!("[plan.values]\nw = {{ choice = '{choice}' }}\n[[plan.request]]\n{request}")
    };
    for (text, expected) in [
        (
            format!("{trace}trace = 'backwards'"),
            format!("x.toml:3: plan.trace: {base}/backwards:2: runs backwards: 4 ms behind 5 ms;"),
        ),
        (
            format!("{trace}trace = 'torn'"),
            format!("x.toml:3: plan.trace: {base}/torn:2: is torn: no path follows the TAB"),
        ),
        (
            format!("{trace}trace = 'none'"),
            format!("x.toml:3: plan.trace: `{base}/none` cannot be read: No such file"),
        ),
        (
            format!("{trace}trace = 'good'\nrequests = 4"),
            "x.toml:4: plan.requests: the trace holds 3 requests for the window".into(),
        ),
        (
            format!("{trace}trace = 'good'\nwarmup = '2s'"),
            "x.toml:4: plan.warmup: the whole trace falls into the warm-up".into(),
        ),
        (
            format!("{trace}trace = 'good'\nduration = '1ms'"),
            "x.toml:3: plan.trace: no entry of the trace falls into the window".into(),
        ),
        (
            with("none", "path = '/{w}'"),
            format!("x.toml:2: plan.values.w.choice: `{base}/none` cannot be read: No such file"),
        ),
        (
            with("words", "path = '/{w}'"),
            format!("x.toml:4: plan.request[0].path: {base}/words:2: `two words` makes no path"),
        ),
        (
            with("bell", "headers = { x = 'a {w}' }"),
            format!("x.toml:4: plan.request[0].headers.x: {base}/bell:2: the line makes no header"),
        ),
    ] {
        let error = config::parse(&text, "x.toml", &[], dir.path()).expect_err(&text).to_string();
        assert!(error.starts_with(&expected), "{text}\nexpected {expected}\nfound    {error}");
    }
    let fine = with("words", "method = 'POST'\nbody = '{w}'");
    config::parse(&fine, "x.toml", &[], dir.path()).expect("any line can be a body");
}

/// The plan hash follows what is sent and when, and not where its files lie.
#[test]
fn traces_stages_and_values_are_part_of_the_hash_by_their_content() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("a", "5\t/a\n6\t/b\n");
    write("copy", "5\t/a\n6\t/b\n");
    write("other", "5\t/a\n7\t/b\n");
    let hash = |text: &str| config::parse(text, "x.toml", &[], dir.path()).expect(text).plan_hash();
    let trace = |keys: &str| hash(&format!("[plan]\narrivals = 'trace'\n{keys}"));
    assert_eq!(trace("trace = 'a'"), trace("trace = 'copy'"), "only the path differs");
    assert_ne!(trace("trace = 'a'"), trace("trace = 'other'"));
    assert_ne!(trace("trace = 'a'"), trace("trace = 'a'\ntrace_speed = 2"));
    let value = |value: &str| hash(&format!("[plan.values]\nv = {value}"));
    assert_eq!(value("{ choice = 'a' }"), value("{ choice = 'copy' }"));
    assert_ne!(value("{ choice = 'a' }"), value("{ choice = 'other' }"));
    assert_ne!(value("{ random = [1, 2] }"), value("{ random = [1, 3] }"));
    let stages = |rate: u32| {
        let list = format!("[{{ duration = '1s', rate = {rate} }}]");
        hash(&format!("[plan]\narrivals = 'constant'\nstages = {list}"))
    };
    assert_ne!(stages(5), stages(6));
}

#[test]
fn shapes_bring_their_extent_and_their_mean_rate() {
    let staged = parse(
        "[plan]\narrivals = 'constant'\nstages = [{ duration = '10s', from = 0, to = 100 }, \
         { duration = '10s', rate = 0 }, { duration = '20s', rate = 100 }]",
    );
    assert_eq!(staged.plan.extent, Extent::DurationNs(40_000 * MS));
    assert_eq!(staged.plan.offered_per_s, Some(62.5), "500 + 0 + 2,000 in 40 s");
    assert_eq!(staged.plan.peak_per_s(), 100.0);
    let cells = staged.cells();
    assert!(cells.iter().all(|cell| cell.offered_per_s == Some(62.5) && !cell.id.contains("-r")));

    let dir = tempfile::tempdir().unwrap();
    let lines: String = (0..101).map(|i| format!("{}\t/{i}\n", i * 10)).collect();
    std::fs::write(dir.path().join("t"), lines).unwrap();
    let trace = |keys: &str| {
        let text = format!("[plan]\narrivals = 'trace'\ntrace = 't'\n{keys}");
        config::parse(&text, "x.toml", &[], dir.path()).expect(&text).plan
    };
    let whole = trace("");
    assert_eq!((whole.extent, whole.offered_per_s), (Extent::Requests(101), Some(100.0)));
    assert_eq!(trace("trace_speed = 2").offered_per_s, Some(200.0));
    let part = trace("warmup = '500ms'\nduration = '1s'");
    assert_eq!((part.extent, part.offered_per_s), (Extent::DurationNs(1_000 * MS), Some(51.0)));
    assert_eq!(trace("warmup = '500ms'").extent, Extent::Requests(51));
}
