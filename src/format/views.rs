//! A trial as a part of it saw it, in the form of a trial: what judges and plans whole trials then
//! judges and plans the part by the same code.

use super::TrialRecord;

impl TrialRecord {
    /// The trial as one class of its requests saw it: their ledger and times. What the trial cost and
    /// achieved stays that of all its requests. `None` where the class has no place in it.
    pub(crate) fn of_class(&self, name: &str) -> Option<TrialRecord> {
        let class = self.classes.get(name)?;
        let is_open = self.response_ns.is_some();
        let times = |wanted: bool| class.times_ns.clone().filter(|_| wanted);
        Some(TrialRecord {
            ledger: class.ledger,
            service_ns: times(!is_open),
            response_ns: times(is_open),
            ..self.clone()
        })
    }
}
