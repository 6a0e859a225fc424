//! The pace of the gateway: how long what it holds lasts without a word, and how often it looks again.
//!
//! One value, made once from the settings and handed down. Tests run at a fraction of it; what a request or a document
//! gives in seconds is not part of it, nor how long a call to another machine may take.

macro_rules! timing {
    ($($(#[doc = $doc:literal])+ $name:ident = $ms:literal;)+) => {
        /// All in milliseconds.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct Timing {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Timing {
            pub const DEFAULT: Self = Self { $($name: $ms,)+ };

            fn map(self, each: impl Fn(u64) -> u64) -> Self {
                Self { $($name: each(self.$name),)+ }
            }
        }
    };
}

timing! {
    /// A worker's lease of a context lasts this long; its holder renews it while the service works.
    lease_ms = 10_000;
    /// How often holders renew leases and permits.
    renew_ms = 4_000;
    /// After a restart of the store, holders have this long to renew their leases before these count as lost.
    lease_grace_ms = 5_500;
    /// A worker to whom a waiting context was offered has this long to begin with it, or to renew the offer.
    offer_ms = 10_000;
    /// A doorbell that went unanswered rings again after this.
    ring_again_ms = 5_000;
    /// A retry that comes sooner than this is waited for by the worker that has the context.
    retry_stays_ms = 5_000;
    /// A consumer with room looks for more work after this.
    look_again_ms = 2_000;
    /// How long a worker stands in line at a time when no client waits for its context.
    turn_ms = 5_000;
    /// The same when a client waits.
    long_turn_ms = 25_000;
    /// A lane that cannot be reached is asked again after this.
    lane_away_ms = 1_000;
    /// Work that only offline services could do is looked at again after this.
    offline_ms = 3_000;
    /// A permit, of a service or of a limit, lasts this long; its holder renews it.
    permit_ms = 10_000;
    /// A place in line gains one step of priority each time this has passed.
    ageing_ms = 5_000;
    /// How much longer than a permit a lane counts as busy on disk, so that not every permit is a row.
    busy_ahead_ms = 8_000;
    /// While a breaker is half open, a worker that is not in a hurry looks again after this.
    probing_ms = 1_000;
    /// How long a breaker stays open after its first trip.
    breaker_open_ms = 30_000;
    /// How long after a published key set was fetched it is not fetched again, whatever key a token names.
    key_set_pause_ms = 30_000;
    /// A service's status is published at most this often.
    calm_ms = 2_000;
    /// The better status of a service that flaps must hold this long before it is published.
    hold_ms = 10_000;
}

impl Timing {
    /// The least and the greatest fraction there is.
    pub const SCALES: std::ops::RangeInclusive<f64> = 0.01..=1.0;

    /// Everything at this fraction of its length.
    #[must_use]
    pub fn scaled(scale: f64) -> Self {
        let scale = scale.clamp(*Self::SCALES.start(), *Self::SCALES.end());
        Self::DEFAULT.map(|ms| ((ms as f64 * scale) as u64).max(1))
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_keeps_the_proportions() {
        let quick = Timing::scaled(0.1);
        assert_eq!((quick.lease_ms, quick.renew_ms, quick.lease_grace_ms), (1_000, 400, 550));
        assert_eq!(Timing::scaled(1.0), Timing::default());
    }

    #[test]
    fn no_scale_makes_time_longer_or_stops_it() {
        assert_eq!(Timing::scaled(3.0), Timing::default());
        assert_eq!(Timing::scaled(0.0).lease_ms, 100);
        assert_eq!(Timing::scaled(f64::NAN).map(|_| 0), Timing::default().map(|_| 0));
    }

    #[test]
    fn a_holder_can_miss_one_renewal() {
        let Timing { lease_ms, permit_ms, offer_ms, renew_ms, .. } = Timing::default();
        assert!([lease_ms, permit_ms, offer_ms].into_iter().all(|held_ms| 2 * renew_ms < held_ms));
    }
}
