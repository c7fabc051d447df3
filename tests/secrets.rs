//! Secrets from the environment and from headers that carry them reach the target, and nothing
//! that duel writes or prints.

use crate::common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use common::{Sweep, duel, output, text};

const HEADER: &str = "planted-in-a-header-8c1f";
const BODY: &str = "planted-in-a-body-5d20";
const LITERAL: &str = "planted-in-the-file-77ab";

/// Nothing that was planted stands in `text`.
fn assert_clean(what: &str, text: &[u8]) {
    for secret in [HEADER, BODY, LITERAL] {
        let found = text.windows(secret.len()).any(|w| w == secret.as_bytes());
        assert!(!found, "{what} holds {secret}: {}", String::from_utf8_lossy(text));
    }
}

fn assert_directory_clean(dir: &Path) -> usize {
    let mut files = 0;
    for entry in std::fs::read_dir(dir).expect("the run directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files += assert_directory_clean(&path);
        } else {
            assert_clean(&path.display().to_string(), &std::fs::read(&path).expect("a file"));
            files += 1;
        }
    }
    files
}

fn with_secrets(command: &mut Command) -> &mut Command {
    command.env("DUEL_TEST_SECRET", HEADER).env("DUEL_TEST_BODY", BODY)
}

/// Runs; neither stream may hold a secret.
fn assert_quiet(command: &mut Command) -> (Option<i32>, String, String) {
    let out = output(with_secrets(command));
    assert_clean("standard output", &out.stdout);
    assert_clean("standard error", &out.stderr);
    let (stdout, stderr) = text(&out);
    (out.status.code(), stdout, stderr)
}

