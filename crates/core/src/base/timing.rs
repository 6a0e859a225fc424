//! The pace of the gateway: how long leases last without renewal, and how often it looks, reports and retries.
//!
//! The settings make this value once and hand it down. Tests run at a fraction of it. It contains neither the spans
//! that requests and documents give in seconds nor the time-outs of calls to other machines.

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
    /// The length of a worker's lease of a context. Its holder renews it while the service works.
    lease_ms = 10_000;
    /// How often holders renew leases and permits.
    renew_ms = 4_000;
    /// After a restart of the store, holders have this long to renew their leases before the leases count as lost.
    lease_grace_ms = 5_500;
    /// How long an offer of a context lasts. The worker that received it leases the context by then, or renews the
    /// offer.
    offer_ms = 10_000;
    /// A wake-up message for queued contexts is repeated after this if no consumer came.
    wakeup_retry_ms = 5_000;
    /// The same for due schedules and webhook deliveries.
    batch_wakeup_retry_ms = 10_000;
    /// A retry that is due sooner than this stays with the worker that made the attempt. Later ones go to the queue.
    inline_retry_max_ms = 5_000;
    /// How often a consumer with room asks for more contexts.
    work_poll_ms = 2_000;
    /// How often a consumer with room asks for more webhook deliveries.
    delivery_poll_ms = 1_000;
    /// Queued contexts that have waited this long are reported to the sweep, which runs them itself.
    overdue_ms = 10_000;
    /// How long one request to a lane waits in its queue if no client waits for the context.
    queue_wait_ms = 5_000;
    /// The same if a client waits.
    client_queue_wait_ms = 25_000;
    /// A request that a lane did not answer is repeated after this.
    lane_retry_ms = 1_000;
    /// A context goes back to the queue for this long if only offline services could run it.
    offline_retry_ms = 3_000;
    /// The length of a permit, of a service or of a limit. Its holder renews it.
    permit_ms = 10_000;
    /// A queued context gains one step of priority each time it has waited this long.
    ageing_ms = 5_000;
    /// How much longer than a permit a lane is busy in its record, so that not every permit writes a row.
    busy_margin_ms = 8_000;
    /// How often a lane looks at its wait queue at least.
    queue_check_ms = 1_000;
    /// A lane without permits for this long is recorded as idle.
    lane_idle_ms = 2_000;
    /// How often workers without a waiting client look again while a breaker is half open.
    half_open_poll_ms = 1_000;
    /// How long a breaker stays open after its first trip.
    breaker_open_ms = 30_000;
    /// The first probe of a service follows its registration after this.
    first_probe_ms = 1_000;
    /// The minimum interval between publications of a service's status.
    status_interval_ms = 2_000;
    /// The better status of a flapping service is published after it has lasted this long.
    status_hold_ms = 10_000;
    /// A status that the registry did not accept is sent again after this.
    status_retry_ms = 2_000;
    /// The minimum interval between publications that change only a service's latency.
    latency_interval_ms = 10_000;
    /// How often an isolate reports successful calls to the lane after a failure.
    alert_report_ms = 1_000;
    /// How long after a failure it reports that often.
    alert_ms = 30_000;
    /// How often an isolate reports successful calls of a service that is not known to be healthy.
    unsure_report_ms = 2_000;
    /// How often an isolate reports successful calls of a healthy service.
    healthy_report_ms = 30_000;
    /// Events that the hub or its shards did not accept are sent again after this.
    event_retry_ms = 5_000;
    /// A published key set is not fetched again for this long, whatever key a token names.
    key_set_interval_ms = 30_000;
    /// The maximum age of a snapshot of the registry for a decision that no store confirms.
    snapshot_max_age_ms = 2_000;
    /// An older snapshot is refreshed in the background.
    snapshot_refresh_ms = 1_000;
    /// A store that has not heard from its registry for this long asks it before it admits a context.
    registry_silence_ms = 30_000;
    /// How often the credentials of open streams and waiting requests are checked.
    credentials_check_ms = 2_000;
    /// The maximum age of the snapshot for that check: one fetch serves all streams of an isolate.
    credentials_max_age_ms = 1_000;
    /// A silent event stream receives a comment this often.
    keep_alive_ms = 15_000;
    /// The same for the stream of an MCP call: only a write shows whether its client still reads.
    call_keep_alive_ms = 2_000;
    /// How often the backlog of an event stream is checked while its client has not read everything.
    backlog_check_ms = 1_000;
    /// How often a session's subscriptions are checked for changes of the lists of MCP servers.
    subscription_check_ms = 3_000;
    /// How often a session's permissions are checked for changes that no event reports.
    permissions_check_ms = 60_000;
    /// The unit of the pause before the gateway listens to an MCP server again. The pause doubles with each failure.
    listen_retry_ms = 1_000;
    /// The longest such pause.
    listen_retry_max_ms = 30_000;
    /// A stream of an MCP server that lasted less than this counts as failed.
    listen_min_ms = 10_000;
    /// A store that did not say whether an input request was answered is asked again after this.
    input_retry_ms = 1_000;
    /// The minimum interval at which the progress of a call is recorded.
    progress_interval_ms = 1_000;
    /// The minimum interval between equal notifications of an MCP server.
    notification_interval_ms = 1_000;
    /// How often an attempt looks for a connection of its service that has room.
    connection_poll_ms = 250;
}

impl Timing {
    /// The smallest and the largest scale.
    pub const SCALES: std::ops::RangeInclusive<f64> = 0.01..=1.0;

    /// All intervals at this fraction of their length.
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
