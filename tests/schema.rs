//! The published schema against records as they are written.

mod sample;

use std::collections::BTreeSet;

use duel::format::{MemorySplit, RuntimeUse, ShardSpread, ShardStart, Status};
use duel::plan::shard::Shard;
use duel::plan::steps::Offload;
use duel::plan::{Arrivals, Cell, CellKind, Engine};
use duel::report::schema::TRIAL_RECORD;
use serde_json::{Value, json};

fn schema() -> Value {
    serde_json::from_str(TRIAL_RECORD).expect("the schema is JSON")
}

/// A record in which every field that may be null is set, as far as one trial can have them all.
fn full() -> Value {
    let open = Cell {
        arrivals: Arrivals::Poisson,
        offered_per_s: Some(1_000.0),
        kind: CellKind::Copy,
        ..sample::cell(Engine::Rayon)
    };
    let mut record = sample::record(open, 1, 1.0);
    record.error = Some("text".into());
    record.flags.push("noisy".into());
    record.failed_ns = record.service_ns.clone();
    record.first_byte_ns = record.service_ns.clone();
    record.shard = Some(Shard { index: 1, count: 2 });
    record.shard_start = Some(ShardStart::default());
    record.shard_spread = Some(ShardSpread::default());
    record.handshake_ns = record.service_ns.clone();
    record.errors.file = 1;
    record.cell.offload = Some(Offload::Rayon);
    record.heartbeat_ns = record.service_ns.clone();
    record.steps.http_ns = record.service_ns.clone();
    record.steps.file_ns = record.service_ns.clone();
    record.steps.compute_ns = record.service_ns.clone();
    record.tls = Some("TLSv1_3 TLS13_AES_256_GCM_SHA384".into());
    let hidden = RuntimeUse { blocking_threads: 1, pool_threads: 1, ..RuntimeUse::default() };
    record.runtime = Some(hidden);
    record.memory.split = Some(MemorySplit::default());
    serde_json::to_value(&record).unwrap()
}

/// The part of JSON Schema that the schema uses; answers with the path of the first misfit.
fn check(root: &Value, schema: &Value, value: &Value, path: &str) -> Result<(), String> {
    let misfit = |why: &str| Err(format!("{path}: {why}: {value}"));
    if let Some(reference) = schema["$ref"].as_str() {
        let target = root.pointer(reference.trim_start_matches('#')).expect("a $ref that exists");
        check(root, target, value, path)?;
    }
    if let Some(any) = schema["anyOf"].as_array()
        && any.iter().all(|s| check(root, s, value, path).is_err())
    {
        return misfit("none of anyOf");
    }
    if schema["enum"].as_array().is_some_and(|e| !e.contains(value)) {
        return misfit("not in enum");
    }
    if schema.get("const").is_some_and(|c| c != value) {
        return misfit("not the constant");
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let is = |kind: &str| match kind {
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("a type that this test does not know: {other}"),
    };
    if !types.is_empty() && !types.into_iter().any(is) {
        return misfit("wrong type");
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(name).is_none() {
            return misfit(&format!("no {name}"));
        }
    }
    for (name, inner) in value.as_object().into_iter().flatten() {
        let known = schema["properties"].get(name).or(schema.get("additionalProperties"));
        match known {
            Some(s) => check(root, s, inner, &format!("{path}.{name}"))?,
            None if schema.get("properties").is_some() => {
                return misfit(&format!("unknown {name}"));
            }
            None => {}
        }
    }
    for (i, inner) in value.as_array().into_iter().flatten().enumerate() {
        check(root, &schema["items"], inner, &format!("{path}[{i}]"))?;
    }
    Ok(())
}

#[test]
fn records_fit_the_schema() {
    let schema = schema();
    let closed = sample::record(sample::cell(Engine::Tokio), 0, 1.0);
    let mut failed = closed.clone();
    failed.status = Status::Failed;
    failed.service_ns = None;
    failed.largest_worker = None;
    for (name, value) in [
        ("closed", serde_json::to_value(&closed).unwrap()),
        ("failed", serde_json::to_value(&failed).unwrap()),
        ("full", full()),
    ] {
        assert_eq!(check(&schema, &schema, &value, name), Ok(()));
    }
}

#[test]
fn every_engine_codec_and_status_is_in_the_schema() {
    let schema = schema();
    let engines = Engine::ALL.map(|e| serde_json::to_value(e).unwrap()).to_vec();
    assert_eq!(schema["properties"]["cell"]["properties"]["engine"]["enum"], json!(engines));
    let codecs = duel::plan::Codec::ALL.map(|c| serde_json::to_value(c).unwrap()).to_vec();
    assert_eq!(schema["properties"]["cell"]["properties"]["codec"]["enum"], json!(codecs));
    let statuses = [Status::Ok, Status::Invalid, Status::Failed, Status::Interrupted];
    assert_eq!(schema["properties"]["status"]["enum"], json!(statuses));
}

/// Names at every depth, so that a field that is dropped from either side is missed on the other.
fn names(value: &Value, path: &str, schema: Option<&Value>, out: &mut BTreeSet<String>) {
    let step = |name: &String| format!("{path}.{name}");
    match schema {
        Some(root) => {
            let mut value = value;
            if let Some(any) = value["anyOf"].as_array() {
                value = &any[0];
            }
            if let Some(reference) = value["$ref"].as_str() {
                value = root.pointer(reference.trim_start_matches('#')).unwrap();
            }
            for (name, inner) in value["properties"].as_object().into_iter().flatten() {
                out.insert(step(name));
                names(inner, &step(name), schema, out);
            }
            if value["items"].is_object() {
                names(&value["items"], path, schema, out);
            }
        }
        None => {
            for (name, inner) in value.as_object().into_iter().flatten() {
                out.insert(step(name));
                if !path.ends_with(".unavailable") {
                    names(inner, &step(name), None, out);
                }
            }
            value.as_array().into_iter().flatten().for_each(|v| names(v, path, None, out));
        }
    }
}

#[test]
fn schema_and_record_have_the_same_fields() {
    let (mut told, mut written) = (BTreeSet::new(), BTreeSet::new());
    let root = schema();
    names(&root, "", Some(&root), &mut told);
    names(&full(), "", None, &mut written);
    written.retain(|n| !n.starts_with(".unavailable."));
    assert_eq!(told, written);
}

#[test]
fn misfits_are_found() {
    let schema = schema();
    for (pointer, wrong) in [
        ("/block", json!("0")),
        ("/status", json!("great")),
        ("/cell/lanes", json!(null)),
        ("/service_ns/p50", json!(1.5)),
        ("/gates/0/ok", json!("yes")),
        ("/format_version", json!(2)),
        ("/largest_worker", json!(3)),
        ("/unavailable", json!({"x": 1})),
    ] {
        let mut value = full();
        *value.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = wrong;
        assert!(check(&schema, &schema, &value, "").is_err(), "{pointer} passes with a misfit");
    }
}
