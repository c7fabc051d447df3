//! `duel report`: the results of a run directory again, in other forms; runs nothing.

use std::io::{BufRead, BufReader, IsTerminal};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context as _;

use crate::cli::ReportArgs;
use crate::driver::timeline;
use crate::format::TrialRecord;
use crate::plan::Engine;
use crate::report::capacity::Plan;
use crate::report::summary::summarise;
use crate::report::{self, Reported, csv, hdr_files, html, markdown, memory, shards};
use crate::results::store::{self, Run, RunDir};
use crate::stats::MARGIN;
use crate::terminal;

pub fn run(args: &ReportArgs) -> super::Ended {
    if args.schema {
        crate::terminal::print(&TrialRecord::schema());
        return Ok(ExitCode::SUCCESS);
    }
    let Some(dir) = &args.dir else { return Err(super::usage("report: name a run directory")) };
    let (run, damage) = RunDir::salvage(dir).map_err(super::usage)?;
    for warning in run.warnings.iter().filter(|_| !args.quiet) {
        say!("duel: {warning}");
    }
    let mut damage: Vec<String> = damage.iter().map(ToString::to_string).collect();
    let timeline = dir.join(timeline::FILE);
    damage.extend(RunDir::misfit::<timeline::Sample>(&timeline).err().map(|e| e.to_string()));
    let capacity = capacity(args, &run, &mut damage).map_err(super::usage)?;
    let of_shards = shards::read(dir);
    let of_shards = of_shards.unwrap_or_else(|error| {
        damage.push(format!("{error:#}"));
        None
    });
    let mut unwritten = false;
    let sweep = run.plan.sweep();
    let baseline = sweep.as_ref().map_or(Engine::BASELINE, |sweep| sweep.baseline);
    if args.json {
        for record in &run.records {
            let line = serde_json::to_string(record).expect("a record is plain data");
            crate::terminal::print(&(line + "\n"));
        }
    } else {
        // Once for all renderings: what costs time here is decoding every histogram.
        let margin = sweep.as_ref().map_or(MARGIN, |sweep| sweep.equal_within);
        let groups = summarise(&run.records, baseline, margin);
        let reported = Reported {
            capacity: capacity.as_ref(),
            shards: of_shards.as_ref(),
            ..Reported::new(&run.plan, &run.records, &groups)
        };
        if !args.quiet {
            let colour = report::colour_wanted(std::io::stdout().is_terminal());
            crate::terminal::page(&reported.text(terminal::width(), colour));
        }
        let source = Exported { dir, reported };
        if let Err(error) = write_files(&source) {
            say!("duel: {error:#}");
            unwritten = true;
        }
    }
    // Everything readable has been shown; what was not readable is an error all the same.
    for error in &damage {
        say!("duel: {error}");
    }
    Ok(match () {
        () if !damage.is_empty() => ExitCode::from(super::exit::USAGE),
        () if unwritten => ExitCode::from(super::exit::FAILED),
        () => ExitCode::SUCCESS,
    })
}

struct Exported<'a> {
    dir: &'a Path,
    reported: Reported<'a>,
}

/// The plan of capacity that was asked for, or else that of the highest rate that was measured.
fn capacity(
    args: &ReportArgs,
    run: &Run,
    damage: &mut Vec<String>,
) -> anyhow::Result<Option<Plan>> {
    let asked = !args.rate.is_empty() || args.hosts.is_asked();
    let questions = match super::capacity::questions(&args.rate, &args.hosts, run) {
        Err(error) if asked => return Err(error),
        // Without a machine or its limits in the run there is no plan, unless one was asked for.
        Err(_) => return Ok(None),
        Ok(_) if !asked && run.plan.limits.is_null() => return Ok(None),
        Ok(questions) => questions,
    };
    match questions.map(|questions| super::capacity::answer(run, &questions)).transpose() {
        Err(error) if !asked => {
            damage.push(error.to_string());
            Ok(None)
        }
        answer => answer,
    }
}

/// The text of a file; `None` where the run has nothing for it.
type Exporter = fn(&Exported<'_>) -> anyhow::Result<Option<String>>;

/// Every file that is made from the records, in the order in which they are written; the files below
/// `hdr` are as many as there are cells.
const EXPORTERS: [(&str, Exporter); 8] = [
    ("shards.csv", |s| Ok(s.reported.shards.map(shards::csv))),
    ("report.md", |s| Ok(Some(markdown::render(&s.reported)))),
    ("cells.csv", |s| Ok(Some(csv::render(s.reported.groups)))),
    ("trials.csv", |s| Ok(Some(csv::trials(s.reported.records)))),
    ("classes.csv", |s| Ok(s.reported.classes())),
    ("memory.json", |s| Ok(memory::json(s.reported.records))),
    ("search.json", |s| {
        let searched = s.reported.searched();
        Ok(searched.map(|s| serde_json::to_string_pretty(&s.json())).transpose()?.map(|t| t + "\n"))
    }),
    ("report.html", |s| {
        // A run whose driver was killed before its first look has none.
        let mut timeline =
            crate::sys::open_file(&s.dir.join(timeline::FILE)).map(BufReader::new).ok();
        let timeline = timeline.as_mut().map(|t| t as &mut dyn BufRead);
        Ok(Some(html::render(&s.reported, timeline)))
    }),
];

fn write_files(source: &Exported<'_>) -> anyhow::Result<()> {
    for (file, export) in EXPORTERS {
        if let Some(text) = export(source)? {
            store::write_atomic(&source.dir.join(file), text.as_bytes())?;
        }
    }
    super::in_pool(|| hdr_files::write(source.dir, source.reported.records))??;
    Ok(())
}

/// Has a child write the files, so that the driver stays as small as its trials left it.
pub(super) fn write_files_in_child(dir: &Path) -> anyhow::Result<()> {
    let status = Command::new("/proc/self/exe")
        .args(["report", "--quiet", "--"])
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // Ctrl-C is the driver's to handle; the report of what there is gets written.
        .process_group(0)
        .status()
        .context("cannot start the process that writes the report")?;
    anyhow::ensure!(status.success(), "the report could not be written: {status}");
    Ok(())
}
