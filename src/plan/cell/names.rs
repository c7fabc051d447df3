//! What cells are called among others, and which of them belong together.

use std::collections::BTreeMap;

use super::axes::Value;
use super::{Axis, Cell, CellKind};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub(super) Vec<Value>);

/// What each cell is called among the others: the engine of the side under test, the kind where they
/// differ in it, and the axes on which they differ but for those in `without`. Targets under one engine
/// are called by their own names.
pub fn names(cells: &[&Cell], without: &[Axis]) -> Vec<String> {
    let mut axes = Axis::differing(cells);
    let by_target = cells.len() > 1
        && cells.iter().all(|c| c.target.is_some())
        && !axes.contains(&Axis::Engine)
        && !without.contains(&Axis::Target);
    let first = match () {
        () if by_target => Axis::Target,
        () if cells.iter().all(|c| c.tests_server()) => Axis::Server,
        () => Axis::Engine,
    };
    axes.retain(|axis| *axis != first && *axis != Axis::Engine && !without.contains(axis));
    let kinds = cells.iter().any(|c| c.kind != cells[0].kind);
    let name = |cell: &&Cell| {
        let mut name = first.words(cell);
        if let Some(label) = cell.kind.label().filter(|_| kinds) {
            name += &format!(" ({label})");
        }
        for axis in axes.iter().filter(|axis| axis.applies(cell)) {
            name += &format!(" · {}", axis.words(cell));
        }
        name
    };
    cells.iter().map(name).collect()
}

/// What belongs to cells of one kind that differ on some axes alone.
pub struct Family<'c, T> {
    /// What tells it from the other families.
    pub name: String,
    pub cell: &'c Cell,
    pub members: Vec<T>,
}

/// Puts together what belongs to cells that differ on the axes `across` alone; families come in the
/// order of the axes.
pub fn families<'c, T>(
    all: impl IntoIterator<Item = (&'c Cell, T)>,
    across: &[Axis],
) -> Vec<Family<'c, T>> {
    let mut found: BTreeMap<(Key, CellKind), (&Cell, Vec<T>)> = BTreeMap::new();
    for (cell, member) in all {
        let key = (cell.except(across), cell.kind);
        found.entry(key).or_insert_with(|| (cell, Vec::new())).1.push(member);
    }
    let cells: Vec<&Cell> = found.values().map(|(cell, _)| *cell).collect();
    let names = names(&cells, across).into_iter();
    let family = |(name, (cell, members))| Family { name, cell, members };
    names.zip(found.into_values()).map(family).collect()
}
