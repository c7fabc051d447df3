//! What a rate needs: each figure once, with how it is printed and what it comes from.

use serde::Serialize;

use super::{Budget, Cost, CurvePoint, Figure, Resource, count, req_s};
use crate::units::{format_bytes, format_ns, format_rate};

/// What a figure comes from; [`super::host`] knows which cells and switches those are.
#[derive(Clone, Copy)]
pub(super) enum Source {
    /// All cells of the series.
    Cells,
    /// The cells on either side of the planned rate.
    Beside,
    /// The cell up to whose rate the data reach.
    End,
    /// Whatever says how long a request takes.
    Latency,
    /// Whatever decides how many hosts there are.
    Hosts,
    Types,
    Sizes,
    Rate,
    Growth,
    Spare,
}

/// A name, a value, how it is printed, and what it comes from.
pub(super) type Shown = (&'static str, f64, fn(f64) -> String, &'static [Source]);

/// A field with a way to print it is a figure of that name.
macro_rules! need {
    ($($(#[$about:meta])* $field:ident: $type:ty $(= $print:expr, [$($source:ident)*])?,)*) => {
        #[derive(Debug, Clone, PartialEq, Serialize)]
        pub struct Need {
            $($(#[$about])* pub $field: $type,)*
        }

        impl Need {
            pub(super) fn shown(&self) -> Vec<Shown> {
                vec![$($((
                    stringify!($field),
                    self.$field as f64,
                    $print,
                    &[$(Source::$source),*],
                ),)?)*]
            }
        }
    };
}

need! {
    /// Mean time of a request in the system, in nanoseconds.
    latency_ns: f64 = format_ns, [Latency],
    in_flight: f64 = format_rate, [Latency Rate],
    lanes: u32 = count, [Latency Rate],
    user_bytes: f64 = format_bytes, [Cells],
    /// Kernel memory over all hosts, in bytes; `None` where not measured.
    kernel_bytes: Option<f64>,
    kernel_counts: &'static str,
    /// Memory that a lane adds, user and kernel, in bytes; 0 where one lane count was measured, whose
    /// memory is planned whole.
    bytes_per_lane: f64 = format_bytes, [Cells],
    cpus_busy: f64 = |n| format!("{n:.2}"), [Beside Rate],
    cpu_per_request_ns: f64 = format_ns, [Beside],
    descriptors: u64 = count, [Cells Latency],
    /// Local ports over all hosts, one per connection; none for a service, which has one port.
    ports: u64 = count, [Latency Rate],
    threads: u64 = count, [Cells Latency],
    processes: u64 = count, [Cells Sizes],
    /// Rate of each worker group, in requests per second: the point at which CPU and latency are read.
    group_rate_per_s: f64 = req_s, [Rate Types],
    /// Highest rate of one host up to which the data reach, in requests per second.
    tested_to_per_s: f64 = req_s, [End],
    /// What limits one host, the first limit first; last those that lie beyond the data.
    resources: Vec<Resource>,
    /// Requests per second of one host by the first limit, or by the end of the data.
    host_rate_per_s: f64 = req_s, [Cells End],
    hosts_today: u64 = count, [Hosts],
    grown_rate_per_s: f64 = req_s, [Growth],
    /// Hosts for the grown rate, never fewer than today's.
    hosts_grown: u64 = count, [Hosts Growth],
    hosts_with_spare: u64,
    /// What all hosts cost; `None` without a price.
    cost: Option<Cost>,
    /// What is left of each error budget; empty where no objective was named.
    budgets: Vec<Budget>,
    /// The measured cells by rate, and the planned point among them.
    curve: Vec<CurvePoint>,
    /// Every number that is shown, with the cells or switches behind it.
    figures: Vec<Figure>,
}
