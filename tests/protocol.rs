//! The seam: frames as they were committed stay readable, and nothing else is taken for one.

use crate::common;

use std::io::{BufReader, Write};
use std::process::Stdio;

use common::{duel, text, wait};
use duel::protocol::{Frame, FrameError, PROTOCOL_VERSION};
use serde_json::Value;

/// The six frames, a line each, in their order.
const FRAMES: &str = include_str!("data/frames.jsonl");

fn line(name: &str) -> &'static str {
    let tag = format!("\"frame\":\"{name}\"");
    FRAMES.lines().find(|l| l.contains(&tag)).unwrap_or_else(|| panic!("no {name} in the fixture"))
}

/// Whether every field of the old one is in the new one, as it was.
fn holds(new: &Value, old: &Value) -> bool {
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => {
            old.iter().all(|(name, old)| new.get(name).is_some_and(|new| holds(new, old)))
        }
        _ => new == old,
    }
}

#[test]
fn every_committed_frame_is_read_and_written_as_it_was() {
    let mut input = BufReader::new(FRAMES.as_bytes());
    let mut names = vec![];
    for line in FRAMES.lines() {
        let frame = Frame::read_from(&mut input).unwrap_or_else(|e| panic!("{e}: {line}"));
        let mut again = vec![];
        frame.write_to(&mut again).unwrap_or_else(|e| panic!("{e}: {line}"));
        match &frame {
            // New figures of a record may stand beside those that were.
            Frame::Outcome(_) => {
                let [old, new] = [line.as_bytes(), &again]
                    .map(|text| serde_json::from_slice::<Value>(text).expect("JSON"));
                assert!(holds(&new, &old), "{old}\n{new}");
            }
            _ => {
                assert_eq!(
                    String::from_utf8_lossy(&again),
                    format!("{line}\n"),
                    "{}",
                    frame.name()
                );
            }
        }
        names.push(frame.name());
    }
    assert_eq!(names, ["job", "ready", "go", "armed", "start", "outcome"]);
    assert!(matches!(Frame::read_from(&mut input), Err(FrameError::Closed)));
}

#[test]
fn another_version_is_refused_on_every_frame() {
    for line in FRAMES.lines() {
        let old = format!("\"version\":{PROTOCOL_VERSION}");
        let next = PROTOCOL_VERSION + 1;
        let newer = line.replacen(&old, &format!("\"version\":{next}"), 1);
        assert_ne!(newer, line, "the frame says its version: {line}");
        let error = Frame::parse(newer.as_bytes()).expect_err("a newer version");
        assert!(
            matches!(error, FrameError::Version { found } if found == next),
            "{error}: {newer}"
        );
    }
}

#[test]
fn torn_and_unknown_frames_are_refused() {
    for line in FRAMES.lines() {
        for end in (0..line.len()).step_by(7) {
            let torn = &line.as_bytes()[..end];
            assert!(Frame::parse(torn).is_err(), "{}", String::from_utf8_lossy(torn));
            let error = Frame::read_from(&mut BufReader::new(torn)).expect_err("torn");
            let closed = matches!(error, FrameError::Closed);
            assert_eq!(closed, end == 0, "{error}");
        }
    }
    for line in ["{}", "[]", "null", "\n", "{\"frame\":\"stop\",\"version\":3}", "\u{0}"] {
        assert!(Frame::parse(line.as_bytes()).is_err(), "{line}");
    }
}

#[test]
fn a_frame_that_contradicts_itself_is_refused_on_both_sides() {
    for (name, from, to) in [
        ("job", "\"lanes\":2", "\"lanes\":0"),
        ("job", "\"worker\":0", "\"worker\":1"),
        ("job", "\"targets\":[\"127.0.0.1:8080\"]", "\"targets\":[]"),
        ("outcome", "\"completed\":20", "\"completed\":19"),
        ("outcome", "\"connect\":0", "\"connect\":1"),
    ] {
        let wrong = line(name).replacen(from, to, 1);
        assert_ne!(wrong, line(name), "{from} is in the fixture");
        assert!(Frame::parse(wrong.as_bytes()).is_err(), "{to} is taken");
    }
}

/// Gives a worker these lines and the end of input: it must end by itself, with a reason.
fn worker_refuses(input: &str, says: &str) {
    let mut worker = duel(&["worker"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the worker starts");
    // A worker that has already refused may be gone.
    let _ = worker.stdin.take().expect("piped").write_all(input.as_bytes());
    wait(&mut worker);
    let out = worker.wait_with_output().expect("it has ended");
    let (_, stderr) = text(&out);
    assert_eq!(out.status.code(), Some(1), "{input:.60}: {stderr}");
    assert_eq!(stderr.trim_end().lines().count(), 1, "one line: {stderr}");
    assert!(stderr.contains(says), "`{says}` is missing in: {stderr}");
}

#[test]
fn a_worker_refuses_what_is_out_of_order() {
    let (job, go, start) = (line("job"), line("go"), line("start"));
    worker_refuses("", "closed");
    worker_refuses("no frame\n", "frame");
    worker_refuses(&format!("{go}\n"), "job");
    worker_refuses(&format!("{job}\n{start}\n"), "go");
    worker_refuses(&format!("{job}\n{job}\n"), "go");
    worker_refuses(&job[..40], "torn");
    worker_refuses(&format!("{}\n", go.replace(":3", ":4")), "version");
    worker_refuses(&format!("{job}\n"), "closed");
}
