use super::*;

fn parse(text: &str) -> Result<(Trace, TraceFormat), TraceError> {
    Trace::parse(text.as_bytes(), None, 1.0, &[RequestTemplate::default()])
}

fn paths(trace: &Trace) -> Vec<String> {
    let request = |pick: &u32| {
        let (method, path) = &trace.requests[*pick as usize];
        format!("{method} {path}")
    };
    trace.picks.iter().map(request).collect()
}

/// A line of an access log at a second after 13:55:00.
fn logged(second: u32, request: &str) -> String {
    format!(
        "127.0.0.1 - frank [10/Oct/2000:13:55:{second:02} -0700] \"{request}\" 200 2326 \
         \"http://example.test/\" \"Mozilla/4.08 [en] (Win98; I ;Nav)\"\n"
    )
}

const MS: u64 = 1_000_000;

#[test]
fn h2loads_timing_script_is_read_as_it_stands() {
    let (trace, format) =
        parse("0\t/a\n1.5\thttp://example.test:80/b?c=d\r\n\n1.500001\t/a\n20\thttps://h\n")
            .unwrap();
    assert_eq!(format, TraceFormat::Offsets);
    assert_eq!(trace.offsets_ns, [0, 1_500_000, 1_500_001, 20 * MS]);
    assert_eq!(paths(&trace), ["GET /a", "GET /b?c=d", "GET /a", "GET /"]);
    assert_eq!(trace.requests.len(), 3, "a request that comes again is kept once");
    assert_eq!(trace.longest_gap_ns(), 20 * MS - 1_500_001);
    assert_eq!(trace.peak_per_s(), 4);
    let (trace, _) = parse("0\t/\n999.9\t/\n1000\t/\n1001\t/\n1998\t/\n2500\t/\n").unwrap();
    assert_eq!(trace.peak_per_s(), 4, "999.9 to 1,998 ms");
}

#[test]
fn speed_divides_offsets() {
    let (trace, _) = Trace::parse(b"10\t/\n30\t/", None, 2.0, &[]).unwrap();
    assert_eq!(trace.offsets_ns, [5 * MS, 15 * MS]);
    let (trace, _) = Trace::parse(b"10\t/\n30\t/", None, 0.1, &[]).unwrap();
    assert_eq!(trace.offsets_ns, [100 * MS, 300 * MS]);
}

#[test]
fn the_entries_of_one_second_are_spread_over_it() {
    let text: String = [(10, "/1"), (10, "/2"), (12, "/3"), (12, "/4"), (12, "/5"), (12, "/6")]
        .iter()
        .map(|(second, path)| logged(*second, &format!("GET {path} HTTP/1.1")))
        .collect();
    let (trace, format) = parse(&text).unwrap();
    assert_eq!(format, TraceFormat::Combined);
    let ms: Vec<u64> = trace.offsets_ns.iter().map(|ns| ns / MS).collect();
    assert_eq!(ms, [0, 500, 2_000, 2_250, 2_500, 2_750]);
    assert_eq!(paths(&trace)[5], "GET /6");
}

#[test]
fn an_absolute_uri_is_sent_in_origin_form() {
    for (uri, path) in [
        ("http://h?next=/home", "/?next=/home"),
        ("http://h?x=1", "/?x=1"),
        ("HTTPS://h:8443?x=http://i/j", "/?x=http://i/j"),
        ("http://h", "/"),
        ("http://h/", "/"),
        ("http://h/a?b=/c", "/a?b=/c"),
        ("/a?u=http://h/b", "/a?u=http://h/b"),
    ] {
        let (trace, format) = parse(&format!("0\t{uri}\n1\t{uri}\n")).unwrap();
        assert_eq!(format, TraceFormat::Offsets);
        assert_eq!(paths(&trace), [format!("GET {path}"), format!("GET {path}")], "{uri}");
        let (trace, _) = parse(&logged(0, &format!("GET {uri} HTTP/1.1"))).unwrap();
        assert_eq!(paths(&trace), [format!("GET {path}")], "{uri} in a log");
    }
}

#[test]
fn the_form_of_a_trace_is_told_whatever_its_paths_hold_and_its_editor_did() {
    for text in [
        "0\t/a?x[]=1\n5\t/b\n",
        "0\t/b\n5\t/a?x[]=1\n",
        "\u{feff}0\t/a?x[]=1\n5\t/b\n",
        "0\t/a?x[]=1\r\n5\t/b\r\n",
        " 0\t /a?x[]=1 \r\n\r\n5\t\t/b\n",
        "0\thttp://h/a?b=[1]\n5\t/b",
    ] {
        let found = parse(text);
        let (trace, format) = found.unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!((format, trace.len()), (TraceFormat::Offsets, 2), "{text:?}");
    }
    let log = format!("\u{feff}{}", logged(0, "GET /a HTTP/1.1").replace('\n', "\r\n"));
    assert_eq!(paths(&parse(&log).unwrap().0), ["GET /a"]);
}

#[test]
fn zones_and_midnights_are_crossed() {
    let line = |time: &str| format!("h - - [{time}] \"GET / HTTP/1.0\" 304 -\n");
    let text = line("31/Dec/1999:23:59:59 +0000") + &line("01/Jan/2000:02:00:01 +0200");
    let (trace, format) = parse(&text).unwrap();
    assert_eq!(format, TraceFormat::Common);
    assert_eq!(trace.offsets_ns, [0, 2_000 * MS]);
    let leap = line("28/Feb/2000:23:59:60 -0000") + &line("29/Feb/2000:00:00:00 +0000");
    assert_eq!(parse(&leap).unwrap().0.offsets_ns, [0, 500 * MS], "a leap second is the next one");
}

