//! The permits of one service, and the queue of contexts that wait for one.
//!
//! At most `max_concurrency` permits are in use. Each is a lease, so a permit whose holder is gone becomes free again.
//! An entry in the queue belongs to a context, not to a connection: a client that reconnects finds it in its old
//! position. Only contexts with a waiting Worker are granted permits. The entry of the highest rank is next, and
//! waiting raises the rank, so that none starves. Within a rank, the principal with the fewest permits goes first, then
//! the one served longest ago, then the oldest entry.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::base::id::ContextId;
use crate::base::principal_id::PrincipalId;
use crate::base::time::Timestamp;
use crate::base::timing::Timing;
use crate::context::status::Priority;
use crate::lane::permit_number::PermitNumber;

/// The minimum number of calls for a median.
const MIN_LATENCIES: usize = 5;
const MAX_LATENCIES: usize = 32;
/// The assumed duration of a call while none is known, in milliseconds.
const DEFAULT_LATENCY_MS: u64 = 1_000;
/// How long a median is valid without new calls, in milliseconds. Otherwise a context with little time left could never
/// start again.
const MEDIAN_VALID_MS: u64 = 60_000;
/// How many principals' last grants are remembered.
const MAX_SERVED: usize = 1_000;
/// Returned permits that are remembered, so that a late renewal does not revive one.
const MAX_RELEASED: usize = 256;

/// The limits of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    pub max_concurrency: u64,
    pub max_queue: u64,
}

/// A context that wants a permit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiter {
    pub context: ContextId,
    pub principal: PrincipalId,
    pub priority: Priority,
    pub deadline: Timestamp,
    /// It was accepted earlier and must not be rejected.
    pub admitted: bool,
}

/// The result of a request for a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acquisition {
    Granted(PermitNumber),
    Waiting,
    Full {
        retry_after_ms: u64,
    },
    /// The remaining time is shorter than a typical call.
    TooLate,
}

/// How a waiting context leaves the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Departure {
    Granted { context: ContextId, permit: PermitNumber },
    TooLate { context: ContextId },
}

#[derive(Debug, Clone)]
struct Permit {
    principal: PrincipalId,
    until: Timestamp,
}

#[derive(Debug, Clone)]
struct Entry {
    context: ContextId,
    principal: PrincipalId,
    priority: Priority,
    since: Timestamp,
    deadline: Timestamp,
    present: bool,
}

/// The entries with a waiting Worker, by principal and priority, in order of arrival.
type PresentEntries = BTreeMap<(PrincipalId, Priority), BTreeSet<(Timestamp, u64)>>;

/// The permits of one service and its wait queue.
#[derive(Debug, Clone)]
pub struct WaitQueue {
    permits: BTreeMap<PermitNumber, Permit>,
    permits_of: BTreeMap<PrincipalId, u64>,
    entries: BTreeMap<u64, Entry>,
    entry_of: BTreeMap<String, u64>,
    present: PresentEntries,
    /// When each principal was last granted a permit, as the permit's number.
    served: BTreeMap<PrincipalId, PermitNumber>,
    released: VecDeque<PermitNumber>,
    latencies: VecDeque<u64>,
    latency_at: Timestamp,
    /// No permit or entry expires before this time.
    next_end: Timestamp,
    last_permit: PermitNumber,
    /// The number of the last entry.
    last_entry: u64,
    /// No permit is granted before this time: unknown ones may still be in use.
    closed_until: Timestamp,
    timing: Timing,
}

impl WaitQueue {
    /// Creates an empty queue. No permit with a number above `last_permit` was granted before; all earlier permits have
    /// expired by `closed_until`.
    pub fn new(last_permit: PermitNumber, closed_until: Timestamp, timing: Timing) -> Self {
        Self {
            permits: BTreeMap::new(),
            permits_of: BTreeMap::new(),
            entries: BTreeMap::new(),
            entry_of: BTreeMap::new(),
            present: BTreeMap::new(),
            served: BTreeMap::new(),
            released: VecDeque::new(),
            latencies: VecDeque::new(),
            latency_at: Timestamp(0),
            next_end: Timestamp(0),
            last_permit,
            last_entry: 0,
            closed_until,
            timing,
        }
    }

    /// The number of permits in use.
    pub fn in_flight(&self) -> u64 {
        self.permits.len() as u64
    }

    /// Whether unknown permits may be in use.
    pub fn is_closed(&self, now: Timestamp) -> bool {
        now < self.closed_until
    }

