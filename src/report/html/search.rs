//! What a search found, and every probe behind it.

use std::fmt::Write;

use super::escape;
use super::sections::section;
use crate::report::search::Searched;
use crate::report::summary::Group;

/// The summary, and the probes folded away below it.
pub(super) fn search(searched: &Searched, groups: &[Group]) -> String {
    let mut out = section(&searched.summary(groups));
    for probes in searched.probes() {
        let _ = write!(
            out,
            "<details><summary>{}</summary>{}</details>",
            escape(&probes.heading),
            section(&probes)
        );
    }
    out
}
