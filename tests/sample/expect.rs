//! Expectations of all cells of two engines.

use duel::plan::Engine;
use duel::plan::expect::{Expect, Expected, ExpectedSide};

pub(crate) fn expect(winner: Engine, over: Engine, measure: Expected, by: f64) -> Expect {
    let side = |engine| ExpectedSide { engine, offload: None };
    Expect {
        winner: side(winner),
        over: side(over),
        measure,
        by,
        lanes: None,
        processes: None,
        cpus: None,
        codec: None,
        rate: None,
    }
}