    /// The number of waiting contexts.
    pub fn waiting(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The median duration of recent calls in milliseconds, if there were enough.
    pub fn median_ms(&self) -> Option<u64> {
        if self.latencies.len() < MIN_LATENCIES {
            return None;
        }
        let mut sorted: Vec<u64> = self.latencies.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }

    /// Records the duration of a call.
    pub fn record_latency(&mut self, latency_ms: u64, now: Timestamp) {
        self.latency_at = now;
        if self.latencies.len() >= MAX_LATENCIES {
            self.latencies.pop_front();
        }
        self.latencies.push_back(latency_ms);
    }

    /// Forgets the recorded durations.
    pub fn forget_latencies(&mut self) {
        self.latencies.clear();
    }

    fn is_too_late(&self, deadline: Timestamp, now: Timestamp) -> bool {
        let median = self.median_ms().filter(|_| now.since(self.latency_at) < MEDIAN_VALID_MS);
        deadline <= now || median.is_some_and(|median| deadline.since(now) < median)
    }

    /// Whether another permit may be granted.
    pub fn has_room(&self, limits: QueueLimits, now: Timestamp) -> bool {
        now >= self.closed_until && self.in_flight() < limits.max_concurrency
    }

    /// Requests a permit. A context without one is queued, rejected, or too late. A context that asks twice gets two
    /// permits: two Workers may have it, and one of them returns its permit while the other calls.
    pub fn acquire(&mut self, waiter: Waiter, limits: QueueLimits, now: Timestamp, random: u64) -> Acquisition {
        if now >= self.next_end {
            // An expired permit must not keep others waiting.
            self.drop_ended(now);
        }
        let known = self.entry_of.contains_key(waiter.context.as_str());
        if self.is_too_late(waiter.deadline, now) {
            self.leave(&waiter.context);
            return Acquisition::TooLate;
        }
        if !known && self.present.is_empty() && self.has_room(limits, now) {
            return Acquisition::Granted(self.grant(&waiter.context, waiter.principal, now));
        }
        if !known && !waiter.admitted && self.waiting() >= capacity_for(waiter.priority, limits.max_queue) {
            return Acquisition::Full { retry_after_ms: self.retry_after_ms(limits, random) };
        }
        if !known {
            self.last_entry += 1;
            let number = self.last_entry;
            let Waiter { context, principal, priority, deadline, .. } = waiter;
            self.entry_of.insert(context.to_string(), number);
            let entry = Entry { context, principal, priority, since: now, deadline, present: false };
            self.entries.insert(number, entry);
            self.next_end = self.next_end.min(deadline);
        }
        Acquisition::Waiting
    }

    /// Sets whether a Worker waits for this context's permit.
    pub fn set_present(&mut self, context: &ContextId, present: bool) {
        let Some(number) = self.entry_of.get(context.as_str()).copied() else { return };
        let Some(entry) = self.entries.get_mut(&number) else { return };
        entry.present = present;
        let lane = (entry.principal.clone(), entry.priority);
        let spot = (entry.since, number);
        if present {
            self.present.entry(lane).or_default().insert(spot);
        } else if let Some(spots) = self.present.get_mut(&lane) {
            spots.remove(&spot);
            if spots.is_empty() {
                self.present.remove(&lane);
            }
        }
    }

    /// Removes an entry.
    pub fn leave(&mut self, context: &ContextId) {
        self.set_present(context, false);
        if let Some(number) = self.entry_of.remove(context.as_str()) {
            self.entries.remove(&number);
        }
    }

    /// Grants a permit regardless of the queue: every grant ends here, and so does the breaker's probe of a service
    /// without a limit.
    pub fn grant(&mut self, context: &ContextId, principal: PrincipalId, now: Timestamp) -> PermitNumber {
        self.last_permit = self.last_permit.next();
        let permit = self.last_permit;
        self.leave(context);
        if self.served.len() >= MAX_SERVED && !self.served.contains_key(&principal) {
            // Forgotten principals count as served long ago.
            self.served.clear();
        }
        self.served.insert(principal.clone(), permit);
        self.hold(permit, principal, now.plus_ms(self.timing.permit_ms));
        permit
    }

    fn hold(&mut self, permit: PermitNumber, principal: PrincipalId, until: Timestamp) {
        *self.permits_of.entry(principal.clone()).or_default() += 1;
        self.permits.insert(permit, Permit { principal, until });
        self.next_end = self.next_end.min(until);
    }

    /// Renews a permit. An unknown one is recorded again, even beyond the limit: its call is in flight.
    pub fn renew(&mut self, permit: PermitNumber, principal: &PrincipalId, until: Timestamp) {
        match self.permits.get_mut(&permit) {
            Some(permit_lease) => permit_lease.until = until.max(permit_lease.until),
            None if self.released.contains(&permit) => {}
            None => {
                // It was granted by an earlier instance: the next numbers must be larger.
                self.last_permit = self.last_permit.max(permit);
                self.hold(permit, principal.clone(), until);
            }
        }
    }

    /// Returns a permit; true if it was in use.
    pub fn release(&mut self, permit: PermitNumber) -> bool {
        if self.released.len() >= MAX_RELEASED {
            self.released.pop_front();
        }
        self.released.push_back(permit);
        self.drop_permit(permit)
    }

    fn drop_permit(&mut self, permit: PermitNumber) -> bool {
        let Some(permit_lease) = self.permits.remove(&permit) else { return false };
        if let Some(count) = self.permits_of.get_mut(&permit_lease.principal) {
            *count -= 1;
            if *count == 0 {
                self.permits_of.remove(&permit_lease.principal);
            }
        }
        true
    }

    fn drop_ended(&mut self, now: Timestamp) {
        let gone: Vec<PermitNumber> = self
            .permits
            .iter()
            .filter(|(_, permit_lease)| permit_lease.until <= now)
            .map(|(permit, _)| *permit)
            .collect();
        for permit in gone {
            self.drop_permit(permit);
        }
    }

    /// Removes expired permits, and the entries whose deadline has passed. Returns those of them with a waiting Worker.
    pub fn expire(&mut self, now: Timestamp) -> Vec<ContextId> {
        if now < self.next_end {
            return Vec::new();
        }
        self.drop_ended(now);
        let over: Vec<(ContextId, bool)> = self
            .entries
            .values()
            .filter(|entry| entry.deadline <= now)
            .map(|entry| (entry.context.clone(), entry.present))
            .collect();
        for (context, _) in &over {
            self.leave(context);
        }
        let ends = self.permits.values().map(|permit_lease| permit_lease.until);
        self.next_end =
            ends.chain(self.entries.values().map(|entry| entry.deadline)).min().unwrap_or(Timestamp(u64::MAX));
        over.into_iter().filter(|(_, present)| *present).map(|(context, _)| context).collect()
    }

    /// Grants the free permits.
    pub fn grant_free(&mut self, limits: QueueLimits, now: Timestamp) -> Vec<Departure> {
        let mut grant_free = Vec::new();
        while self.has_room(limits, now) {
            let Some(number) = self.next_waiter(now) else { break };
            let Some(entry) = self.entries.get(&number) else { break };
            let (context, principal, deadline) = (entry.context.clone(), entry.principal.clone(), entry.deadline);
            if self.is_too_late(deadline, now) {
                self.leave(&context);
                grant_free.push(Departure::TooLate { context });
            } else {
                let permit = self.grant(&context, principal, now);
                grant_free.push(Departure::Granted { context, permit });
            }
        }
        grant_free
    }

    /// The entry that is next, among those present.
    fn next_waiter(&self, now: Timestamp) -> Option<u64> {
        let best = self.present.iter().filter_map(|((principal, priority), spots)| {
            let (since, number) = *spots.first()?;
            let rank = step(*priority) + now.since(since) / self.timing.ageing_ms;
            let permit_lease = self.permits_of.get(principal).copied().unwrap_or(0);
            // Without a permit so far: before all others.
            let served = self.served.get(principal).copied();
            Some((std::cmp::Reverse(rank), permit_lease, served, since, number))
        });
        best.min().map(|(.., number)| number)
    }

    /// All contexts with a waiting Worker.
    pub fn present_contexts(&self) -> Vec<ContextId> {
        self.entries.values().filter(|entry| entry.present).map(|entry| entry.context.clone()).collect()
    }

    /// When a permit expires, or the first may be granted.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let ends = self.permits.values().map(|permit_lease| permit_lease.until);
        ends.chain((self.closed_until > now).then_some(self.closed_until)).min()
    }

    /// A rough estimate of the time until the queue has room, from 1 to 60 s.
    fn retry_after_ms(&self, limits: QueueLimits, random: u64) -> u64 {
        let each = self.median_ms().unwrap_or(DEFAULT_LATENCY_MS);
        let long = self.waiting().saturating_mul(each) / limits.max_concurrency.max(1);
        // Rejected clients must not return all at once.
        (long.saturating_mul(80 + random % 41) / 100).clamp(1_000, 60_000)
    }
}

fn step(priority: Priority) -> u64 {
    match priority {
        Priority::Low => 0,
        Priority::Normal => 1,
        Priority::High => 2,
        Priority::Critical => 3,
    }
}

/// The queue length at which contexts of this priority are rejected: the lower the priority, the earlier.
pub fn capacity_for(priority: Priority, max_queue: u64) -> u64 {
    match priority {
        Priority::Low => max_queue.div_ceil(2),
        Priority::Normal => max_queue,
        Priority::High => max_queue.saturating_mul(5) / 4,
        Priority::Critical => max_queue.saturating_mul(3) / 2,
    }
}

#[cfg(test)]
mod tests;
