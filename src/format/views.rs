//! A trial as a part of it saw it: one side, or one class of its requests. In the form of a trial, so
//! that what judges and plans whole trials judges and plans the part by the same code.

use super::{Memory, SideUse, TrialRecord, field};

impl TrialRecord {
    /// What the client's side cost.
    pub fn client(&self) -> SideUse {
        SideUse {
            processes: self.cell.processes,
            cpus: self.cell.cpus,
            cpu: self.cpu.clone(),
            switches: self.switches,
            events: self.events,
            memory: self.memory.clone(),
            threads_peak: self.threads_peak,
            fds_peak: self.fds_peak,
            measured_ns: self.measured_ns,
            requests: Some(self.ended_between_edges),
            runtime: self.runtime,
            ring: self.ring,
        }
    }

    /// What the side under test cost; `None` where nobody could read it.
    pub fn subject(&self) -> Option<SideUse> {
        if self.cell.tests_server() { self.server.clone() } else { Some(self.client()) }
    }

    /// Requests that the side under test saw end while its costs were counted.
    pub(crate) fn requests_of_subject(&self) -> u64 {
        let server = self.server.as_ref().filter(|_| self.cell.tests_server());
        server.and_then(|server| server.requests).unwrap_or(self.ended_between_edges)
    }

    /// The memory of the side under test, and where it stands in the record.
    pub(crate) fn memory_of_subject(&self) -> (Option<&Memory>, &'static str) {
        match self.cell.tests_server() {
            true => {
                let memory = self.server.as_ref().map(|server| &server.memory);
                (memory, field!(TrialRecord.server?.memory))
            }
            false => (Some(&self.memory), field!(TrialRecord.memory)),
        }
    }

    /// The trial as one class of its requests saw it: their ledger and times. What the trial cost and
    /// achieved stays that of all its requests. `None` where the class has no place in it.
    pub(crate) fn of_class(&self, name: &str) -> Option<TrialRecord> {
        let class = self.classes.get(name)?;
        let is_open = self.response_ns.is_some();
        let service = if is_open { &class.service_ns } else { &class.times_ns };
        Some(TrialRecord {
            ledger: class.ledger,
            service_ns: service.clone(),
            response_ns: class.times_ns.clone().filter(|_| is_open),
            ..self.clone()
        })
    }

    /// The trial with what the side under test cost in place of the client's costs. A server that could
    /// not be read leaves the record as it is, which is then no valid one.
    pub(crate) fn with_costs_of_subject(&self) -> TrialRecord {
        let record =
            TrialRecord { ended_between_edges: self.requests_of_subject(), ..self.clone() };
        match self.server.clone().filter(|_| self.cell.tests_server()) {
            None => record,
            Some(server) => TrialRecord {
                cpu: server.cpu,
                switches: server.switches,
                events: server.events,
                memory: server.memory,
                threads_peak: server.threads_peak,
                fds_peak: server.fds_peak,
                runtime: server.runtime,
                ring: server.ring,
                ..record
            },
        }
    }
}
