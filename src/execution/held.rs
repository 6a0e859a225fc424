//! An attempt that stays open while its service speaks: it asks under its lease, and tells of progress.

use serde_json::value::RawValue;

use crate::objects::contexts::messages::{Ask, Reply, Say, Work};
use crate::platform::{Failure, clock};

use super::store::{ask, ask_stubbornly};
use super::{News, Teller};

/// A store is asked for the answer for so long at a time, in milliseconds.
const WAIT_MS: u64 = 20_000;
/// A store that cannot be reached is asked again after this, in milliseconds.
const AGAIN_MS: u64 = 1_000;

pub struct Held<'a> {
    pub tenant: &'a str,
    pub work: &'a Work,
    pub teller: Teller,
}

impl Held<'_> {
    /// Asks whoever made the context, and waits for the answer; nothing when the attempt is over meanwhile.
    pub async fn ask(&self, request: Box<RawValue>) -> Result<Option<Box<RawValue>>, Failure> {
        let (id, lease) = (&self.work.admission.id, self.work.lease);
        let asked = ask_stubbornly(self.tenant, id, Ask::AskFor { id: id.clone(), lease, request }).await?;
        if !matches!(asked, Reply::Changed { .. }) {
            return Ok(None);
        }
        // Whoever waits finds the question at the store.
        self.teller.tell(News::GoesOn);
        loop {
            let hear = Ask::Hear { id: id.clone(), lease, milliseconds: WAIT_MS };
            match ask(self.tenant, id, 0, hear).await {
                Ok(Reply::Heard { input: Some(input) }) => return Ok(Some(input)),
                Ok(Reply::Heard { input: None }) => {}
                Ok(_) => return Ok(None),
                Err(_) => clock::pause(AGAIN_MS).await,
            }
        }
    }

    /// Keeps what the service says of its work, for who is not here to hear it.
    pub async fn progress(&self, data: Box<RawValue>) {
        let (id, lease) = (&self.work.admission.id, self.work.lease);
        let say = Say::Beat { lease_ms: None, progress: Some(data) };
        // It is told again with the next.
        let _ = ask(self.tenant, id, 0, Ask::CallBack { id: id.clone(), lease, say }).await;
    }
}
