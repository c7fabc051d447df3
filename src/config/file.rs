//! The mirror of the TOML: what may be written, with the place of each value.
//!
//! Every value is optional here and keeps its span; defaults and what goes with what are
//! `resolve`'s. Numbers may stand bare or as strings with a unit.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::explain::shown;
use crate::plan::cell::RayonThreads;
use crate::plan::expect::Measure;
use crate::plan::steps::{FileOp, Offload};
use crate::plan::sweep as plan;
use crate::plan::trace::TraceFormat;
use crate::plan::{Arrivals, Codec, Engine, Pacer};
use crate::units::{
    UnitError, parse_count, parse_duration_ns, parse_rate, parse_share, parse_size,
};

/// A key that may be left out, and where it stands.
pub(super) type Key<T> = Option<Spanned<T>>;

/// A list, each element with its own place.
pub(super) type List<T> = Key<Vec<Spanned<T>>>;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) name: Key<String>,
    pub(super) target: Target,
    pub(super) plan: Plan,
    pub(super) sweep: Sweep,
    pub(super) machine: Machine,
    pub(super) slo: Slo,
    pub(super) expect: Vec<Spanned<Expect>>,
    pub(super) search: Key<Search>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    pub(super) winner: Spanned<Engine>,
    pub(super) over: Spanned<Engine>,
    pub(super) measure: Spanned<Measure>,
    #[serde(default)]
    pub(super) by: Key<f64>,
    #[serde(default)]
    pub(super) lanes: Key<Count>,
    #[serde(default)]
    pub(super) processes: Key<Count>,
    #[serde(default)]
    pub(super) cpus: Key<Count>,
    #[serde(default)]
    pub(super) codec: Key<Codec>,
    #[serde(default)]
    pub(super) rate: Key<Rate>,
    #[serde(default)]
    pub(super) offload: Key<Offload>,
    #[serde(default)]
    pub(super) winner_offload: Key<Offload>,
    #[serde(default)]
    pub(super) over_offload: Key<Offload>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Search {
    pub(super) tolerance: Key<f64>,
    pub(super) probes: Key<Count>,
    pub(super) trials: Key<Count>,
    pub(super) max_trials: Key<Count>,
    pub(super) min_rate: Key<Rate>,
    pub(super) max_rate: Key<Rate>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Target {
    pub(super) url: Key<String>,
    pub(super) allow: List<String>,
    pub(super) unix_socket: Key<String>,
    pub(super) ca_file: Key<String>,
    pub(super) insecure: Key<bool>,
    pub(super) service_time: Key<ServiceTime>,
    pub(super) servers: Key<Count>,
    pub(super) processes: Key<Count>,
    pub(super) body: Key<Size>,
    pub(super) faults: Key<Faults>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Faults {
    pub(super) error_rate: Key<f64>,
    pub(super) reset_rate: Key<f64>,
    pub(super) stall: Key<Stall>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stall {
    pub(super) every: Spanned<Duration>,
    pub(super) r#for: Spanned<Duration>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Plan {
    pub(super) arrivals: Key<Arrivals>,
    pub(super) duration: Key<Duration>,
    pub(super) requests: Key<Count>,
    pub(super) warmup: Key<Duration>,
    pub(super) timeout: Key<Duration>,
    pub(super) seed: Key<Count>,
    pub(super) pacer: Key<Pacer>,
    pub(super) keep_alive: Key<bool>,
    pub(super) expect_status: List<Count>,
    pub(super) stages: List<Stage>,
    pub(super) trace: Key<String>,
    pub(super) trace_speed: Key<f64>,
    pub(super) trace_format: Key<TraceFormat>,
    pub(super) values: BTreeMap<Spanned<String>, Spanned<ValueKeys>>,
    pub(super) renderings: Key<Count>,
    pub(super) heartbeat: bool,
    pub(super) request: List<Request>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stage {
    pub(super) duration: Spanned<Duration>,
    #[serde(default)]
    pub(super) rate: Key<Level>,
    #[serde(default)]
    pub(super) from: Key<Level>,
    #[serde(default)]
    pub(super) to: Key<Level>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ValueKeys {
    pub(super) counter: Key<Counter>,
    pub(super) random: List<Count>,
    pub(super) choice: Key<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Counter {
    pub(super) start: Key<Count>,
    pub(super) step: Key<Count>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Request {
    pub(super) method: Key<String>,
    pub(super) path: Key<String>,
    pub(super) weight: Key<Count>,
    pub(super) headers: BTreeMap<Spanned<String>, Spanned<String>>,
    pub(super) body: Key<String>,
    pub(super) body_file: Key<String>,
    pub(super) step: List<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    pub(super) kind: Spanned<StepKind>,
    #[serde(default)]
    pub(super) bytes: Key<Size>,
    #[serde(default)]
    pub(super) op: Key<FileOp>,
    #[serde(default)]
    pub(super) files: Key<Count>,
    #[serde(default)]
    pub(super) direct: Key<bool>,
    #[serde(default)]
    pub(super) sync: Key<bool>,
    #[serde(default)]
    pub(super) dir: Key<String>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum StepKind {
    Http,
    File,
    Compute,
}

impl StepKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            StepKind::Http => "http",
            StepKind::File => "file",
            StepKind::Compute => "compute",
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Sweep {
    pub(super) engines: List<Engine>,
    pub(super) codecs: List<Codec>,
    pub(super) lanes: List<Count>,
    pub(super) processes: List<Count>,
    pub(super) cpus: List<Count>,
    pub(super) rates: List<Rate>,
    pub(super) bodies: List<Size>,
    pub(super) stack_sizes: List<Size>,
    pub(super) rayon_threads: List<RayonThreads>,
    pub(super) allocators: List<String>,
    pub(super) offload: List<Offload>,
    pub(super) trials: Key<Count>,
    pub(super) baseline: Key<Engine>,
    pub(super) equal_within: Key<Share>,
    pub(super) aa: bool,
    pub(super) idle: bool,
    pub(super) syscalls: bool,
    pub(super) memory: Key<MemoryTrials>,
    pub(super) noise_repeats: Key<Count>,
    pub(super) expect_failed: Vec<ExpectFailed>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectFailed {
    pub(super) engine: Engine,
    pub(super) lanes: Key<Count>,
    pub(super) limit: Key<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Machine {
    pub(super) worker_cpus: List<Count>,
    pub(super) target_cpus: List<Count>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Slo {
    pub(super) p50: Key<Duration>,
    pub(super) p90: Key<Duration>,
    pub(super) p99: Key<Duration>,
    pub(super) p99_9: Key<Duration>,
    pub(super) error_rate: Key<f64>,
}

/// `true`, `false` or `"only"`.
#[derive(Clone, Copy)]
pub(super) struct MemoryTrials(pub(super) plan::MemoryTrials);

impl<'de> Deserialize<'de> for MemoryTrials {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = MemoryTrials;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or \"only\"")
            }

            fn visit_bool<E: Error>(self, wanted: bool) -> Result<MemoryTrials, E> {
                let kind = if wanted { plan::MemoryTrials::Also } else { plan::MemoryTrials::None };
                Ok(MemoryTrials(kind))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<MemoryTrials, E> {
                match text {
                    // `--set sweep.memory=true` may come as text.
                    "true" => self.visit_bool(true),
                    "false" => self.visit_bool(false),
                    "only" => Ok(MemoryTrials(plan::MemoryTrials::Only)),
                    other => {
                        let shown = shown(other);
                        Err(E::custom(format!("`{shown}`: allowed are true, false and \"only\"")))
                    }
                }
            }
        }

        d.deserialize_any(Either)
    }
}

/// A law of times: a duration alone is the fixed law.
pub(super) enum ServiceTime {
    Fixed(Duration),
    Law(LawTable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LawTable {
    pub(super) law: Spanned<LawName>,
    #[serde(default)]
    pub(super) mean: Key<Duration>,
    #[serde(default)]
    pub(super) min: Key<Duration>,
    #[serde(default)]
    pub(super) max: Key<Duration>,
    #[serde(default)]
    pub(super) sigma: Key<f64>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum LawName {
    Fixed,
    Uniform,
    Exponential,
    Lognormal,
}

/// Nanoseconds.
#[derive(Clone, Copy)]
pub(super) struct Duration(pub(super) u64);

/// A whole number.
#[derive(Clone, Copy)]
pub(super) struct Count(pub(super) u64);

/// Requests per second.
#[derive(Clone, Copy)]
pub(super) struct Rate(pub(super) f64);

/// Part of a whole.
#[derive(Clone, Copy)]
pub(super) struct Share(pub(super) f64);

/// Requests per second at an end of a stage, where none at all is a pause.
#[derive(Clone, Copy)]
pub(super) struct Level(pub(super) f64);

/// Bytes.
#[derive(Clone, Copy)]
pub(super) struct Size(pub(super) u64);

/// Reads a quantity from a string or a bare number, so that both get the same message.
struct Quantity<T> {
    parse: fn(&str) -> Result<T, UnitError>,
    expecting: &'static str,
}

impl<T> Visitor<'_> for Quantity<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        // The second attempt only puts a short, one-line form of the text into the message.
        (self.parse)(text).or_else(|_| (self.parse)(&shown(text))).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

const DURATION: Quantity<u64> =
    Quantity { parse: parse_duration_ns, expecting: "a duration such as \"20ms\"" };

macro_rules! quantity {
    ($name:ident, $quantity:expr) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                d.deserialize_any($quantity).map($name)
            }
        }
    };
}

quantity!(Duration, DURATION);
quantity!(
    Count,
    Quantity { parse: parse_count, expecting: "a whole number such as 2000 or \"10k\"" }
);
quantity!(
    Rate,
    Quantity { parse: parse_rate, expecting: "requests per second such as 500 or \"2.5k\"" }
);
quantity!(Share, Quantity { parse: parse_share, expecting: "a share such as \"5%\" or 0.05" });
quantity!(
    Level,
    Quantity {
        parse: |text| if text.trim() == "0" { Ok(0.0) } else { parse_rate(text) },
        expecting: "requests per second such as 500 or \"2.5k\", or 0",
    }
);
quantity!(Size, Quantity { parse: parse_size, expecting: "a size such as 4096 or \"64KiB\"" });

impl<'de> Deserialize<'de> for ServiceTime {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = ServiceTime;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"5ms\" or a table { law = \"exponential\", … }")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ServiceTime, E> {
                DURATION.visit_str(text).map(|ns| ServiceTime::Fixed(Duration(ns)))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<ServiceTime, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<ServiceTime, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ServiceTime, A::Error> {
                LawTable::deserialize(MapAccessDeserializer::new(map)).map(ServiceTime::Law)
            }
        }

        d.deserialize_any(Either)
    }
}
