//! The JSON Schema of a TrialRecord, for `duel report --schema`.

/// JSON Schema, draft 2020-12, of one line of `trials.jsonl`.
pub const TRIAL_RECORD: &str = include_str!("trial_record.schema.json");
