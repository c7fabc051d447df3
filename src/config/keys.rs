//! Every key of a config, once: the type that it is read as, its bounds, its default, an example and
//! the question that it answers.
//!
//! The tables below are at once the structs that [`super::resolve`] works with and the reference
//! that `duel config`, `docs/config.md`, `duel-config(5)` and `duel init` print. A key of type
//! `Key` may be left out; one of type `At` has a default or must be given.

use super::entry::{self, ANY, Entry, Kind, Only};
use super::kinds::{GIB, LEAST_RATE, LEAST_STACK, MAX_PROCESSES, MOST_RATE, MemoryKey};
pub(super) use super::kinds::{LawName, ServerStepKind, StepKind};
use super::node::{Fault, Node, Place, Value};
use super::read::{
    At, Count, Duration, Faults, Field, Key, Keyed, Level, Named, Offered, Rate, Read, Several,
    Share, Size, choice, choices, entries, unknown,
};
use super::tables::tables;
pub(super) use crate::plan::LONGEST_NS;
use crate::plan::cell::RayonThreads;
use crate::plan::engine::Receive;
use crate::plan::expect::Expected;
use crate::plan::prepare::RENDERINGS_MOST;
use crate::plan::server::{PoolOf, ReadyCheck, ServerEngine, SideUnderTest};
use crate::plan::steps::{FileOp, Offload};
use crate::plan::trace::TraceFormat;
use crate::plan::{Arrivals, Codec, Engine, Pacer};

choices!(Arrivals, Codec, Engine, Receive, Pacer, Expected, PoolOf, ReadyCheck, ServerEngine);
choices!(SideUnderTest, FileOp, Offload, RayonThreads, TraceFormat);

