//! What readers take from the parts of a plan that are kept as they were written: its config, the
//! machine and its limits. Each is read as what it must be when the plan is, so that no reader leaves
//! out in silence what it cannot read.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::PlanJson;
use crate::limits::Limits;
use crate::plan::search::Search;
use crate::plan::sweep::Sweep;

/// What readers take from `machine`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct MachineTold {
    pub(crate) cpu_model: Option<String>,
    pub(crate) kernel_release: Option<String>,
    pub(crate) cpus_online: Vec<u32>,
    pub(crate) memory_bytes: Option<u64>,
}

impl PlanJson {
    /// The resolved sweep; `None` only of a plan that comes from no run directory.
    pub(crate) fn sweep(&self) -> Option<Sweep> {
        serde_json::from_value(self.config.clone()).ok()
    }

    /// The machine; nothing is known of it in a plan that comes from no run directory.
    pub(crate) fn machine(&self) -> MachineTold {
        serde_json::from_value(self.machine.clone()).unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct ConfigPart {
    config: Sweep,
}

#[derive(Deserialize)]
struct MachinePart {
    #[serde(rename = "machine")]
    _machine: Option<MachineTold>,
}

#[derive(Deserialize)]
struct LimitsPart {
    #[serde(rename = "limits")]
    _limits: Option<Limits>,
}

/// What must hold of a plan beyond its shape. Its text is read again part by part, since what is kept
/// as it was written knows no lines; the line is that of the misfit.
pub(super) fn check(plan: &PlanJson, text: &[u8]) -> Result<(), (usize, String)> {
    let config = part::<ConfigPart>("config", text)?.config;
    part::<MachinePart>("machine", text)?;
    part::<LimitsPart>("limits", text)?;
    let (at, what) = match cells(plan).and_then(|()| numbers(&config)) {
        Ok(()) => return Ok(()),
        Err(found) => found,
    };
    Err((line_of(at, text), what))
}

fn part<T: DeserializeOwned>(name: &str, text: &[u8]) -> Result<T, (usize, String)> {
    serde_json::from_slice(text)
        .map_err(|e| (e.line(), format!("`{name}` cannot be read: {}", reason(&e))))
}

/// What the parser found, with the column alone: the line is that of the file, not of the text.
pub(super) fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    format!("{what} (column {})", error.column())
}

fn line_of(key: &str, text: &[u8]) -> usize {
    let quoted = format!("\"{key}\"");
    let found = text.windows(quoted.len()).position(|part| part == quoted.as_bytes());
    1 + text[..found.unwrap_or(0)].iter().filter(|byte| **byte == b'\n').count()
}

type Found = Result<(), (&'static str, String)>;

fn cells(plan: &PlanJson) -> Found {
    for cell in &plan.cells {
        super::check::counts(cell).map_err(|what| ("cells", format!("{}: {what}", cell.id)))?;
    }
    Ok(())
}

/// What a config never holds, and what reads it would compute with.
fn numbers(config: &Sweep) -> Found {
    let share = |name, share: f64| match (0.0..=1.0).contains(&share) {
        true => Ok(()),
        false => Err((name, format!("{name} is {share}, which is not a share between 0 and 1"))),
    };
    share("equal_within", config.equal_within)?;
    share("error_rate", config.slo.as_ref().and_then(|slo| slo.error_rate).unwrap_or(0.0))?;
    for expect in &config.expect {
        if expect.by <= 0.0 {
            return Err(("by", format!("by is {}, which is not a factor above 0", expect.by)));
        }
    }
    if let Some(search) = &config.search {
        let Search { tolerance, probes, trials, max_trials, min_per_s, max_per_s } = search;
        let is_sound = *tolerance > 1e-6
            && *tolerance <= 1.0
            && (1..=*max_trials).contains(trials)
            && *probes > 0
            && *min_per_s > 0.0
            && min_per_s <= max_per_s;
        if !is_sound {
            return Err(("search", format!("the search is out of range: {search:?}")));
        }
    }
    Ok(())
}
