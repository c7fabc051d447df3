//! How a figure adds up over the parts of a trial. Each rule takes a field of the sum, the same
//! field of a part, and whether it is the first part.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use super::Reasons;

pub(crate) fn sum<T: for<'a> AddAssign<&'a T>>(total: &mut T, part: &T, _first: bool) {
    *total += part;
}

/// Added, where nothing is not the same as no part: the first part is taken as it is.
pub(crate) fn costs<T: for<'a> AddAssign<&'a T> + Clone>(t: &mut T, part: &T, first: bool) {
    if first { t.clone_from(part) } else { *t += part }
}

/// A sum that is known only when every part is.
pub(crate) fn known<T>(total: &mut Option<T>, part: &Option<T>, first: bool)
where
    T: for<'a> AddAssign<&'a T> + Clone,
{
    match (&mut *total, part) {
        _ if first => total.clone_from(part),
        (Some(total), Some(part)) => *total += part,
        _ => *total = None,
    }
}

/// A sum over the parts that have it.
pub(crate) fn present<T>(total: &mut Option<T>, part: &Option<T>, _first: bool)
where
    T: for<'a> AddAssign<&'a T> + Clone,
{
    match (&mut *total, part) {
        (Some(total), Some(part)) => *total += part,
        (Some(_), None) => {}
        (None, part) => total.clone_from(part),
    }
}

/// Costs of those parts that say anything: a shard without a target of its own adds nothing.
pub(crate) fn served<T>(total: &mut T, part: &T, _first: bool)
where
    T: for<'a> AddAssign<&'a T> + Clone + Default + PartialEq,
{
    if *part != T::default() {
        let first = *total == T::default();
        costs(total, part, first);
    }
}

pub(crate) fn most<T: PartialOrd + Copy>(total: &mut T, part: &T, _first: bool) {
    if *part > *total {
        *total = *part;
    }
}

pub(crate) fn least<T: PartialOrd + Copy>(total: &mut T, part: &T, _first: bool) {
    if *part < *total {
        *total = *part;
    }
}

/// The earliest of those that are known.
pub(crate) fn earliest(total: &mut Option<u64>, part: &Option<u64>, _first: bool) {
    *total = (*total).into_iter().chain(*part).min();
}

/// The first that is known.
pub(crate) fn either<T: Clone>(total: &mut Option<T>, part: &Option<T>, _first: bool) {
    if total.is_none() {
        total.clone_from(part);
    }
}

/// Equal in all parts that say it.
pub(crate) fn same(total: &mut String, part: &String, _first: bool) {
    if total.is_empty() {
        total.clone_from(part);
    } else if !part.is_empty() && total != part {
        *total = "differs between shards".into();
    }
}

/// Counts by name, each added.
pub(crate) fn counts<K: Ord + Clone>(
    total: &mut BTreeMap<K, u64>,
    part: &BTreeMap<K, u64>,
    _first: bool,
) {
    for (name, count) in part {
        *total.entry(name.clone()).or_default() += count;
    }
}

/// Parts by name, each added.
pub(crate) fn parts<T: for<'a> AddAssign<&'a T> + Default>(
    total: &mut BTreeMap<String, T>,
    part: &BTreeMap<String, T>,
    _first: bool,
) {
    for (name, part) in part {
        *total.entry(name.clone()).or_default() += part;
    }
}

/// Remarks by field, the first on each.
pub(crate) fn remarks(total: &mut Reasons, part: &Reasons, _first: bool) {
    for (field, why) in part {
        total.entry(field.clone()).or_insert_with(|| why.clone());
    }
}

/// Worked out when all parts are there.
pub(crate) fn derived<T>(_total: &mut T, _part: &T, _first: bool) {}

/// A judgement on the whole, which whoever adds the parts makes.
pub(crate) fn judged<T>(_total: &mut T, _part: &T, _first: bool) {}
