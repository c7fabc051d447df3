//! Axes that do not go with everything: rings, allocators, stacks.

use super::{Fault, axis, axis_or, fault, number};
use crate::config::keys::Sweep;
use crate::config::read::{At, Key, Several, Size};
use crate::plan::allocator::Allocator;
use crate::plan::{Arrivals, Engine};
use crate::units::size_literal;

/// Smallest stack on which a TLS handshake fits, certificates of a few links included: 75 KiB were
/// seen in a task engine's thread of a debug build.
const MIN_TLS_STACK_BYTES: u64 = 96 << 10;

/// Stack of threads where none is named and they speak TLS.
const TLS_STACK_BYTES: u64 = 128 << 10;

/// Batches of completions, which a closed loop alone can wait for: in an open one the wait would make
/// requests late.
pub(super) fn uring_batch(
    sweep: &Sweep,
    engines: &[Engine],
    arrivals: Arrivals,
) -> Result<Vec<u32>, Vec<Fault>> {
    if let Some(at) = sweep.uring_linger.given()
        && sweep.uring_batch.is_none()
    {
        return Err(
            fault(at, "nothing lingers without a batch: give `sweep.uring_batch` too").into()
        );
    }
    let Some(at) = &sweep.uring_batch else { return Ok(Vec::new()) };
    if arrivals.is_open() {
        let why =
            "an open loop does not wait for a batch, which would make requests late: remove it";
        return Err(fault(at, why).into());
    }
    if !engines.iter().any(|engine| engine.has_ring()) {
        return Err(fault(at, "only `uring` has rings: name it in `sweep.engines`").into());
    }
    axis_or(&sweep.uring_batch, Vec::new(), |at| Ok(number(at)))
}

/// Allocators; two libraries of one name would make two cells of one id.
pub(super) fn allocators(list: &Key<Several<String>>) -> Result<Vec<Allocator>, Vec<Fault>> {
    let names = std::cell::RefCell::new(Vec::new());
    axis_or(list, Vec::new(), |at| {
        let allocator: Allocator = at.value.parse().map_err(|why: anyhow::Error| fault(at, why))?;
        if names.borrow().contains(&allocator.name()) {
            let name = allocator.name();
            return Err(fault(at, format!("another allocator is called `{name}` too: rename one")));
        }
        names.borrow_mut().push(allocator.name());
        Ok(allocator)
    })
}

pub(super) fn stack_sizes(list: &At<Several<Size>>, tls: bool) -> Result<Vec<u64>, Vec<Fault>> {
    axis(list, |at| stack_size(at, tls))
}

pub(super) fn stack_size(at: &At<Size>, tls: bool) -> Result<u64, Fault> {
    let size = at.0;
    if tls && at.given().is_none() {
        return Ok(TLS_STACK_BYTES);
    }
    if tls && size < MIN_TLS_STACK_BYTES {
        let (found, least) = (size_literal(size), size_literal(MIN_TLS_STACK_BYTES));
        let why = format!("`{found}` is too small for a TLS handshake: at least {least}");
        return Err(fault(at, why));
    }
    Ok(size)
}
