//! What the lean codec costs a request beside the socket: parsing a response, picking a template;
//! and, once a trial, rendering a plan.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use duel::codec::parse::{Progress, ResponseParser};
use duel::plan::request::{Mix, render};
use duel::plan::{RequestTemplate, TrialPlan};

/// What nginx sends for a small file.
const NGINX: &str = "HTTP/1.1 200 OK\r\nServer: nginx/1.26.3\r\n\
    Date: Mon, 06 Jul 2026 12:00:00 GMT\r\nContent-Type: text/html\r\nContent-Length: 12\r\n\
    Last-Modified: Mon, 06 Jul 2026 11:00:00 GMT\r\nConnection: keep-alive\r\n\
    ETag: \"686a5b3c-c\"\r\nAccept-Ranges: bytes\r\n\r\nhello, duel\n";

fn with_body(head: &str, body: usize) -> Vec<u8> {
    let mut response = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n").into_bytes();
    response.resize(response.len() + body, b'x');
    response
}

fn responses() -> Vec<(&'static str, Vec<u8>)> {
    let mut chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..4 {
        chunked.extend_from_slice(b"100\r\n");
        chunked.resize(chunked.len() + 256, b'x');
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    vec![
        ("nginx", NGINX.into()),
        ("1 KiB body", with_body("Content-Length: 1024", 1024)),
        ("1 KiB in 4 chunks", chunked),
    ]
}

/// Feeds one response whole, as a lane with one read a response does.
fn parse(response: &[u8]) {
    let mut parser = ResponseParser::new(false);
    let progress = parser.feed(black_box(response));
    assert!(matches!(progress, Ok(Progress::Done { .. })), "{progress:?}");
}

fn parsing(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    for (name, response) in responses() {
        group.throughput(Throughput::Bytes(response.len() as u64));
        group.bench_function(name, |b| b.iter(|| parse(&response)));
    }
    let response = responses().remove(0).1;
    group.bench_function("nginx in two reads", |b| {
        b.iter(|| {
            let mut parser = ResponseParser::new(false);
            let first = parser.feed(black_box(&response[..100]));
            assert_eq!(first, Ok(Progress::NeedMore { consumed: 0 }));
            parser.feed(black_box(&response)).unwrap()
        });
    });
    group.finish();
}

fn plan(entries: u32) -> TrialPlan {
    let template = |i: u32| RequestTemplate {
        path: format!("/item/{i}?q=1"),
        weight: i + 1,
        headers: vec![("x-request".into(), i.to_string())],
        ..RequestTemplate::default()
    };
    TrialPlan {
        host: "127.0.0.1:8080".into(),
        mix: (0..entries).map(template).collect(),
        ..TrialPlan::default()
    }
}

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("request");
    for entries in [1, 2, 16] {
        let mix = Mix::new(&plan(entries));
        let mut index = 0;
        group.bench_function(format!("pick of {entries}"), |b| {
            b.iter(|| {
                index += 1;
                mix.pick(black_box(index))
            });
        });
    }
    let plan = plan(16);
    group.bench_function("render 16", |b| b.iter(|| render(black_box(&plan)).unwrap()));
    let rendered = render(&plan).unwrap();
    group.bench_function("request for hyper", |b| {
        b.iter_batched(|| (), |()| rendered[0].request(), BatchSize::SmallInput);
    });
    group.finish();
}

criterion_group!(benches, parsing, requests);
criterion_main!(benches);
