use std::collections::{BTreeMap, HashSet};

use super::*;
use crate::plan::Arrivals;
use crate::plan::trace::TraceFile;
use crate::plan::values::RequestValue;

fn template(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> RequestTemplate {
    let headers = headers.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    let body = body.into();
    RequestTemplate {
        method: method.into(),
        path: path.into(),
        headers,
        body,
        ..Default::default()
    }
}

fn plan(mix: Vec<RequestTemplate>, requests: u64) -> TrialPlan {
    let values = BTreeMap::from([
        ("id".into(), RequestValue::Counter { start: 100, step: 1 }),
        ("r".into(), RequestValue::Random { min: 1, max: 6 }),
    ]);
    TrialPlan { mix, values, extent: Extent::Requests(requests), ..TrialPlan::default() }
}

fn sent(prepared: &Prepared, index: u64) -> String {
    let rendered = &prepared.rendered[prepared.mix.pick(index)];
    String::from_utf8(rendered.bytes.to_vec()).unwrap()
}

#[test]
fn every_part_of_a_request_is_filled_in_and_its_length_is_right() {
    let body = "{\"id\": {id}, \"text\": \"{{id}}\"}";
    let mix = vec![template("POST", "/items/{id}?d={r}", &[("x-id", "n{id}")], body)];
    let prepared = prepare(&plan(mix, 1_000)).unwrap();
    assert_eq!(prepared.rendered.len(), 1_000);
    let request = sent(&prepared, 7);
    assert!(request.starts_with("POST /items/107?d="), "{request}");
    assert!(request.contains("\r\nx-id: n107\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\n{\"id\": 107, \"text\": \"{id}\"}"), "{request}");
    assert!(request.contains("\r\ncontent-length: 27\r\n"), "{request}");
    assert_eq!(prepared.rendered[7].uri_path(), request.split(' ').nth(1).unwrap());
    assert_eq!(sent(&prepared, 1_007), request, "renderings are sent again from the first");
}

#[test]
fn rendering_is_a_pure_function_of_the_plan() {
    let mix = vec![template("GET", "/{r}", &[], ""), template("GET", "/x/{r}/{id}", &[], "")];
    let one = plan(mix, 200);
    let bytes = |plan: &TrialPlan| -> Vec<String> {
        let prepared = prepare(plan).unwrap();
        (0..200).map(|i| sent(&prepared, i)).collect()
    };
    assert_eq!(bytes(&one), bytes(&one.clone()));
    assert_ne!(bytes(&one), bytes(&TrialPlan { seed: 2, ..one.clone() }));
    // The mix itself is the same draw as without values.
    let plain = Mix::new(&one);
    for (index, request) in bytes(&one).iter().enumerate() {
        assert_eq!(plain.pick(index as u64) == 1, request.starts_with("GET /x/"), "{request}");
    }
}

#[test]
fn a_pool_is_as_large_as_asked() {
    let mix = || vec![template("GET", "/{id}", &[], "")];
    let pool = TrialPlan { renderings: Some(10), ..plan(mix(), 1_000) };
    let prepared = prepare(&pool).unwrap();
    assert_eq!(prepared.rendered.len(), 10);
    assert_eq!(sent(&prepared, 23), sent(&prepared, 3));
    let timed = TrialPlan { extent: Extent::DurationNs(1), ..plan(mix(), 1) };
    assert_eq!(prepare(&timed).unwrap().rendered.len() as u64, RENDERINGS_BY_TIME);
}

#[test]
fn what_differs_in_the_path_alone_shares_its_headers() {
    let headers: Vec<(String, String)> = (0..20).map(|i| (format!("x-{i}"), "v".into())).collect();
    let one = RequestTemplate { headers, ..template("GET", "/{id}", &[], "") };
    let prepared = prepare(&plan(vec![one], 3)).unwrap();
    let maps: Vec<*const _> =
        prepared.rendered.iter().map(|r| r.headers().next().unwrap().1 as *const _).collect();
    assert_eq!(maps.iter().collect::<HashSet<_>>().len(), 1, "each rendering holds a header map");
}

#[test]
fn data_is_never_read_as_a_variable_or_a_template() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lines");
    std::fs::write(&path, "$PATH\n").unwrap();
    let sha256 = crate::plan::values::sha256(b"$PATH\n");
    let path = path.to_str().unwrap().to_string();
    let mut plan = plan(vec![template("POST", "/", &[("x-line", "{line}")], "{line}")], 1);
    plan.values.insert("line".into(), RequestValue::Choice { path, sha256 });
    let request = sent(&prepare(&plan).unwrap(), 0);
    assert!(
        request.contains("x-line: $PATH\r\n") && request.ends_with("\r\n\r\n$PATH"),
        "{request}"
    );
}