tables! {
    /// A whole config.
    File {
        /// Name of the sweep, a part of its run directory's name.
        name: Key<String> [default("the file's name without its extension") example("\"first\"")],
        /// Who answers: the embedded target, or a server of yours.
        target: Target [],
        /// What is sent and when; the same for every cell.
        plan: Plan [],
        /// What is compared: each list is an axis, and a cell is one value of each.
        sweep: Sweep [],
        /// The server under test, where `sweep.server_engines` makes the server the subject.
        server: Server [],
        /// Where the processes run.
        machine: Machine [],
        /// Bounds that a run must meet: does it meet them? Exit code 3 if not.
        slo: Slo [],
        /// Predictions of the results, judged by the report.
        expect: Key<Several<Expect>> [],
        /// Searches each cell for the highest rate that meets `[slo]`, in place of `sweep.rates` and
        /// `sweep.trials`.
        search: Key<Search> [],
    }

    /// `[target]`.
    Target {
        /// A server of yours, instead of the embedded target: `http://HOST:PORT/PATH`, `https://…` or
        /// `unix:/SOCKET:/PATH`; without a scheme, http.
        url: Key<String> [default("the embedded target") example("\"http://127.0.0.1:8080/\"") only(Only::External)],
        /// Addresses beside loopback that may be loaded, each with its caps.
        allow: Key<Several<String>> [default("loopback only") example("[\"10.0.0.7:80 rate=50k connections=5k\"]") only(Only::External)],
        /// Connects to this Unix-domain socket instead of the URL's host.
        unix_socket: Key<String> [default("none") example("\"/run/app.sock\"") only(Only::External)],
        /// Certificate authorities to trust, in PEM.
        ca_file: Key<String> [default("the system's") example("\"ca.pem\"") only(Only::External)],
        /// The certificate, in PEM, to show where the target asks for one; with `client_key`.
        client_cert: Key<String> [default("none") example("\"client.pem\"") only(Only::External)],
        /// The private key, in PEM, of `client_cert`.
        client_key: Key<String> [default("none") example("\"client.key\"") only(Only::External)],
        /// Accepts any certificate.
        insecure: At<bool> [default("false") example("true") only(Only::External)],
        /// How long the embedded target takes to answer: a time, or a law of times.
        service_time: At<ServiceTime> [default("\"0s\"") example("\"5ms\"") only(Only::Embedded)],
        /// Requests that the embedded target serves at once, the others wait in order; 0 is no limit.
        servers: At<Count> [range(0.0, ANY) default("0") example("4") only(Only::Embedded)],
        /// Processes of the embedded target, each at its own address.
        processes: At<Count> [range(1.0, MAX_PROCESSES) default("1") example("2") only(Only::Embedded)],
        /// Length of each response body of the embedded target.
        body: At<Size> [range(0.0, GIB) default("\"1KiB\"") example("\"64KiB\"") only(Only::Embedded)],
        /// What goes wrong at the embedded target: how do the engines fare when it fails?
        faults: Key<Faulty> [default("none") example("{ error_rate = 0.01 }") only(Only::Embedded)],
    }

    /// `[target.faults]`.
    Faulty {
        /// Share of requests answered with status 500.
        error_rate: At<Share> [range(0.0, 1.0) default("0.0") example("0.01")],
        /// Share of requests whose connection is reset.
        reset_rate: At<Share> [range(0.0, 1.0) default("0.0") example("0.001")],
        /// Pauses of the whole target.
        stall: Key<Stall> [default("none") example("{ every = \"5s\", for = \"200ms\" }")],
    }

    /// `[target.faults.stall]`.
    Stall {
        /// Time from the beginning of one pause to the next.
        every: At<Duration> [above(0.0, LONGEST_NS) example("\"5s\"")],
        /// Length of a pause.
        r#for: At<Duration> [above(0.0, LONGEST_NS) example("\"200ms\"")],
    }

    /// `[plan]`.
    Plan {
        /// When requests are sent: `closed`, each lane as soon as its last request ended; `constant` or
        /// `poisson`, at `sweep.rates`; `trace`, as a file says.
        arrivals: At<Arrivals> [default("\"closed\"") example("\"constant\"") also("open:constant exponential:poisson uniform:constant")],
        /// Length of the measured window.
        duration: At<Duration> [above(0.0, LONGEST_NS) default("\"10s\"") example("\"2s\"") also("window")],
        /// Requests in total, instead of a duration.
        requests: Key<Count> [range(1.0, 1e12) default("by duration") example("\"10k\"")],
        /// Time before the window, whose requests enter no figure.
        warmup: At<Duration> [range(0.0, LONGEST_NS) default("\"0s\"") example("\"100ms\"") also("ramp")],
        /// Longest time from a request's first byte to the last of its response.
        timeout: At<Duration> [above(0.0, LONGEST_NS) default("\"5s\"") example("\"1s\"")],
        /// Seed of arrivals, mixes, values and the order of trials.
        seed: At<Count> [default("1") example("7")],
        /// Timer of an open loop: `precise`, a thread of its own; `native`, the engine's.
        pacer: At<Pacer> [default("\"precise\"") example("\"native\"")],
        /// Keeps a connection for many requests; `false` makes a new one for each.
        keep_alive: At<bool> [default("true") example("false") also("keepalive")],
        /// Statuses that count as success.
        expect_status: Key<Several<Count>> [range(200.0, 599.0) default("200 to 399") example("[200, 404]")],
        /// Steps and ramps of an open loop, in place of `sweep.rates` and the duration.
        stages: Key<Several<Stage>> [default("none") example("[{ duration = \"10s\", from = 100, to = \"1k\" }]")],
        /// File that `arrivals = "trace"` replays, beside the config: `offset_ms<TAB>path` lines or an
        /// access log.
        trace: Key<String> [default("none") example("\"access.log\"") only(Only::Trace)],
        /// How many times faster than recorded.
        trace_speed: At<f64> [range(1e-4, 1e4) default("1.0") example("2.0") only(Only::Trace)],
        /// Form of the trace's lines.
        trace_format: Key<TraceFormat> [default("recognised from the first line") example("\"combined\"") only(Only::Trace)],
        /// Values that requests name as `{name}`: counters, random numbers and lines of a file.
        values: Named<At<ValueKeys>> [default("none") example("{ id = { counter = { start = 1 } } }")],
        /// How many requests with values are rendered before the clock starts, and then sent again and
        /// again.
        renderings: Key<Count> [range(1.0, RENDERINGS_MOST as f64) default("as many as requests, or 10k by duration") example("\"1k\"")],
        /// Adds a lane that ticks every millisecond beside the load: how late does other work get?
        heartbeat: At<bool> [default("false") example("true")],
        /// A weighted mix of requests.
        request: Key<Several<Request>> [well_known() default("one GET of target.url's path") example("[{ path = \"/\" }]")],
    }

    /// `[[plan.stages]]`.
    Stage {
        /// Length of the stage.
        duration: At<Duration> [above(0.0, LONGEST_NS) example("\"10s\"")],
        /// Requests per second, for a step; 0 is a pause.
        rate: Key<Level> [default("from a ramp") example("\"1k\"")],
        /// Requests per second at the beginning of a ramp.
        from: Key<Level> [default("none") example("100")],
        /// Requests per second at the end of a ramp.
        to: Key<Level> [default("none") example("\"1k\"")],
    }

    /// `[plan.values.NAME]`: one of its keys.
    ValueKeys {
        /// `start + step × request index`.
        counter: Key<Counter> [default("none") example("{ start = 1, step = 1 }")],
        /// A whole number between two others, each equally likely.
        random: Key<Several<Count>> [default("none") example("[1, 1000]")],
        /// A line of a file, each equally likely.
        choice: Key<String> [default("none") example("\"words.txt\"")],
    }

    /// `[plan.values.NAME.counter]`.
    Counter {
        /// The value of request 0.
        start: At<Count> [default("0") example("1")],
        /// From one request to the next.
        step: At<Count> [default("1") example("10")],
    }

    /// `[[plan.request]]`.
    Request {
        /// Class of the request: its times and losses are reported separately. Several requests may share one.
        name: Key<String> [default("none") example("\"small\"")],
        /// Bound on the 99th percentile of its class, which a `[search]` holds too: does the light request suffer from the heavy one?
        p99: Key<Duration> [above(0.0, LONGEST_NS) default("none") example("\"20ms\"")],
        /// HTTP method.
        method: At<String> [default("\"GET\"") example("\"POST\"")],
        /// Path and query.
        path: Key<String> [default("the path of target.url, or \"/\"") example("\"/items/{id}?q=1\"") also("uri")],
        /// How often it is drawn, relative to the others of the mix.
        weight: At<Count> [range(1.0, 1e6) default("1") example("3")],
        /// Headers in the order in which they are sent; a list sends a header several times. `"$NAME"` is
        /// the value of an environment variable and is written nowhere.
        headers: Named<Several<String>> [secret() default("none") example("{ accept = \"*/*\" }") also("header")],
        /// Body; `"$NAME"` comes from the environment.
        body: Key<String> [secret() default("none") example("\"hello\"") also("data")],
        /// File with the body, beside the config.
        body_file: Key<String> [default("none") example("\"body.json\"")],
        /// What a request does, in order, where it is more than its exchange.
        step: Key<Several<Step>> [default("the exchange alone") example("[{ kind = \"http\" }, { kind = \"compute\", bytes = \"64KiB\" }]")],
    }

    /// `[[plan.request.step]]`.
    Step {
        /// `http`, the exchange itself, exactly once; `file`, a read or write; `compute`, SHA-256 of so
        /// many bytes.
        kind: At<StepKind> [example("\"compute\"")],
        /// Bytes that a file or compute step handles.
        bytes: Key<Size> [range(1.0, 64.0 * GIB) default("needed by file and compute") example("\"64KiB\"")],
        /// What a file step does.
        op: At<FileOp> [default("\"read\"") example("\"write\"")],
        /// Files from which a file step takes one, made before the clock starts.
        files: At<Count> [range(1.0, 1e4) default("16") example("4")],
        /// Goes past the page cache.
        direct: At<bool> [default("false") example("true")],
        /// Waits for the disk after a write.
        sync: At<bool> [default("false") example("true")],
        /// Directory of the files.
        dir: Key<String> [default("the system's for temporary files") example("\"/var/tmp\"")],
    }

    /// `[sweep]`.
    Sweep {
        /// How lanes are run: which costs least?
        engines: Key<Several<Engine>> [default("all but uring, which many containers forbid") example("[\"threads\", \"tokio\"]") also("engine async:tokio thread:threads pool:rayon")],
        /// Who speaks HTTP on the socket, the same for every engine.
        codecs: At<Several<Codec>> [default("[\"hyper\"]") example("[\"hyper\", \"lean\"]") also("codec")],
        /// Connections per worker process: how do costs grow with concurrency?
        lanes: At<Several<Count>> [range(1.0, ANY) default("[64]") example("[1, 64, \"1k\"]") also("connections concurrency conns clients users vus")],
        /// Worker processes: what does splitting the lanes over processes cost or save?
        processes: At<Several<Count>> [range(1.0, MAX_PROCESSES) default("[1]") example("[1, 4]")],
        /// CPUs of the workers: how does it scale with cores?
        cpus: At<Several<Count>> [range(1.0, 1024.0) default("[1]") example("[1, 2]") also("cores")],
        /// Offered load of an open loop in requests per second, in total. After a `[search]` shares of
        /// what it found, such as `"95%"`: how are tails below and beyond the knee?
        rates: Key<Several<Offered>> [range(LEAST_RATE, MOST_RATE) default("none in a closed loop, needed in an open one") example("[500, \"2.5k\"]") also("rate qps rps load")],
        /// Bodies of the embedded target's responses: what do larger ones cost?
        bodies: Key<Several<Size>> [range(0.0, GIB) default("target.body") example("[0, \"64KiB\"]") only(Only::Embedded)],
        /// Stacks of the threads of `threads` and `rayon`: what do they cost?
        stack_sizes: At<Several<Size>> [range(LEAST_STACK, GIB) default("[\"64KiB\"]") unless(", or \"128KiB\" for https") example("[\"64KiB\", \"2MiB\"]") also("stack_size stack")],
        /// Threads of the rayon pool: one for each lane, or one for each CPU.
        rayon_threads: At<Several<RayonThreads>> [default("[\"lanes\"]") example("[\"lanes\", \"cores\"]")],
        /// Allocators of the workers: `glibc`, `glibc-arenas-N`, or the path of a library to preload.
        allocators: Key<Several<String>> [default("the C library's as the environment sets it") example("[\"glibc\", \"glibc-arenas-1\"]") also("allocator")],
        /// Where the task engines carry out file and compute steps.
        offload: Key<Several<Offload>> [default("inline") example("[\"inline\", \"rayon\"]")],
        /// The side under test, whose costs head the tables.
        subject: Key<SideUnderTest> [default("the side whose axis varies; with `server_engines` alone the server") example("\"server\"")],
        /// Calls of a handler's `call` step that are under way at once: one after another, or all at
        /// once?
        fan_out: Key<Several<Count>> [range(1.0, 1000.0) default("[1]") example("[1, 10]")],
        /// How the server runs its connections: the server becomes the side under test, and `engines` and
        /// `codecs` the one client that loads it, unless those vary or `subject` says otherwise.
        server_engines: Key<Several<ServerEngine>> [default("none: the client is under test") example("[\"threads\", \"tokio\"]")],
        /// Who speaks HTTP on the server under test.
        server_codecs: At<Several<Codec>> [default("[\"lean\"]") example("[\"hyper\", \"lean\"]")],
        /// How `uring` asks for what a connection receives: once, or anew for each read.
        uring_receive: Key<Several<Receive>> [default("multishot") example("[\"one-shot\", \"multishot\"]")],
        /// Completions that `uring` waits for in closed loops, at most a quarter of its lanes: what do
        /// fewer wake-ups save?
        uring_batch: Key<Several<Count>> [range(1.0, 65536.0) default("1") example("[1, 16]")],
        /// How long it waits for the others once one is there.
        uring_linger: At<Several<Duration>> [range(1e3, 1e9) default("[\"100us\"]") unless(" with a batch") example("[\"50us\", \"100us\"]")],
        /// Trials of each cell, a fixed number in place of `precision`, `budget` and `max_blocks`.
        trials: Key<Count> [range(1.0, 1e6) default("as many as precision needs") example("10") also("repetitions repeats runs")],
        /// How well ratios to the baseline are known before a sweep ends: half the width of their
        /// intervals.
        precision: At<Share> [range(0.001, 1.0) default("\"5%\"") example("\"2%\"")],
        /// Longest time: no block begins that would end later.
        budget: At<Duration> [above(0.0, LONGEST_NS) default("\"3m\"") unless(", or what ten blocks take") example("\"10m\"")],
        /// Most blocks, each of which holds every cell once.
        max_blocks: At<Count> [range(1.0, 1e5) default("100") example("40")],
        /// The engine to which the others' ratios are taken, of the side under test.
        baseline: Key<String> [default("threads, or else the first engine") example("\"tokio\"")],
        /// How close to 1 a ratio must be to count as equal.
        equal_within: At<Share> [range(0.001, 1.0) default("\"5%\"") example("\"2%\"")],
        /// Adds the baseline once more under another label: how much do two equal cells differ?
        aa: At<bool> [default("false") example("true")],
        /// Adds cells that connect and send nothing: what do idle connections cost?
        idle: At<bool> [default("false") example("true")],
        /// Adds trials that count system calls: how many does a request take?
        syscalls: At<bool> [default("false") example("true")],
        /// Adds trials that split memory into its parts; `"only"` runs no others. With `idle`, those of a
        /// server under test hold connections on which nothing is sent.
        memory: At<MemoryKey> [default("false") example("true")],
        /// How often a noisy trial is repeated.
        noise_repeats: At<Count> [range(0.0, 10.0) default("0") example("2")],
        /// Targets to compare with the first of them, in the same blocks: did a change make a service
        /// slower?
        target: Key<Several<SweepTarget>> [default("the one target") example("[{ name = \"old\", url = \"http://127.0.0.1:8080\" }, { name = \"new\", url = \"http://127.0.0.1:8081\" }]") also("targets variants")],
        /// Cells that must fail for the run to be as expected.
        expect_failed: Key<Several<ExpectFailed>> [default("none") example("[{ engine = \"threads\", lanes = \"20k\" }]")],
    }

    /// `[[sweep.target]]`: what it does not name is as in `[target]`.
    SweepTarget {
        /// What it is called in results.
        name: At<String> [example("\"old\"")],
        /// A build of your service, as `server.command`: duel starts it for each of its trials.
        command: Key<String> [default("server.command") example("\"./old --port {port}\"")],
        /// Environment of that command, laid over `server.env`.
        env: Named<At<String>> [secret() default("server.env") example("{ LOG = \"off\" }")],
        /// A server of yours.
        url: Key<String> [default("target.url") example("\"http://127.0.0.1:8080\"") only(Only::External)],
        /// Connects to this Unix-domain socket instead of the URL's host.
        unix_socket: Key<String> [default("target.unix_socket") example("\"/run/old.sock\"") only(Only::External)],
        /// How long the embedded target takes to answer.
        service_time: Key<ServiceTime> [default("target.service_time") example("\"5ms\"") only(Only::Embedded)],
        /// Requests that the embedded target serves at once.
        servers: Key<Count> [range(0.0, ANY) default("target.servers") example("4") only(Only::Embedded)],
        /// Length of each response body of the embedded target.
        body: Key<Size> [range(0.0, GIB) default("target.body") example("\"64KiB\"") only(Only::Embedded)],
        /// What goes wrong at the embedded target.
        faults: Key<Faulty> [default("target.faults") example("{ error_rate = 0.01 }") only(Only::Embedded)],
    }

    /// `[server]`.
    Server {
        /// What a thread of `pool` takes: a connection until it closes, or a request at a time.
        pool: At<PoolOf> [default("\"connections\"") example("\"requests\"")],
        /// Threads of `pool`, and of `rayon`.
        pool_size: Key<Count> [range(1.0, 100_000.0) default("needed by pool; rayon: one per CPU") example("64")],
        /// Stack of each thread that the server starts.
        stack_size: At<Size> [range(LEAST_STACK, GIB) default("\"64KiB\"") unless(", or \"128KiB\" with tls") example("\"256KiB\"")],
        /// Connections to the server are encrypted, with a certificate that it makes for itself.
        tls: At<bool> [default("false") example("true")],
        /// Compute and file steps that run at once at most, under the task engines.
        permits: Key<Count> [range(1.0, 1e6) default("no limit") example("2")],
        /// A server of yours, for the engine `own`: a shell command that listens on port `{port}` of
        /// 127.0.0.1, which is also in `$PORT`.
        command: Key<String> [default("none") example("\"python3 -m http.server {port}\"")],
        /// Environment of that command; `{port}` is filled in as well.
        env: Named<At<String>> [secret() default("duel's own") example("{ LOG = \"off\" }")],
        /// When that command is ready: it answers over `http`, with any status, or accepts over `tcp`.
        ready: At<ReadyCheck> [default("\"http\"") example("\"tcp\"")],
        /// What `call` steps call: the embedded target once more, in a process of its own.
        upstream: Key<Upstream> [default("needed by call") example("{ service_time = \"50ms\" }")],
        /// What the handler does before it answers, step by step.
        step: Key<Several<ServerStep>> [default("waits for target.service_time") example("[{ kind = \"wait\", time = \"50ms\" }]")],
    }

    /// `[server.upstream]`.
    Upstream {
        /// How long it takes to answer a call: a time, or a law of times.
        service_time: At<ServiceTime> [default("\"0s\"") example("\"50ms\"")],
        /// Calls that it serves at once, the others wait in order; 0 is no limit.
        servers: At<Count> [range(0.0, ANY) default("0") example("4")],
        /// Length of each of its answers' bodies.
        body: At<Size> [range(0.0, GIB) default("\"1KiB\"") example("\"64KiB\"")],
    }

    /// `[[server.step]]`.
    ServerStep {
        /// `wait`, a timer; `call`, HTTP calls to the upstream; `compute`, SHA-256 of so many bytes;
        /// `file`, a read or write.
        kind: At<ServerStepKind> [example("\"compute\"")],
        /// How long a `wait` takes: a time, or a law of times.
        time: Key<ServiceTime> [default("needed by wait") example("\"50ms\"")],
        /// Calls of a `call` step; `sweep.fan_out` says how many are under way at once.
        calls: At<Count> [range(1.0, 1000.0) default("1") example("10")],
        /// Bytes that a `compute` or `file` step handles.
        bytes: Key<Size> [range(1.0, 64.0 * GIB) default("needed by compute and file") example("\"64KiB\"")],
        /// What a `file` step does.
        op: At<FileOp> [default("\"read\"") example("\"write\"")],
        /// Files from which a `file` step takes one, made before the clock starts.
        files: At<Count> [range(1.0, 1e4) default("16") example("4")],
        /// Goes past the page cache.
        direct: At<bool> [default("false") example("true")],
        /// Waits for the disk after a write.
        sync: At<bool> [default("false") example("true")],
        /// Directory of the files.
        dir: Key<String> [default("the system's for temporary files") example("\"/var/tmp\"")],
    }

    /// `[[sweep.expect_failed]]`.
    ExpectFailed {
        /// Engine of the cells.
        engine: At<Engine> [example("\"threads\"")],
        /// Lanes of the cells.
        lanes: Key<Count> [range(1.0, ANY) default("any") example("\"20k\"")],
        /// Limit that they run into, as `duel limits` names it.
        limit: Key<String> [default("any") example("\"vm.max_map_count\"")],
    }

    /// `[machine]`.
    Machine {
        /// CPUs of the workers.
        worker_cpus: Key<Several<Count>> [range(0.0, 1023.0) default("split from what the process may use") example("[0]")],
        /// CPUs of the embedded target.
        target_cpus: Key<Several<Count>> [range(0.0, 1023.0) default("split from what the process may use") example("[1]") only(Only::Embedded)],
    }

    /// `[slo]`.
    Slo {
        /// Bound on the median response time.
        p50: Key<Duration> [above(0.0, LONGEST_NS) default("none") example("\"5ms\"")],
        /// Bound on the 90th percentile.
        p90: Key<Duration> [above(0.0, LONGEST_NS) default("none") example("\"20ms\"")],
        /// Bound on the 99th percentile.
        p99: Key<Duration> [above(0.0, LONGEST_NS) default("none") example("\"50ms\"")],
        /// Bound on the 99.9th percentile.
        p99_9: Key<Duration> [above(0.0, LONGEST_NS) default("none") example("\"100ms\"")],
        /// Bound on the share of requests that fail.
        error_rate: Key<Share> [range(0.0, 1.0) default("none") example("0.001")],
    }

    /// `[[expect]]`.
    Expect {
        /// Engine that is thought to be better.
        winner: At<Engine> [example("\"tokio\"")],
        /// Engine that it is compared with.
        over: At<Engine> [example("\"threads\"")],
        /// What is compared.
        measure: At<Expected> [example("\"p99\"")],
        /// Ratio that is required; below 1, the winner may be that much worse.
        by: At<f64> [range(0.01, 1e6) default("1.0") example("1.5")],
        /// Only cells of so many lanes.
        lanes: Key<Count> [default("any") example("1000")],
        /// Only cells of so many worker processes.
        processes: Key<Count> [default("any") example("2")],
        /// Only cells of so many CPUs.
        cpus: Key<Count> [default("any") example("1")],
        /// Only cells of this codec.
        codec: Key<Codec> [default("any") example("\"lean\"")],
        /// Only cells of this rate.
        rate: Key<Rate> [default("any") example("500")],
        /// Where steps go on either side.
        offload: Key<Offload> [default("any") example("\"inline\"")],
        /// Where the winner's steps go.
        winner_offload: Key<Offload> [default("any") example("\"rayon\"")],
        /// Where the other's steps go.
        over_offload: Key<Offload> [default("any") example("\"inline\"")],
    }

    /// `[search]`.
    Search {
        /// Width within which the highest rate is found.
        tolerance: At<f64> [range(0.005, 1.0) default("0.05") example("0.02")],
        /// Most rates that are tried.
        probes: At<Count> [range(3.0, 100.0) default("15") example("20")],
        /// Trials of a rate before it is judged.
        trials: At<Count> [range(3.0, 80.0) default("5") example("3")],
        /// Most trials of a rate that is hard to judge.
        max_trials: At<Count> [range(3.0, 80.0) default("20") example("10")],
        /// Lowest rate.
        min_rate: Key<Rate> [range(LEAST_RATE, MOST_RATE) default("the least that max_trials windows can judge") example("50")],
        /// Highest rate.
        max_rate: At<Rate> [range(LEAST_RATE, MOST_RATE) default("\"1M\"") example("\"20k\"")],
    }

    /// `target.service_time` as a table.
    LawTable {
        /// Which law the times follow.
        law: At<LawName> [example("\"exponential\"")],
        /// Mean, of every law but `uniform`.
        mean: Key<Duration> [range(0.0, LONGEST_NS) default("none") example("\"5ms\"")],
        /// Least, of `uniform`.
        min: Key<Duration> [range(0.0, LONGEST_NS) default("none") example("\"1ms\"")],
        /// Greatest, of `uniform`.
        max: Key<Duration> [range(0.0, LONGEST_NS) default("none") example("\"9ms\"")],
        /// Width of `lognormal`.
        sigma: Key<f64> [above(0.0, 5.0) default("none") example("1.0")],
    }
}

