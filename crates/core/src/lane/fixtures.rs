//! Values for tests.

use crate::base::id::{ContextId, Region, StoreId};
use crate::base::principal_id::PrincipalId;
use crate::base::time::Timestamp;
use crate::context::status::Priority;

use super::queue::Waiter;

pub const NOW: Timestamp = Timestamp(1_800_000_000_000);

pub fn context(number: u64) -> ContextId {
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    ContextId::new(StoreId { region: Region::default(), shard: 0 }, NOW, bytes)
}

pub fn waiter(number: u64) -> Waiter {
    let deadline = NOW.plus_ms(3_600_000);
    let (principal, priority) = (PrincipalId::of_key("a"), Priority::Normal);
    Waiter { context: context(number), principal, priority, deadline, admitted: false }
}
