//! Passes a request to the core, which answers it as in the object.

use narthex_core::base::time::Timestamp;
use narthex_core::context_store::memory::MemoryStorage;
use narthex_core::context_store::{ContextRequest, ContextStore, StorageError};

use crate::messages::{Ask, Reply};

/// Answers a message to a store.
pub fn answer(
    contexts: &mut ContextStore<MemoryStorage>,
    ask: Ask,
    now: Timestamp,
    random: u64,
) -> Result<Reply, StorageError> {
    Ok(match ask {
        Ask::Admit(request) => Reply::Admit(request.answer(contexts, now, random)?),
        Ask::Commit(request) => Reply::Commit(request.answer(contexts, now, random)?),
        Ask::Lease(request) => Reply::Lease(request.answer(contexts, now, random)?),
        Ask::Renew(request) => Reply::Renew(request.answer(contexts, now, random)?),
        Ask::Claim(request) => Reply::Claim(request.answer(contexts, now, random)?),
        Ask::Refuse(request) => Reply::Change(request.answer(contexts, now, random)?),
        Ask::CallBack(request) => Reply::CallBack(request.answer(contexts, now, random)?),
        Ask::Answer(request) => Reply::Change(request.answer(contexts, now, random)?),
        Ask::Cancel(request) => Reply::Cancel(request.answer(contexts, now, random)?),
        Ask::Get(request) => Reply::Context(request.answer(contexts, now, random)?),
        Ask::Record(request) => {
            request.answer(contexts, now, random)?;
            Reply::Done
        }
        Ask::PutBack(request) => {
            request.answer(contexts, now, random)?;
            Reply::Done
        }
        Ask::Sweep => {
            let mut seed = random;
            contexts.sweep(now, || {
                seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                seed >> 11
            });
            Reply::Done
        }
    })
}
