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

    /// The trial with what the side under test cost in place of the client's costs. A server that could
    /// not be read leaves the record as it is, which is then no valid one.
    pub(crate) fn with_costs_of_subject(&self) -> TrialRecord {
        let record = self.clone();
        match self.server.clone().filter(|_| self.cell.tests_server()) {
            None => record,
            Some(server) => TrialRecord {
                cpu: server.cpu,
                switches: server.switches,
                events: server.events,
                memory: server.memory,
                threads_peak: server.threads_peak,
                fds_peak: server.fds_peak,
                ..record
            },
        }
    }
}
