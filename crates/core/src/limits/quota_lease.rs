//! An isolate's side of a quota pool: the leases it holds, and when it requests another.
//!
//! It requests as many tokens as it used lately, doubled whenever they ran out before the lease did. So a busy isolate
//! sends few requests, and an idle one withholds nothing from others. While tokens are not scarce, one request fetches
//! a lease and the others wait for it; when few are left, each request fetches its own token.

use std::collections::VecDeque;

use super::quota_pool::{LeaseReport, QUOTA_LEASE_MS, QuotaLease, QuotaLeaseNumber, QuotaState};
use crate::base::time::Timestamp;

/// Maximum number of tokens requested at a time.
const MAX_REQUESTED: u64 = 8_192;
/// How long others wait for a request that does not return, in milliseconds.
const REQUEST_TIMEOUT_MS: u64 = 1_000;
/// How long an empty pool is not asked again, in milliseconds, at most: tokens may come back early.
const MAX_BLOCK_MS: u64 = 1_000;

/// A lease whose tokens can still be used.
#[derive(Debug, Clone)]
struct HeldLease {
    number: QuotaLeaseNumber,
    given: u64,
    left: u64,
    until: Timestamp,
    touched: bool,
}

impl HeldLease {
    fn report(&self) -> LeaseReport {
        LeaseReport { number: self.number, used: self.given - self.left }
    }
}

/// What a caller that needs a token must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakeResult {
    /// It has one, from the lease with this number.
    Taken(QuotaLeaseNumber),
    /// Send this request to the pool.
    Request(LeaseRequest),
    /// Another caller's request is under way: try again soon.
    Wait,
    /// No token is left.
    Exhausted,
}

/// A request to the pool: the number of tokens, and reports about earlier leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRequest {
    pub wanted: u64,
    pub reports: Vec<LeaseReport>,
}

/// The quota of one pool that an isolate may spend by itself.
#[derive(Debug, Clone)]
pub struct LocalQuota {
    leases: VecDeque<HeldLease>,
    /// Unsent reports about leases that are over.
    reports: Vec<LeaseReport>,
    wanted: u64,
    /// When the latest lease expires.
    last_until: Timestamp,
    scarce: bool,
    requesting_until: Timestamp,
    blocked_until: Timestamp,
    /// The tokens left in the pool according to its last reply, without those leased by others.
    left: u64,
    reset_at: Timestamp,
}

impl Default for LocalQuota {
    fn default() -> Self {
        Self {
            leases: VecDeque::new(),
            reports: Vec::new(),
            wanted: 1,
            last_until: Timestamp(0),
            scarce: true,
            requesting_until: Timestamp(0),
            blocked_until: Timestamp(0),
            left: 0,
            reset_at: Timestamp(0),
        }
    }
}

impl LocalQuota {
    pub fn is_blocked(&self, now: Timestamp) -> bool {
        now < self.blocked_until
    }

    /// Whether the pool was empty at the last request and no token has come back since.
    pub fn is_exhausted(&self, now: Timestamp) -> bool {
        self.left == 0 && self.leases.iter().all(|lease| lease.left == 0) && now < self.reset_at
    }

    /// Takes a token, or says how to get one.
    pub fn take(&mut self, now: Timestamp) -> TakeResult {
        if self.is_blocked(now) {
            return TakeResult::Exhausted;
        }
        while let Some(first) = self.leases.front_mut() {
            if first.left > 0 && now < first.until {
                first.left -= 1;
                first.touched = true;
                return TakeResult::Taken(first.number);
            }
            self.reports.push(first.report());
            if first.left > 0 {
                // The lease was larger than needed. The next request halves this, to what was used.
                self.wanted = 2 * (first.given - first.left);
            }
            self.leases.pop_front();
        }
        if now < self.requesting_until && !self.scarce {
            return TakeResult::Wait;
        }
        self.wanted = match now < self.last_until {
            _ if self.scarce => 1,
            true => self.wanted * 2,
            false => self.wanted / 2,
        };
        self.wanted = self.wanted.clamp(1, MAX_REQUESTED);
        self.requesting_until = now.plus_ms(REQUEST_TIMEOUT_MS);
        TakeResult::Request(LeaseRequest { wanted: self.wanted, reports: std::mem::take(&mut self.reports) })
    }

    /// Stores a lease that was requested at `asked_at`. Returns true if the caller has its token from it.
    pub fn receive(&mut self, lease: QuotaLease, state: QuotaState, asked_at: Timestamp, now: Timestamp) -> bool {
        let QuotaLease { number, tokens, scarce } = lease;
        let until = asked_at.plus_ms(QUOTA_LEASE_MS);
        self.update(state, now);
        self.wanted = tokens;
        self.scarce = scarce;
        self.last_until = until;
        if now >= until {
            // It arrived too late to be used safely.
            self.reports.push(LeaseReport { number, used: 0 });
            return false;
        }
        if tokens > 1 {
            self.leases.push_back(HeldLease { number, given: tokens, left: tokens - 1, until, touched: false });
        }
        true
    }

    /// The pool was empty.
    pub fn block(&mut self, state: QuotaState, now: Timestamp) {
        self.update(state, now);
        self.blocked_until = now.plus_ms(state.reset_ms.min(MAX_BLOCK_MS));
    }

    /// The request failed. The reports in it are lost, which is harmless.
    pub fn request_failed(&mut self) {
        self.requesting_until = Timestamp(0);
    }

    fn update(&mut self, state: QuotaState, now: Timestamp) {
        self.requesting_until = Timestamp(0);
        self.left = state.left;
        self.reset_at = now.plus_ms(state.reset_ms);
    }

    /// Returns an unused token. The result, if any, is a report for the pool.
    pub fn return_token(&mut self, number: QuotaLeaseNumber) -> Option<LeaseReport> {
        match self.leases.iter_mut().find(|lease| lease.number == number) {
            Some(lease) => {
                lease.left += 1;
                None
            }
            None => {
                Some(LeaseReport { number, used: 0 }).filter(|_| !self.reports.iter().any(|one| one.number == number))
            }
        }
    }

    /// Gives up a lease that was not used since the last call, or has expired. The result, if any, is a report for the
    /// pool.
    pub fn release_unused(&mut self, number: QuotaLeaseNumber, now: Timestamp) -> Option<LeaseReport> {
        if let Some(at) = self.leases.iter().position(|lease| lease.number == number) {
            let lease = self.leases.get_mut(at)?;
            if std::mem::take(&mut lease.touched) && now < lease.until {
                return None;
            }
            let report = self.leases.remove(at)?.report();
            self.wanted = report.used;
            return Some(report);
        }
        let at = self.reports.iter().position(|report| report.number == number)?;
        Some(self.reports.remove(at))
    }

    /// Whether there is something to report about this lease.
    pub fn has_unreported(&self, number: QuotaLeaseNumber) -> bool {
        self.leases.iter().any(|lease| lease.number == number) || self.reports.iter().any(|one| one.number == number)
    }

    pub fn state(&self, now: Timestamp) -> QuotaState {
        let own: u64 = self.leases.iter().map(|lease| lease.left).sum();
        QuotaState { left: self.left + own, reset_ms: self.reset_at.since(now) }
    }
}

#[cfg(test)]
mod tests;
