//! What hyper writes is what a plan renders, byte for byte.

use duel::plan::request::{Rendered, render};
use duel::plan::{RequestTemplate, TrialPlan};

use crate::memory::{End, Script, drive, handshake};

pub(crate) fn plan(mix: Vec<RequestTemplate>) -> TrialPlan {
    TrialPlan { host: "127.0.0.1:8080".into(), mix, ..TrialPlan::default() }
}

fn template(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> RequestTemplate {
    RequestTemplate {
        method: method.into(),
        path: path.into(),
        headers: headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
        body: body.to_vec(),
        ..RequestTemplate::default()
    }
}

/// What hyper writes for each of two requests on one connection.
fn written_by_hyper(rendered: &Rendered) -> [Vec<u8>; 2] {
    let script = Script::new(&[], End::Open);
    let (pieces, written) = (script.pieces.clone(), script.written.clone());
    let (mut sender, connection) = handshake(script);
    let mut connection = Some(connection);
    let mut send = || {
        pieces.lock().unwrap().push_back(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec());
        let mut response = Box::pin(sender.send_request(rendered.request()));
        drop(drive(&mut connection, |cx| response.as_mut().poll(cx)));
        std::mem::take(&mut *written.lock().unwrap())
    };
    [send(), send()]
}

#[test]
fn hyper_writes_the_bytes_that_a_plan_renders() {
    let mixed = &[("X-One", "1"), ("Accept", "text/html"), ("x-two", ""), ("X-ONE", "1 again")][..];
    let mix = vec![
        template("GET", "/", &[], b""),
        template("GET", "/a/b?c=d&e=%20#f".trim_end_matches("#f"), mixed, b""),
        template(
            "GET",
            "//double?",
            &[("User-Agent", "me"), ("accept", "a"), ("Accept", "b")],
            b"",
        ),
        template("HEAD", "/", &[("Host", "example.test")], b""),
        template("DELETE", "/x", &[], b""),
        template("OPTIONS", "/", &[("X", "\u{e4}\tz")], b""),
        template("POST", "/", &[], b""),
        template("POST", "/", mixed, b"name=value"),
        template("PUT", "/", &[("Content-Length", "4"), ("Content-Type", "text/plain")], b"body"),
        template("PATCH", "/", &[("Expect", "100-continue")], &[0, 255, 13, 10]),
        template("GET", "/", &[("Cookie", "a"), ("Cookie", "b")], b"a GET with a body"),
        template("PROPFIND", "/", &[("TE", "trailers"), ("Connection", "TE")], &[b'x'; 100_000]),
    ];
    for rendered in render(&plan(mix)).unwrap() {
        for (nth, bytes) in written_by_hyper(&rendered).iter().enumerate() {
            assert_eq!(
                bytes.escape_ascii().to_string(),
                rendered.bytes.escape_ascii().to_string(),
                "request {nth} of {rendered:?}"
            );
        }
    }
}

#[test]
fn hyper_writes_the_bytes_of_a_plan_without_keep_alive() {
    let mut plan = plan(vec![
        template("GET", "/", &[], b""),
        template("GET", "/", &[("Connection", "TE")], b""),
        template("POST", "/", &[("X", "y"), ("Connection", "Close")], b"body"),
    ]);
    plan.keep_alive = false;
    for rendered in render(&plan).unwrap() {
        assert!(rendered.closes, "{rendered:?}");
        let [first, _] = written_by_hyper(&rendered);
        assert_eq!(first.escape_ascii().to_string(), rendered.bytes.escape_ascii().to_string());
    }
}
