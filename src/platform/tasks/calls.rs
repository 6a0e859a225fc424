//! Which families of tasks a stop of the gateway waits for.

use super::LOOP;

/// Whether a stop of the gateway waits for the family of the task that is polled.
pub fn count_as_call(is_call: bool) {
    LOOP.with(|tasks| {
        if let Some(family) = tasks.families.borrow_mut().get_mut(&tasks.family.get()) {
            family.is_call = is_call;
        }
    });
}

/// The number of families that a stop of the gateway waits for.
pub fn running_calls() -> usize {
    LOOP.with(|tasks| tasks.families.borrow().values().filter(|family| family.is_call).count())
}
