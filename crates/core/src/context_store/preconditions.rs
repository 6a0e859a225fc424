//! The conditions under which a store answers a request: the revision of the sender, and the age of its own
//! (`crate::registry::known_revision`).

/// The condition on the revision of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// The store answers under any revision: the request concerns past events, or what a lease permits.
    AnyRevision,
    /// The revision is the content: the registry pushes it.
    Pushed,
    /// The store answers unless it knows a newer revision than the sender, which then decides again with a newer
    /// snapshot.
    KnownRevision,
}

/// How recently a store must have asked the registry for its revision before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// No check is required.
    None,
    /// Recently. If the registry cannot be reached, the store answers anyway.
    Wanted,
    /// Recently. If the registry cannot be reached, the store does not answer.
    Needed,
}