/// Every key with its path, tables before what they hold.
pub(super) fn all() -> Vec<(String, &'static Entry)> {
    entry::all(File::KEYS)
}

/// Reads a whole config, or says all that is wrong with its keys and values.
pub(super) fn read(root: &Node) -> Result<File, Vec<Fault>> {
    let mut faults = Faults { found: Vec::new(), meant: Vec::new(), root: File::KEYS };
    let entry = Entry::new("config", "", <File as Read>::KIND, false);
    match File::read(root, &entry, &mut faults) {
        Some(file) if faults.found.is_empty() => Ok(file),
        _ => Err(faults.found),
    }
}

/// A duration alone is the fixed law.
#[derive(Debug, Clone)]
pub(super) enum ServiceTime {
    Fixed(Duration),
    Law(Box<LawTable>),
}

impl Read for ServiceTime {
    const KIND: Kind = Kind::Either(
        "duration, or a table such as `{ law = \"exponential\", mean = \"5ms\" }`",
        LawTable::KEYS,
    );

    fn read(node: &Node, entry: &Entry, faults: &mut Faults) -> Option<Self> {
        match &node.value {
            Value::Table(_) => LawTable::read(node, entry, faults).map(Box::new).map(Self::Law),
            _ => Duration::read(node, &entry.range(0.0, LONGEST_NS), faults).map(Self::Fixed),
        }
    }
}
