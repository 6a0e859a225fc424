//! Calls of objects that are made again after a failure. The core decides which, and after which pause.

use std::future::Future;

use crate::platform::clock;
use crate::platform::objects::CallError;
use narthex_core::base::retries::Retries;

/// As [`Retries::allow`], after the pause before the call is made again.
pub async fn pause_after(retries: &mut Retries, error: &CallError) -> bool {
    let is_allowed = retries.allow(error.fault());
    if is_allowed {
        clock::pause(retries.pause_ms()).await;
    }
    is_allowed
}

/// Repeats a call that has no effect when repeated, with increasing pauses.
pub async fn with_retries<T, F>(max: u32, mut call: impl FnMut() -> F) -> Result<T, CallError>
where
    F: Future<Output = Result<T, CallError>>,
{
    let mut retries = Retries::up_to(max);
    loop {
        match call().await {
            Err(error) => {
                if !pause_after(&mut retries, &error).await {
                    return Err(error);
                }
            }
            reply => return reply,
        }
    }
}
