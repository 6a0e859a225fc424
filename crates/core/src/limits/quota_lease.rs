//! An isolate's side of a bucket: the portions it has, and when it asks for another.
//!
//! It asks for what it used lately, doubled whenever that was not enough, so that a busy isolate asks seldom and an idle
//! one keeps nothing from others. While nothing is scarce one request asks and the others wait for what it brings; when
//! little is left each asks for itself.

use std::collections::VecDeque;

use super::quota_pool::{PORTION_MS, Portion, Report, Standing};
use crate::base::time::Timestamp;

/// The most one portion is asked for.
const MAX_REQUESTED: u64 = 8_192;
/// Who was to ask and did not come back keeps others waiting this long, in milliseconds.
const PATIENCE_MS: u64 = 1_000;
/// A refusal is believed for this long at most, in milliseconds: tokens may come back before their time.
const SHUT_MS: u64 = 1_000;

#[derive(Debug, Clone)]
struct Held {
    number: u64,
    given: u64,
    left: u64,
    until: Timestamp,
    touched: bool,
}

impl Held {
    fn report(&self) -> Report {
        Report { number: self.number, used: self.given - self.left }
    }
}

/// What a request that wants a token is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It has one, of this portion.
    Taken(u64),
    Ask(Wish),
    /// Another asks: look again soon.
    Wait,
    Refused,
}

/// What is asked of the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    pub wanted: u64,
    pub reports: Vec<Report>,
}

#[derive(Debug, Clone)]
pub struct Purse {
    held: VecDeque<Held>,
    /// What is to be told of portions that are over.
    reports: Vec<Report>,
    wanted: u64,
    /// Until when the last tokens that were given can be used.
    last_until: Timestamp,
    scarce: bool,
    asking_until: Timestamp,
    shut_until: Timestamp,
    /// As the bucket said: what others have is not in it.
    left: u64,
    reset_at: Timestamp,
}

impl Default for Purse {
    fn default() -> Self {
        Self {
            held: VecDeque::new(),
            reports: Vec::new(),
            wanted: 1,
            last_until: Timestamp(0),
            scarce: true,
            asking_until: Timestamp(0),
            shut_until: Timestamp(0),
            left: 0,
            reset_at: Timestamp(0),
        }
    }
}

impl Purse {
    pub fn is_shut(&self, now: Timestamp) -> bool {
        now < self.shut_until
    }

    /// Whether the bucket was empty when it was last asked, and nothing has come back by itself since.
    pub fn is_spent(&self, now: Timestamp) -> bool {
        self.left == 0 && self.held.iter().all(|held| held.left == 0) && now < self.reset_at
    }

    pub fn take(&mut self, now: Timestamp) -> Step {
        if self.is_shut(now) {
            return Step::Refused;
        }
        while let Some(first) = self.held.front_mut() {
            if first.left > 0 && now < first.until {
                first.left -= 1;
                first.touched = true;
                return Step::Taken(first.number);
            }
            self.reports.push(first.report());
            if first.left > 0 {
                // It was more than was needed: as much again as was, once that is halved.
                self.wanted = 2 * (first.given - first.left);
            }
            self.held.pop_front();
        }
        if now < self.asking_until && !self.scarce {
            return Step::Wait;
        }
        self.wanted = match now < self.last_until {
            _ if self.scarce => 1,
            true => self.wanted * 2,
            false => self.wanted / 2,
        };
        self.wanted = self.wanted.clamp(1, MAX_REQUESTED);
        self.asking_until = now.plus_ms(PATIENCE_MS);
        Step::Ask(Wish { wanted: self.wanted, reports: std::mem::take(&mut self.reports) })
    }

    /// Takes in a portion that was asked for at `asked_at`; true when the asker has its token of it.
    pub fn given(&mut self, portion: Portion, standing: Standing, asked_at: Timestamp, now: Timestamp) -> bool {
        let Portion { number, tokens, scarce } = portion;
        let until = asked_at.plus_ms(PORTION_MS);
        self.heard(standing, now);
        self.wanted = tokens;
        self.scarce = scarce;
        self.last_until = until;
        if now >= until {
            // It was too long on its way: whatever can be used of it is too little to tell.
            self.reports.push(Report { number, used: 0 });
            return false;
        }
        if tokens > 1 {
            self.held.push_back(Held { number, given: tokens, left: tokens - 1, until, touched: false });
        }
        true
    }

    /// Nothing was left.
    pub fn refused(&mut self, standing: Standing, now: Timestamp) {
        self.heard(standing, now);
        self.shut_until = now.plus_ms(standing.reset_ms.min(SHUT_MS));
    }

    /// The bucket could not be asked; what was to be told it is lost, which harms nobody.
    pub fn failed(&mut self) {
        self.asking_until = Timestamp(0);
    }

    fn heard(&mut self, standing: Standing, now: Timestamp) {
        self.asking_until = Timestamp(0);
        self.left = standing.left;
        self.reset_at = now.plus_ms(standing.reset_ms);
    }

    /// A token was not needed after all; gives what is to be told now.
    pub fn put_back(&mut self, number: u64) -> Option<Report> {
        match self.held.iter_mut().find(|held| held.number == number) {
            Some(held) => {
                held.left += 1;
                None
            }
            None => Some(Report { number, used: 0 }).filter(|_| !self.reports.iter().any(|one| one.number == number)),
        }
    }

    /// Gives a portion up when it was not used since this was last asked, or is over; gives what is to be told of it.
    pub fn give_up(&mut self, number: u64, now: Timestamp) -> Option<Report> {
        if let Some(at) = self.held.iter().position(|held| held.number == number) {
            let held = self.held.get_mut(at)?;
            if std::mem::take(&mut held.touched) && now < held.until {
                return None;
            }
            let report = self.held.remove(at)?.report();
            self.wanted = report.used;
            return Some(report);
        }
        let at = self.reports.iter().position(|report| report.number == number)?;
        Some(self.reports.remove(at))
    }

    /// Whether anything is known of this portion that the bucket was not told.
    pub fn has(&self, number: u64) -> bool {
        self.held.iter().any(|held| held.number == number) || self.reports.iter().any(|one| one.number == number)
    }

    pub fn standing(&self, now: Timestamp) -> Standing {
        let own: u64 = self.held.iter().map(|held| held.left).sum();
        Standing { left: self.left + own, reset_ms: self.reset_at.since(now) }
    }
}

#[cfg(test)]
mod tests;
