//! A search by the binary: rows that are marked, a result that the rows alone give again, and one
//! that goes on where it was cut.

mod common;

use common::{Sweep, duel, output, records, text};
use duel::format::Status;
use serde_json::Value;

/// Two servers of 5 ms: 400 requests a second at most. Coarse, since a busy machine runs it.
const CONFIG: &str = "name = 'knee'\n[target]\nservice_time = '5ms'\nservers = 2\n[plan]\n\
    arrivals = 'constant'\nduration = '300ms'\nwarmup = '100ms'\n[sweep]\nengines = ['tokio']\n\
    codecs = ['lean']\nlanes = [64]\n[slo]\np90 = '60ms'\n[search]\ntolerance = 1.0\n";

fn found(sweep: &Sweep) -> Value {
    let text = std::fs::read_to_string(sweep.dir().join("search.json")).expect("search.json");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn rows_alone_give_the_knee_again_and_a_cut_search_goes_on() {
    let sweep = Sweep::new(CONFIG);
    let run = |more: &[&str]| {
        let mut command = duel(&["run"]);
        let out = output(command.arg(sweep.config()).arg("--out").arg(sweep.dir()).args(more));
        (out.status.code(), text(&out))
    };
    let (code, (stdout, stderr)) = run(&[]);
    // A machine that is never quiet gives too few trials to believe, or none in time, and says so.
    assert!(matches!(code, Some(0 | 3 | 4)), "{code:?} {stderr}");
    assert!(stdout.contains("Highest rate that meets p90 ≤ 60 ms"), "{stdout}");
    let rows = records(&sweep.dir());
    assert!(rows.iter().all(|r| r.flags.iter().any(|f| f == "search")), "every row is marked");
    assert!(rows[0].cell.id.ends_with("-closed"), "{}", rows[0].cell.id);
    assert!(rows.iter().all(|r| r.status != Status::Failed), "{stderr}");
    let first = found(&sweep);
    let result = &first["engines"][0]["result"];
    if code == Some(0) {
        assert_eq!(result["conclusion"], "found", "{result}");
        let rate = |key: &str| result[key].as_f64().expect("a rate");
        let (met, missed) = (rate("met_per_s"), rate("missed_per_s"));
        assert!(met < missed && missed < 1.6 * met, "{met} to {missed}");
        assert!(met < 450.0, "two servers of 5 ms do not serve {met} req/s");
    } else {
        let expected = if code == Some(3) { "never_met" } else { "nothing" };
        assert_eq!(result["conclusion"], expected, "{result}");
    }

    let out = output(duel(&["report"]).arg(sweep.dir()));
    assert!(text(&out).0.contains("Highest rate that meets p90 ≤ 60 ms"), "{:?}", text(&out));
    assert_eq!(found(&sweep), first, "reported from the rows alone");
    for file in ["report.md", "report.html"] {
        let text = std::fs::read_to_string(sweep.dir().join(file)).unwrap();
        assert!(text.contains("Probes of tokio"), "{file}");
    }

    // Cut after a closed loop and two trials, and amid the next line.
    let file = sweep.dir().join("trials.jsonl");
    let whole = std::fs::read_to_string(&file).unwrap();
    let kept: usize = whole.split_inclusive('\n').take(3).map(str::len).sum();
    std::fs::write(&file, &whole[..kept + 100]).unwrap();
    let (code, (_, stderr)) = run(&["--resume"]);
    assert!(matches!(code, Some(0 | 3 | 4)), "{code:?} {stderr}");
    let again = records(&sweep.dir());
    assert_eq!(again[..3], rows[..3], "what was there stays");
    let mut keys: Vec<_> = again.iter().map(|r| (r.cell.id.clone(), r.block)).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), again.len(), "no trial twice");
    assert_ne!(found(&sweep)["engines"][0]["probes"].as_array().map_or(0, Vec::len), 0);
}

#[test]
fn what_a_search_cannot_do_is_one_error() {
    let sweep = Sweep::new(CONFIG);
    let refused = |arguments: &[&str], why: &str| {
        let mut command = duel(arguments);
        let out = output(command.arg(sweep.config()));
        let (_, stderr) = text(&out);
        assert_eq!(out.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(why) && stderr.lines().count() == 1, "{stderr}");
    };
    refused(&["run", "--shard", "0/2"], "a [search] decides each trial by the ones before");
    refused(&["run", "--start-at", "2030-01-01T00:00:00Z"], "a [search] decides each trial");
    refused(&["plan", "--job", "0"], "a search decides its trials as it goes");
    let out = output(duel(&["plan"]).arg(sweep.config()));
    let (shown, _) = text(&out);
    for part in ["a search of 1 cell, at most 281 trials", "at most 15 probes of 5 to 20 trials"] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    assert!(shown.contains("at most 129 s of load"), "{shown}");
}
