//! The published schema is the one that follows from the record's types.

use duel::format::{Channel, Flag, TrialRecord};
use duel::plan::{Codec, Engine};
use serde_json::{Value, json};

/// `DUEL_BLESS=1 cargo test --test records schema::` writes the file anew.
#[test]
fn the_committed_schema_is_that_of_the_types() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/format/trial_record.schema.json");
    let derived = TrialRecord::schema();
    if std::env::var_os("DUEL_BLESS").is_some() {
        std::fs::write(path, &derived).expect("the schema is written");
    }
    let committed = std::fs::read_to_string(path).expect("the committed schema");
    assert!(
        committed == derived,
        "{path} is not what the types say; if that is meant: DUEL_BLESS=1 cargo test --test records schema::"
    );
}

#[test]
fn it_names_every_value_that_a_reader_meets() {
    let schema: Value = serde_json::from_str(&TrialRecord::schema()).expect("JSON");
    let values = |name: &str| -> Vec<Value> {
        let one = |v: &Value| {
            v.get("const")
                .into_iter()
                .chain(v["enum"].as_array().into_iter().flatten())
                .cloned()
                .collect::<Vec<_>>()
        };
        let of = &schema["$defs"][name];
        let several = of["oneOf"].as_array().into_iter().flatten().flat_map(one);
        one(of).into_iter().chain(several).collect()
    };
    assert_eq!(values("Engine"), Engine::ALL.map(|e| json!(e)).to_vec());
    assert_eq!(values("Codec"), Codec::ALL.map(|c| json!(c)).to_vec());
    assert_eq!(values("Status"), ["ok", "invalid", "failed", "interrupted"].map(|s| json!(s)));
    for channel in Channel::ALL {
        let (of, field) = match channel.field().split_once('.') {
            Some((_, step)) => (&schema["$defs"]["Steps"], step),
            None => (&schema, channel.field()),
        };
        assert!(of["properties"][field]["description"].is_string(), "{field}");
    }
}

/// Flags are kept as text in rows: a name that changes, or that nobody explains, is a flag lost.
#[test]
fn every_flag_is_explained_and_unknown_ones_stay() {
    let schema: Value = serde_json::from_str(&TrialRecord::schema()).expect("JSON");
    let known = schema["$defs"]["Flag"]["anyOf"].as_array().expect("names, or any text");
    let names: Vec<&str> = known.iter().filter_map(|flag| flag["const"].as_str()).collect();
    assert!(names.len() >= 14 && names.is_sorted(), "{names:?}");
    let docs = include_str!("../docs/gates.md");
    for name in names {
        assert!(docs.contains(&format!("`{name}`")), "docs/gates.md does not explain {name}");
        let flag: Flag = serde_json::from_value(json!(name)).expect("a name");
        assert!(!matches!(flag, Flag::Other(_)), "{name}");
        assert_eq!(json!(flag), json!(name));
    }
    let other: Flag = serde_json::from_value(json!("of_tomorrow")).expect("any text");
    assert_eq!(json!(other), json!("of_tomorrow"));
}
