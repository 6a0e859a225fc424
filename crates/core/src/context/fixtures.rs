//! Contexts for tests.

use semver::Version;

use crate::base::id::{ContextId, Region, StoreId};
use crate::base::principal_id::PrincipalId;
use crate::base::tenant_id::TenantId;
use crate::base::time::Timestamp;
use crate::context::Admission;
use crate::context::lease::LeaseNumber;
use crate::context::retry::Retry;
use crate::context::status::{Priority, Source};

/// How long the deadline is after the creation, in milliseconds.
pub const LIFETIME_MS: u64 = 60_000;

/// The number of the `n`th lease of a context, from 1.
pub fn lease_number(n: u64) -> LeaseNumber {
    (1..n).fold(LeaseNumber::FIRST, |number, _| number.next())
}

/// An admission for version 1.0.0 of `echo` at the service `one`, with every optional part absent. `number` tells ids
/// apart that have the same creation time.
pub fn admission(number: u8, created_at: Timestamp) -> Admission {
    let store = StoreId { region: Region::Eu, shard: 0 };
    Admission {
        content: Default::default(),
        id: ContextId::new(store, created_at, [number; 10]),
        tenant: TenantId::first(),
        owner: PrincipalId::of_key("a"),
        capability: "echo".into(),
        owner_name: None,
        replay_of: None,
        asked_service: None,
        asked_version: None,
        asked_tags: Vec::new(),
        service: "one".into(),
        version: Version::new(1, 0, 0),
        price: None,
        role: "caller".into(),
        counted_model: None,
        idempotent: false,
        retry: Retry::default(),
        priority: Priority::Normal,
        source: Source::User,
        metadata: None,
        idempotency_key: None,
        created_at,
        expires_at: created_at.plus_ms(LIFETIME_MS),
        run_at: None,
        trace: String::new(),
        trace_state: None,
        client: None,
        session: None,
        unasked: false,
        log_level: None,
        meta: None,
        origin: String::new(),
    }
}
