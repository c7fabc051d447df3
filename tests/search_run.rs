//! A search by the binary: rows that are marked, a result that the rows alone give again, and one
//! that goes on where it was cut.

use crate::common;

use common::{Sweep, duel, output, records, text};
use duel::format::{Flag, Status, TrialRecord};
use serde_json::Value;

/// Two servers of 5 ms: 400 requests a second at most. Coarse, since a busy machine runs it.
const CONFIG: &str = "name = 'knee'\n[target]\nservice_time = '5ms'\nservers = 2\n[plan]\n\
    arrivals = 'constant'\nduration = '300ms'\nwarmup = '100ms'\n[sweep]\nengines = ['tokio']\n\
    codecs = ['lean']\nlanes = [64]\n\
    rates = ['50%', '80%']\ntrials = 2\n[slo]\np90 = '60ms'\n[search]\ntolerance = 1.0\n";

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
    let (probes, at_knee): (Vec<_>, Vec<_>) =
        rows.iter().partition(|r| r.flags.contains(&Flag::Search));
    assert!(rows[0].cell.id.ends_with("-closed"), "{}", rows[0].cell.id);
    assert!(probes.iter().all(|r| r.status != Status::Failed), "{stderr}");
    assert!(probes.iter().all(|r| r.cell.knee_share.is_none()));
    let first = found(&sweep);
    let result = &first["engines"][0]["result"];
    if result["conclusion"] == "found" {
        // A busy machine may leave trials of the sweep behind it invalid.
        assert!(matches!(code, Some(0 | 4)), "{code:?} {result}");
        let rate = |key: &str| result[key].as_f64().expect("a rate");
        let (met, missed) = (rate("met_per_s"), rate("missed_per_s"));
        assert!(met < missed && missed < 1.6 * met, "{met} to {missed}");
        assert!(met < 450.0, "two servers of 5 ms do not serve {met} req/s");
        // The sweep that follows, at shares of the highest rate that met the SLO.
        assert_eq!(at_knee.len(), 4, "two shares in two blocks");
        for row in &at_knee {
            let (share, offered) = (row.cell.knee_share, row.cell.offered_per_s);
            let (share, offered) = (share.expect("a share"), offered.expect("a rate"));
            assert!((offered / (share * met) - 1.0).abs() < 1e-3, "{share} of {met}: {offered}");
            assert!(row.cell.id.ends_with(&format!("-k{:.0}", share * 100.0)), "{}", row.cell.id);
            assert!(row.trial as usize >= probes.len(), "it runs after the search");
        }
        assert!(stdout.contains("at 80 % of each one's knee"), "{stdout}");
    } else {
        let expected = if code == Some(3) { "never_met" } else { "nothing" };
        assert_eq!(result["conclusion"], expected, "{result}");
        // A share of what was not found is a row that says so.
        assert_eq!(at_knee.len(), 2, "{stderr}");
        for row in at_knee {
            assert_eq!(row.status, Status::Failed);
            assert!(row.error.as_ref().is_some_and(|e| e.contains("no knee was found")), "{row:?}");
        }
    }

    let out = output(duel(&["report"]).arg(sweep.dir()));
    assert!(text(&out).0.contains("Highest rate that meets p90 ≤ 60 ms"), "{:?}", text(&out));
    assert_eq!(found(&sweep), first, "reported from the rows alone");
    for file in ["report.md", "report.html"] {
        let text = std::fs::read_to_string(sweep.dir().join(file)).unwrap();
        assert!(text.contains("Probes of tokio"), "{file}");
    }

    // Cut in the sweep that follows the search: it goes on there, and the search is not made again.
    let file = sweep.dir().join("trials.jsonl");
    let whole = std::fs::read_to_string(&file).unwrap();
    let kept: usize = whole.split_inclusive('\n').take(probes.len() + 1).map(str::len).sum();
    std::fs::write(&file, &whole[..kept]).unwrap();
    let (_, (_, stderr)) = run(&["--resume"]);
    let again = records(&sweep.dir());
    assert_eq!(again.len(), rows.len(), "{stderr}");
    assert_eq!(again[..=probes.len()], rows[..=probes.len()], "what was there stays");
    let ids = |rows: &[TrialRecord]| {
        let mut ids: Vec<_> = rows.iter().map(|r| (r.trial, r.cell.id.clone(), r.block)).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&again), ids(&rows), "the same trials in the same order");

    // Cut after a closed loop and two trials, and amid the next line.
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
    for part in [
        "a search of 1 cell, at most 285 trials",
        "at most 15 probes of 5 to 20 trials",
        "then a sweep at 50 %, 80 % of each cell's knee, at most 4 trials of each cell",
    ] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    assert!(shown.contains("at most 2 min of load"), "{shown}");
    refused(&["plan", "--set", "sweep.rates=[500]"], "a search chooses its rates itself");
    refused(&["plan", "--set", "sweep.rates=['0%']"], "above 0 and at most 1000 %");
    refused(&["plan", "--set", "sweep.rates=['5 000 %']"], "a share such as 5% or 0.05");
    refused(&["plan", "--set", "sweep.memory=true"], "not beside [search]");
    let bare = Sweep::new("[plan]\narrivals = 'constant'\n[sweep]\nrates = ['50%']\n");
    let (_, stderr) = text(&output(duel(&["plan"]).arg(bare.config())));
    assert!(stderr.contains("sweep.rates") && stderr.contains("[slo] and [search]"), "{stderr}");
}
