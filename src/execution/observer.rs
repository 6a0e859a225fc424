//! The client's side of an attempt: it receives the pieces, progress and notifications of the call, and answers what
//! the service asks under the attempt's lease.

use serde_json::value::RawValue;

use crate::objects::contexts::messages::{Ask, Reply, Say, Work};
use crate::platform::{Failure, clock};
use crate::transport::observer::{CallObserver, Notice};

use super::live::Live;
use super::notices::{self, Voice};
use super::store::{ask, ask_stubbornly};
use super::{News, Teller};

/// A store is asked for the answer for so long at a time, in milliseconds.
const WAIT_MS: u64 = 20_000;
/// A store that cannot be reached is asked again after this, in milliseconds.
const AGAIN_MS: u64 = 1_000;

pub struct Observer<'a> {
    tenant: &'a str,
    work: &'a Work,
    live: Option<&'a Live>,
    teller: Teller,
    voice: Option<Voice>,
}

impl<'a> Observer<'a> {
    pub fn new(tenant: &'a str, work: &'a Work, live: Option<&'a Live>, teller: Teller) -> Self {
        Self { tenant, work, live, teller, voice: None }
    }

    /// Lets clients of this request receive the notifications of the call.
    pub fn publishing(self) -> Self {
        Self { voice: Some(notices::speak(&self.work.admission.id)), ..self }
    }
}

impl CallObserver for Observer<'_> {
    fn waits(&self) -> bool {
        self.teller.waits()
    }

    fn streams(&self) -> bool {
        self.live.is_some()
    }

    fn delta(&self, data: &str) {
        if let Some(live) = self.live {
            live.delta(data);
        }
    }

    fn notify(&self, notice: Notice) -> bool {
        self.voice.as_ref().is_some_and(|voice| voice.say(notice))
    }

    async fn ask(&self, request: Box<RawValue>) -> Result<Option<Box<RawValue>>, Failure> {
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

    async fn progress(&self, data: Box<RawValue>) {
        let (id, lease) = (&self.work.admission.id, self.work.lease);
        let say = Say::Beat { lease_ms: None, progress: Some(data) };
        // It is told again with the next.
        let _ = ask(self.tenant, id, 0, Ask::CallBack { id: id.clone(), lease, say }).await;
    }
}
