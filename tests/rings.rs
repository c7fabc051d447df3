//! The engine on io_uring where rings are forbidden: a failed row that says why, and nothing else fails.

mod common;

use std::io::Error;
use std::os::unix::process::CommandExt;
use std::process::Command;

use common::{duel, output, records, text};
use duel::format::Status;
use duel::plan::Engine;
use nix::libc;

/// Forbids the system calls of io_uring, 425 to 427, to a command: what containers do.
#[expect(unsafe_code, reason = "a filter is installed between fork and exec")]
fn without_rings(command: &mut Command, errno: i32) -> &mut Command {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let least = |k, jf| libc::sock_filter {
        jf,
        ..statement(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, k)
    };
    let program = [
        // The number of the system call comes first.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        least(425, 2),
        libc::sock_filter { jt: 1, ..least(428, 0) },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let mut program = program;
        let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        // SAFETY: both calls read nothing but the program, which outlives them.
        let installed = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter) == 0
        };
        if installed { Ok(()) } else { Err(Error::last_os_error()) }
    };
    // SAFETY: the closure makes system calls alone and allocates nothing.
    unsafe { command.pre_exec(install) }
}

const CONFIG: &str = "[plan]\nrequests = 20\n[sweep]\nengines = ['tokio-single', 'uring']\n\
    codecs = ['lean']\nlanes = [2]\ntrials = 1\n";
const EXPECTED: &str = "[[sweep.expect_failed]]\nengine = 'uring'\n";

#[test]
fn where_rings_are_forbidden_the_row_says_so_and_the_others_run() {
    for (errno, words) in [(libc::EPERM, "forbidden to this process"), (libc::ENOSYS, "Linux 6.1")]
    {
        for (expected, code) in [("", 1), (EXPECTED, 0)] {
            let home = tempfile::tempdir().unwrap();
            let (config, out) = (home.path().join("x.toml"), home.path().join("out"));
            std::fs::write(&config, format!("{CONFIG}{expected}")).unwrap();
            let mut run = duel(&["run"]);
            run.arg(&config).arg("--out").arg(&out);
            let done = output(without_rings(&mut run, errno));
            let (_, stderr) = text(&done);
            let rows = records(&out);
            assert_eq!(rows.len(), 2, "{stderr}");
            for row in rows {
                let error = row.error.clone().unwrap_or_default();
                if row.cell.engine == Engine::Uring {
                    assert_eq!(row.status, Status::Failed, "{stderr}");
                    assert!(error.contains(words) && error.contains("io_uring"), "{error}");
                } else {
                    assert_eq!((row.ledger.completed, error.as_str()), (20, ""), "{stderr}");
                }
            }
            // Noise gates may have their say on a busy machine, a failed row must.
            let found = done.status.code();
            assert!(found == Some(code) || (code == 0 && found == Some(4)), "{found:?}: {stderr}");
        }
    }
}

#[test]
fn limits_say_that_the_engine_cannot_run() {
    let words = "uring cannot run here: io_uring is forbidden";
    let (stdout, stderr) = text(&output(without_rings(&mut duel(&["limits"]), libc::EPERM)));
    assert!(stdout.contains(words), "{stdout}{stderr}");
    let json = text(&output(without_rings(&mut duel(&["limits", "--json"]), libc::EPERM))).0;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert!(
        json["limits"]["ring_refused"].as_str().is_some_and(|w| w.contains("seccomp")),
        "{json}"
    );
}