#[test]
fn without_values_braces_are_sent_as_they_are() {
    let mix = vec![template("POST", "/{id}", &[("x", "{{id}}")], "{id}")];
    let plain = TrialPlan { values: BTreeMap::new(), ..plan(mix, 5) };
    let prepared = prepare(&plain).unwrap();
    assert_eq!(prepared.rendered.len(), 1);
    let request = sent(&prepared, 3);
    assert!(request.starts_with("POST /{id} ") && request.contains("x: {{id}}"), "{request}");
    assert!(request.ends_with("{id}"), "{request}");
}

#[test]
fn an_unknown_name_is_an_error_of_its_template() {
    let mix = vec![template("GET", "/", &[], ""), template("GET", "/{ids}", &[], "")];
    let error = prepare(&plan(mix, 50)).unwrap_err().to_string();
    assert!(error.starts_with("request 2 of the mix: `{ids}` stands for no value"), "{error}");
    assert!(error.contains("write {{ids}} for the text"), "{error}");
}

#[test]
fn numbers_tell_requests_apart() {
    let plain = vec![template("GET", "/", &[], ""), template("POST", "/", &[], "b")];
    let plan = TrialPlan { values: BTreeMap::new(), numbered: true, ..plan(plain, 100) };
    let prepared = prepare(&plan).unwrap();
    for index in 0..100 {
        let want = format!("\r\n{NUMBER_HEADER}: {index}\r\n");
        assert!(sent(&prepared, index).contains(&want), "{}", sent(&prepared, index));
    }
}

#[test]
fn a_trace_sends_its_entries_with_the_headers_of_their_methods() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let line = |request: &str| {
        format!("h - - [10/Oct/2000:13:55:36 -0700] \"{request} HTTP/1.1\" 200 1\n")
    };
    let text = line("GET /a") + &line("POST /b") + &line("GET /a") + &line("HEAD /c");
    std::fs::write(&path, text).unwrap();
    let mix = vec![
        template("POST", "/", &[("x-kind", "post")], "body"),
        template("GET", "/", &[("x-kind", "get")], ""),
    ];
    let (file, trace) = TraceFile::read(&path, None, 1.0, &mix).unwrap();
    let plan = TrialPlan {
        arrivals: Arrivals::Trace,
        offered_per_s: Some(1.0),
        trace: Some(file),
        values: BTreeMap::new(),
        ..plan(mix, 4)
    };
    let prepared = prepare(&plan).unwrap();
    assert_eq!(prepared.trace.as_deref(), Some(&trace));
    assert_eq!(prepared.rendered.len(), 3);
    assert!(
        sent(&prepared, 0).starts_with("GET /a ") && sent(&prepared, 0).contains("x-kind: get")
    );
    assert!(sent(&prepared, 1).starts_with("POST /b ") && sent(&prepared, 1).ends_with("body"));
    assert_eq!(sent(&prepared, 2), sent(&prepared, 0));
    assert!(sent(&prepared, 3).starts_with("HEAD /c ") && !sent(&prepared, 3).contains("x-kind"));

    let numbered = prepare(&TrialPlan { numbered: true, ..plan }).unwrap();
    assert_eq!(numbered.rendered.len(), 4, "each entry has its number");
    assert!(sent(&numbered, 2).contains("x-duel-request: 2\r\n"));
}
