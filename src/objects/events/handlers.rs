//! The hub's requests about the log, tickets and usage.

use std::rc::Rc;

use serde_json::value::RawValue;

use crate::objects::protocol::Done;
use crate::objects::shell::Handle;
use crate::platform::{Failure, clock};
use narthex_core::events::sequence::Sequence;

use super::Hub;
use super::messages::{
    CountRejections, EventList, ListEvents, MakeTicket, Publish, Published, ReadTotals, SetRetention, Sweep, Ticket,
    UsageGroups, UsageQuery, UsageTotals, UseTicket,
};

/// Batches searched for one page of a list.
const MAX_BATCHES: u64 = 500;
/// Batches read at a time: each may exceed half a megabyte.
const BATCHES_AT_ONCE: u64 = 20;
/// A list of events ends early beyond this size, in bytes.
const LIST_BYTES: usize = 4 * 1024 * 1024;

impl Handle<Publish> for &Rc<Hub> {
    fn handle(self, publish: Publish) -> Result<Published, Failure> {
        self.publish(&publish)?;
        Ok(Published::Published { head: self.log.borrow().head(&publish.publisher) })
    }
}

impl Handle<ListEvents> for &Rc<Hub> {
    fn handle(self, list: ListEvents) -> Result<EventList, Failure> {
        self.list(&list)
    }
}

impl Handle<MakeTicket> for &Rc<Hub> {
    fn handle(self, MakeTicket { ticket_hash, viewer, until }: MakeTicket) -> Result<Done, Failure> {
        let viewer = serde_json::to_string(&viewer)?;
        self.log.borrow().store_ticket(&ticket_hash, &viewer, until, clock::now())?;
        Ok(Done::Done)
    }
}

impl Handle<UseTicket> for &Rc<Hub> {
    fn handle(self, UseTicket { ticket_hash }: UseTicket) -> Result<Ticket, Failure> {
        let viewer = self.log.borrow().redeem_ticket(&ticket_hash, clock::now())?;
        Ok(Ticket::Ticket(viewer.map(|text| serde_json::from_str(&text)).transpose()?))
    }
}

impl Handle<SetRetention> for &Rc<Hub> {
    fn handle(self, SetRetention { hours, revision }: SetRetention) -> Result<Done, Failure> {
        let own_ms = hours.map(|hours| hours * 3_600_000);
        if !self.log.borrow().retain(own_ms, revision)? {
            return Ok(Done::Done);
        }
        self.retention_ms.set(own_ms.unwrap_or(self.default_retention_ms));
        self.sweep()?;
        Ok(Done::Done)
    }
}

impl Handle<Sweep> for &Rc<Hub> {
    fn handle(self, Sweep: Sweep) -> Result<Done, Failure> {
        self.sweep()?;
        Ok(Done::Done)
    }
}

impl Handle<UsageQuery> for &Rc<Hub> {
    fn handle(self, query: UsageQuery) -> Result<UsageGroups, Failure> {
        self.count_usage()?;
        Ok(UsageGroups::Usage(self.usage.grouped(&query)?))
    }
}

impl Handle<ReadTotals> for &Rc<Hub> {
    fn handle(self, ReadTotals: ReadTotals) -> Result<UsageTotals, Failure> {
        self.count_usage()?;
        let (rows, models) = self.usage.totals()?;
        Ok(UsageTotals::Totals { rows, refused: self.usage.refused()?, models })
    }
}

impl Handle<CountRejections> for &Rc<Hub> {
    fn handle(self, CountRejections { codes }: CountRejections) -> Result<Done, Failure> {
        self.usage.count_refused(&codes)?;
        Ok(Done::Done)
    }
}

impl Hub {
    fn list(&self, list: &ListEvents) -> Result<EventList, Failure> {
        let ListEvents { filter, after, since, limit, .. } = list;
        let log = self.log.borrow();
        let from = match since {
            Some(at) => log.before_time(*at)?.max(*after),
            None => *after,
        };
        let first_kept = log.first_kept()?.unwrap_or_else(|| log.next());
        let gap = (*after > Sequence::START && after.next() < first_kept).then_some(first_kept);
        let (mut events, mut bytes, mut position, mut batches_seen) = (Vec::new(), 0, from, 0);
        loop {
            let batches = log.after(position, BATCHES_AT_ONCE)?;
            batches_seen += batches.len() as u64;
            for batch in &batches {
                let after = position;
                for (sequence, bundle, item, before) in batch.events().filter(|(at, ..)| *at > after) {
                    position = sequence;
                    if filter.matches(bundle, item) {
                        let text = batch.event(bundle, item, before, sequence);
                        bytes += text.len();
                        events.push(RawValue::from_string(text)?);
                    }
                    if events.len() as u64 == *limit || bytes >= LIST_BYTES {
                        let more = sequence.next() < log.next();
                        return Ok(EventList::Events { events, next: more.then_some(sequence), gap });
                    }
                }
            }
            if (batches.len() as u64) < BATCHES_AT_ONCE {
                return Ok(EventList::Events { events, next: None, gap });
            }
            // When nothing has matched for long, the next page continues from here.
            if batches_seen >= MAX_BATCHES {
                return Ok(EventList::Events { events, next: Some(position), gap });
            }
        }
    }
}