/// A server that answers everything and keeps what it was sent.
fn listening() -> (std::net::SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let heard = Arc::new(Mutex::new(vec![]));
    let all = heard.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let all = all.clone();
            std::thread::spawn(move || {
                let mut answer = stream.try_clone().expect("a descriptor");
                let mut reader = BufReader::new(stream);
                loop {
                    let (mut head, mut length) = (String::new(), 0);
                    while !head.ends_with("\r\n\r\n") {
                        if reader.read_line(&mut head).unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    for line in head.to_ascii_lowercase().lines() {
                        if let Some(n) = line.strip_prefix("content-length:") {
                            length = n.trim().parse().expect("a length");
                        }
                    }
                    let mut body = vec![0; length];
                    if reader.read_exact(&mut body).is_err() {
                        return;
                    }
                    all.lock().expect("no panic").extend([head.as_bytes(), &body].concat());
                    if answer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, heard)
}

fn config(target: &str) -> String {
    format!(
        "name = 'x'\n{target}\n[plan]\nrequests = 10\ntimeout = '2s'\n[[plan.request]]\n\
         method = 'POST'\nheaders = {{ x-token = '$DUEL_TEST_SECRET', \
         authorization = 'Bearer {LITERAL}', cookie = 'id={LITERAL}' }}\n\
         body = '$DUEL_TEST_BODY'\n[sweep]\nengines = ['threads', 'tokio']\n\
         codecs = ['hyper', 'lean']\nlanes = [2]\ntrials = 1\n"
    )
}

#[test]
fn secrets_reach_the_target_and_no_output() {
    let (address, heard) = listening();
    let sweep = Sweep::new(&config(&format!("[target]\nurl = 'http://{address}'")));
    let (code, _, stderr) = assert_quiet(&mut sweep.command());
    assert_eq!(code, Some(0), "{stderr}");
    let heard = heard.lock().unwrap().clone();
    for secret in [HEADER, BODY, LITERAL] {
        let times = heard.windows(secret.len()).filter(|w| *w == secret.as_bytes()).count();
        assert!(times >= 40, "the target heard {secret} {times} times of 40");
    }
    assert!(assert_directory_clean(&sweep.dir()) >= 4, "plan, rows, report, cells");
    assert_quiet(duel(&["report"]).arg(sweep.dir()));
    assert_quiet(duel(&["report", "--json"]).arg(sweep.dir()));
    assert_quiet(duel(&["plan"]).arg(sweep.config()));
    let (code, job, _) = assert_quiet(duel(&["plan", "--job", "0"]).arg(sweep.config()));
    assert_eq!(code, Some(0));
    assert!(job.contains("DUEL_TEST_SECRET") || job.contains("***"), "the header is masked: {job}");
    let resumed = assert_quiet(sweep.command().arg("--resume"));
    assert_eq!(resumed.0, Some(0), "{}", resumed.2);
}

/// What is typed may be a secret, in however few letters the flags are.
#[test]
fn what_is_typed_reaches_the_target_and_no_file() {
    let (address, heard) = listening();
    let home = tempfile::tempdir().expect("a directory");
    let url = format!("http://{address}");
    let header = |name: &str| format!("{name}: {LITERAL}");
    let file = home.path().join("body");
    std::fs::write(&file, LITERAL).expect("the body is written");
    let at_file = format!("@{}", file.display());
    let body = format!("-mPOST -b{LITERAL}");
    let long = format!("--body={LITERAL}");
    let names =
        ["authorization", "Proxy-Authorization", "x-passwd", "X-Signature", "x-jwt", "bearer"];
    let mut cases: Vec<Vec<String>> = vec![
        body.split(' ').map(String::from).collect(),
        vec![long],
        vec!["-b".into(), at_file],
        vec!["-D".into(), file.display().to_string()],
        vec!["--set".into(), format!("plan.request.0.body={LITERAL}")],
    ];
    cases.extend(names.map(|name| vec![format!("-H{}", header(name))]));
    for (number, flags) in cases.iter().enumerate() {
        heard.lock().unwrap().clear();
        let dir = home.path().join(number.to_string());
        let mut command = duel(&["try", &url, "-n", "2", "-c", "1", "--engines", "threads"]);
        let (code, _, stderr) = assert_quiet(command.args(flags).arg("--out").arg(&dir));
        assert_eq!(code, Some(0), "{flags:?}: {stderr}");
        let heard = heard.lock().unwrap().clone();
        let times = heard.windows(LITERAL.len()).filter(|w| *w == LITERAL.as_bytes()).count();
        assert!(times >= 2, "{flags:?}: heard {times} times of 2");
        assert!(assert_directory_clean(&dir) >= 4, "{flags:?}");
        assert_quiet(duel(&["report"]).arg(&dir));
        assert_quiet(duel(&["capacity", "--rate", "10", "--suggest"]).arg(&dir));
    }
}

#[test]
fn failures_tell_no_secret() {
    // Nobody listens on port 1; the errors are told.
    let sweep = Sweep::new(&config("[target]\nurl = 'http://127.0.0.1:1'"));
    assert_eq!(assert_quiet(&mut sweep.command()).0, Some(1));
    assert_directory_clean(&sweep.dir());
    // A config that is refused for another reason, a secret in the same table or on that line.
    for broken in [
        format!(
            "[[plan.request]]\nheaders = {{ authorization = 'Bearer {LITERAL}', 'a b' = '1' }}"
        ),
        format!("[[plan.request]]\nheaders = {{ authorization = \"{LITERAL}\\n\" }}"),
        format!("[[plan.request]]\nheaders = {{ authorization = [['{LITERAL}']] }}"),
        format!("[[plan.request]]\nheaders = 'authorization: {LITERAL}'"),
        format!("[[plan.request]]\nheaders = {{ authorization = '{LITERAL}'"),
        format!("[[plan.request]]\nheaders = {{ authorization = '{LITERAL}' }} }}"),
        "[[plan.request]]\nheaders = { a = '$DUEL_TEST_SECRET', b = '$DUEL_TEST_NONE' }".into(),
        "[[plan.request]]\nbody = '$DUEL_TEST_BODY'\nbody_file = 'x'".into(),
    ] {
        let sweep = Sweep::new(&broken);
        let (code, _, stderr) = assert_quiet(&mut sweep.command());
        assert_eq!(code, Some(2), "{broken}: {stderr}");
    }
}

#[test]
fn a_value_from_the_environment_that_is_no_header_is_not_shown() {
    let sweep = Sweep::new("[[plan.request]]\nheaders = { x-token = '$DUEL_TEST_SECRET' }\n");
    let secret = format!("{HEADER}\nwith a line feed");
    let out = output(sweep.command().env("DUEL_TEST_SECRET", secret));
    assert_eq!(out.status.code(), Some(2), "{}", text(&out).1);
    assert_clean("standard error", &out.stderr);
    assert!(text(&out).1.contains("x-token"), "{}", text(&out).1);
}

#[test]
fn arguments_tell_no_secret() {
    let (address, _) = listening();
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("out");
    let url = format!("http://{address}/");
    let authorization = format!("Authorization: Bearer {LITERAL}");
    let mut command = duel(&["try", &url, "-n", "4", "-c", "1", "-m", "POST"]);
    command.args(["-H", &authorization, "--header=Cookie: $DUEL_TEST_SECRET"]);
    command
        .args(["-H", "x-token: $DUEL_TEST_SECRET", "-b", "$DUEL_TEST_BODY"])
        .arg("--out")
        .arg(&dir);
    let (code, _, stderr) = assert_quiet(&mut command);
    assert_eq!(code, Some(0), "{stderr}");
    assert_directory_clean(&dir);
    // A variable inside a longer value was once sent as it stands, without a word.
    for inside in ["Cookie: id=$DUEL_TEST_SECRET", "Authorization: Bearer ${DUEL_TEST_SECRET}"] {
        let (code, _, stderr) = assert_quiet(&mut duel(&["try", &url, "-n", "1", "-H", inside]));
        assert_eq!(code, Some(2), "{inside}");
        assert!(stderr.contains("write \"$DUEL_TEST_SECRET\" alone"), "{stderr}");
    }
    let forgotten = format!("Authorization Bearer {LITERAL}");
    let (code, _, stderr) = assert_quiet(&mut duel(&["try", &url, "-H", &forgotten]));
    assert_eq!(code, Some(2), "{stderr}");
    let mut command = Sweep::new("name = 'x'").command();
    let set = format!("plan.request=[{{ headers = {{ authorization = '{LITERAL}' }} }}]");
    command.args(["--set", &set, "--set", "plan.requests=none"]);
    assert_eq!(assert_quiet(&mut command).0, Some(2));
    let torn = format!("plan.request=[{{ headers = {{ authorization = '{LITERAL}' }}]");
    assert_eq!(assert_quiet(Sweep::new("name = 'x'").command().args(["--set", &torn])).0, Some(2));
    let sweep = Sweep::new("[plan]\nrequests = 2\n[sweep]\nengines = ['threads']\ntrials = 1");
    assert_eq!(assert_quiet(sweep.command().args(["--set", &set])).0, Some(0));
    assert_directory_clean(&sweep.dir());
}

/// Values beside secrets, in an open loop.
fn templates(target: &str) -> String {
    format!(
        "name = 'x'\n{target}\n[plan]\nrequests = 12\ntimeout = '2s'\narrivals = 'constant'\n\
         [plan.values]\nid = {{ counter = {{}} }}\n[[plan.request]]\nmethod = 'POST'\n\
         path = '/items/{{id}}'\nheaders = {{ x-token = '$DUEL_TEST_SECRET', \
         authorization = 'Bearer {LITERAL}{{id}}', x-id = '{{id}}' }}\nbody = '$DUEL_TEST_BODY'\n\
         [sweep]\nengines = ['threads', 'tokio']\ncodecs = ['hyper', 'lean']\nlanes = [2]\n\
         rates = [200]\ntrials = 1\n"
    )
}

#[test]
fn templates_and_their_proof_tell_no_secret() {
    let (address, heard) = listening();
    let sweep = Sweep::new(&templates(&format!("[target]\nurl = 'http://{address}'")));
    let (code, _, stderr) = assert_quiet(&mut sweep.command());
    // A busy machine is not believed, which is no matter here.
    assert!(matches!(code, Some(0 | 4)), "{stderr}");
    let heard = heard.lock().unwrap().clone();
    for secret in [HEADER.to_string(), BODY.to_string(), format!("{LITERAL}7")] {
        assert!(heard.windows(secret.len()).any(|w| w == secret.as_bytes()), "{secret} is sent");
    }
    assert_directory_clean(&sweep.dir());
    let embedded = Sweep::new(&templates("[target]"));
    let (code, stdout, stderr) = assert_quiet(duel(&["verify"]).arg(embedded.config()));
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert_quiet(duel(&["plan"]).arg(embedded.config()));
    // A value that is not there, beside the secret.
    let unknown =
        templates("[target]").replace(&format!("{LITERAL}{{id}}"), &format!("{LITERAL}{{no}}"));
    let (code, _, stderr) = assert_quiet(&mut Sweep::new(&unknown).command());
    assert_eq!(code, Some(2), "{stderr}");
}

#[test]
fn shards_and_what_they_merge_to_tell_no_secret() {
    let sweep = Sweep::new(&templates("[target]"));
    let path = |name: &str| sweep.home.path().join(name);
    std::thread::scope(|scope| {
        for (shard, out) in [("0/2", "a"), ("1/2", "b")] {
            let mut command = duel(&["run", "--shard", shard, "--rendezvous-wait", "60s"]);
            command.arg("--rendezvous").arg(path("meet")).arg("--out").arg(path(out));
            command.arg(sweep.config());
            scope.spawn(move || {
                let (code, _, stderr) = assert_quiet(&mut command);
                // A busy machine is not believed, which is no matter here.
                assert!(matches!(code, Some(0 | 4)), "{stderr}");
            });
        }
    });
    let mut merge = duel(&["merge"]);
    let (code, _, stderr) =
        assert_quiet(merge.arg(path("a")).arg(path("b")).arg("--out").arg(path("merged")));
    assert!(matches!(code, Some(0 | 4)), "{stderr}");
    for name in ["a", "b", "merged"] {
        assert!(assert_directory_clean(&path(name)) >= 3, "plan, rows, report");
    }
    // What the shards left where they met.
    assert_directory_clean(&path("meet"));
}

#[test]
fn sockets_that_fail_and_urls_with_a_password_tell_no_secret() {
    let (address, _) = listening();
    for target in [
        // No TLS is spoken there.
        format!("[target]\nurl = 'https://{address}'\ninsecure = true"),
        "[target]\nurl = 'unix:/nonexistent/socket'".to_string(),
    ] {
        let sweep = Sweep::new(&config(&target));
        let (code, _, stderr) = assert_quiet(&mut sweep.command());
        assert_eq!(code, Some(1), "{target}: {stderr}");
        assert_directory_clean(&sweep.dir());
    }
    let (code, _, stderr) =
        assert_quiet(&mut duel(&["try", &format!("http://user:{LITERAL}@{address}/"), "-n", "1"]));
    assert_eq!(code, Some(2), "{stderr}");
    let url = format!("[target]\nurl = 'http://user:{LITERAL}@{address}/'");
    let (code, _, stderr) = assert_quiet(&mut Sweep::new(&url).command());
    assert_eq!(code, Some(2), "{stderr}");
}

#[test]
fn a_search_tells_no_secret() {
    let plain = config("[target]\nservice_time = '1ms'\nservers = 1")
        .replace("requests = 10", "duration = '100ms'\narrivals = 'constant'")
        .replace("trials = 1\n", "[slo]\np90 = '20ms'\n[search]\ntolerance = 1.0\n")
        .replace("'threads', 'tokio'", "'tokio'")
        .replace("'hyper', 'lean'", "'lean'");
    let sweep = Sweep::new(&plain);
    let mut run = duel(&["run"]);
    let (code, stdout, stderr) =
        assert_quiet(run.arg(sweep.config()).arg("--out").arg(sweep.dir()));
    assert!(matches!(code, Some(0 | 3 | 4)), "{code:?} {stderr}");
    assert!(stdout.contains("Highest rate that meets"), "{stdout}");
    assert!(sweep.dir().join("search.json").exists());
    assert!(assert_directory_clean(&sweep.dir()) >= 5, "plan, rows, report, cells, search");
}

#[test]
fn a_run_that_is_watched_tells_no_secret() {
    let (address, heard) = listening();
    let sweep = Sweep::new(&config(&format!("[target]\nurl = 'http://{address}'")));
    let mut command = sweep.command();
    command.args(["--metrics", ":0", "--set", "plan.requests=2000000"]);
    let mut child = with_secrets(&mut command)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("duel starts");
    let mut said = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    let at = loop {
        line.clear();
        assert!(said.read_line(&mut line).expect("a line") > 0, "the run ended first");
        if let Some(url) = line.trim().strip_prefix("duel: metrics on http://") {
            break url.trim_end_matches("/metrics").to_string();
        }
    };
    common::eventually("secrets are under way", || !heard.lock().unwrap().is_empty());
    let mut stream = std::net::TcpStream::connect(at).expect("it listens");
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = vec![];
    stream.read_to_end(&mut page).expect("an answer");
    assert_clean("the metrics", &page);
    assert!(page.windows(5).any(|w| w == b"duel_"), "a page of metrics");
    common::signal(child.id(), rustix::process::Signal::INT);
    let mut rest = vec![];
    said.read_to_end(&mut rest).expect("what it said");
    assert_clean("standard error", &rest);
    assert_eq!(common::wait(&mut child).code(), Some(130));
    assert_directory_clean(&sweep.dir());
}
