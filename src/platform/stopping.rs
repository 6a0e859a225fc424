//! Whether the gateway is being stopped: what runs in the background then takes no further work, and leaves it for the
//! next start. Only a gateway that one process serves is stopped; a deployed one is replaced.

use std::cell::Cell;

thread_local! {
    static STOPPING: Cell<bool> = const { Cell::new(false) };
}

/// Takes no more work from now on.
pub fn begin() {
    STOPPING.set(true);
}

pub fn is_under_way() -> bool {
    STOPPING.get()
}