#[test]
fn what_a_log_cannot_replay_is_counted() {
    let text: String = [
        "GET /a HTTP/1.1",
        "POST /b HTTP/1.1",
        "HEAD /c HTTP/1.1",
        "-",
        "\\x16\\x03\\x01",
        "GET /d\\x20e HTTP/1.1",
        "GET http://other.test/f?g HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "GET /only-two",
        "POST /h HTTP/1.1",
    ]
    .iter()
    .map(|request| logged(0, request))
    .collect();
    let (trace, _) = parse(&text).unwrap();
    assert_eq!(paths(&trace), ["GET /a", "HEAD /c", "GET /f?g"]);
    assert_eq!(trace.skipped, BTreeMap::from([("-".into(), 5), ("POST".into(), 2)]));
    let note = skipped(&trace.skipped).unwrap();
    assert!(note.contains("7 entries skipped (5 without a request, 2 POST)"), "{note}");

    let post = RequestTemplate { method: "POST".into(), ..RequestTemplate::default() };
    let (trace, _) = Trace::parse(text.as_bytes(), None, 1.0, &[post]).unwrap();
    assert_eq!(paths(&trace), ["GET /a", "POST /b", "HEAD /c", "GET /f?g", "POST /h"]);
}

#[test]
fn a_bad_line_is_named() {
    let good = logged(5, "GET / HTTP/1.1");
    let torn = |cut: usize| format!("{good}{}", &good[..good.len() - cut]);
    for (text, line, message) in [
        ("5\t/\n4.9\t/\n".to_string(), 2, "runs backwards: 4.9 ms behind 5 ms"),
        ("5\t/\n\n7".into(), 3, "holds no TAB"),
        ("5\t/\n7\t".into(), 2, "is torn"),
        ("5\t/\nx\t/".into(), 2, "`x` is not an offset"),
        ("-1\t/\n".into(), 1, "out of range"),
        ("nan\t/\n".into(), 1, "out of range"),
        ("1e300\t/\n".into(), 1, "out of range"),
        ("5\t/ok\n6\t/a b\n".into(), 2, "is not a path"),
        ("5\t/ok\n6\tno\n".into(), 2, "is not a path"),
        (good.clone() + &logged(4, "GET / HTTP/1.1"), 2, "runs backwards by 1 s"),
        (torn(3), 2, "no \"user agent\""),
        (torn(20), 2, "no \"user agent\""),
        (torn(60), 2, "no \"referer\""),
        (torn(90), 2, "is torn"),
        (torn(110), 2, "no [time]"),
        (good.replace("Oct", "Okt"), 1, "of no known form"),
        (good.clone() + &good.replace("Oct", "Okt"), 2, "is not a time"),
        (good.clone() + &good.replace("10/Oct", "32/Oct"), 2, "is not a time"),
        (good.clone() + &good.replace(" -0700", " é0700"), 2, "is not a time"),
        ("hello\n".into(), 1, "of no known form"),
        (String::new(), 0, "holds no line"),
        (logged(1, "POST / HTTP/1.1"), 0, "holds no request that is replayed: 1 entries skipped"),
    ] {
        let error = parse(&text).expect_err(&text);
        assert_eq!(error.line, line, "{text}: {error}");
        assert!(error.message.contains(message), "{text}: {error}");
    }
}

#[test]
fn a_file_is_named_with_its_line_and_refused_once_it_changed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace");
    std::fs::write(&path, "1\t/\n0\t/\n").unwrap();
    let error = TraceFile::read(&path, None, 1.0, &[]).unwrap_err().to_string();
    assert_eq!(error.split(": ").next(), Some(&*format!("{}:2", path.display())), "{error}");

    std::fs::write(&path, "1\t/\n").unwrap();
    let (file, trace) = TraceFile::read(&path, None, 1.0, &[]).unwrap();
    assert_eq!((file.entries, &file.load(&[]).unwrap()), (1, &trace));
    std::fs::write(&path, "2\t/\n").unwrap();
    assert!(
        file.load(&[]).unwrap_err().to_string().contains("has changed since the plan was made")
    );
    std::fs::remove_file(&path).unwrap();
    assert!(file.load(&[]).unwrap_err().to_string().contains("cannot be read"));
}

proptest::proptest! {
    /// Whatever a file holds, it is a trace in order or one error that names a line of it.
    #[test]
    fn no_bytes_make_the_reader_panic(
        noise in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        at in 0usize..300,
        cut in 0usize..40,
        form in 0usize..3,
    ) {
        let line = logged(7, "GET /a?b HTTP/1.1");
        let mut text = match form {
            0 => format!("1\t/a\n2\t/b\n{line}").into_bytes(),
            1 => (line.clone() + &line).into_bytes(),
            _ => Vec::new(),
        };
        let at = at.min(text.len());
        let end = (at + cut).min(text.len());
        text.splice(at..end, noise);
        let lines = text.split(|byte| *byte == b'\n').count();
        match Trace::parse(&text, None, 1.0, &[]) {
            Ok((trace, _)) => {
                proptest::prop_assert!(trace.offsets_ns.is_sorted());
                proptest::prop_assert_eq!(trace.offsets_ns.len(), trace.picks.len());
                let known = trace.requests.len() as u32;
                proptest::prop_assert!(trace.picks.iter().all(|pick| *pick < known));
            }
            Err(error) => proptest::prop_assert!(error.line <= lines, "{error}"),
        }
    }
}
