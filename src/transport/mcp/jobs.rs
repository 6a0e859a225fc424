//! A tool that its server runs as a task only: the gateway begins the task, looks at it, and has its result. What it asks
//! comes on the stream of its result.

use serde_json::json;

use crate::platform::{clock, tasks};
use narthex_core::mcp::client::elicitation;
use narthex_core::mcp::client::request::UpstreamRequest;
use narthex_core::mcp::client::response::ResponseError;
use narthex_core::mcp::client::result::RequestOutcome;
use narthex_core::mcp::client::task::{Job, TaskState, unrelated, with_tasks};

use super::super::observer::CallObserver;
use super::tools::Calling;
use super::{NOTICE_MS, Peer, ask};

/// How much longer than its context a task is kept, in milliseconds.
const KEPT_MS: u64 = 60_000;
/// Times that looking at a task may fail: it goes on all the same.
const MAX_FAILED: u32 = 10;
/// Before that is tried again, doubled each time, in milliseconds.
const AGAIN_MS: u64 = 200;

fn strange() -> RequestOutcome {
    RequestOutcome::Invalid(ResponseError::NoMessage("what it says of a task cannot be read".into()))
}

/// A task that goes on at its server, and is cancelled with this.
struct Going {
    peer: Peer,
    id: String,
    is_over: bool,
}

impl Drop for Going {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let (peer, params) = (self.peer.clone(), json!({"taskId": self.id}).to_string());
        tasks::spawn(async move {
            let until = clock::now().plus_ms(NOTICE_MS);
            if let Ok(asked) = ask(&peer, &UpstreamRequest::new("tasks/cancel", &params), &[], until, false).await {
                let _ = asked.response().await;
            }
        });
    }
}

impl<O: CallObserver> Calling<'_, O> {
    /// Calls a tool as a task. `name` and `arguments` are JSON.
    pub(super) async fn as_task(&mut self, peer: &Peer, name: &str, arguments: &str) -> RequestOutcome {
        let ttl = self.expires_at().since(clock::now()) + KEPT_MS;
        let params = format!(r#"{{"name":{name},"arguments":{arguments},"task":{{"ttl":{ttl}}}}}"#);
        let came = self.once(peer, "tools/call", &params, &[]).await;
        let RequestOutcome::Answered(Ok(result)) = &came else { return came };
        // It may be over already.
        let Some(job) = Job::begun(result) else { return came };
        let mut going = Going { peer: peer.clone(), id: job.id.clone(), is_over: false };
        let came = self.see_through(peer, job).await;
        going.is_over = matches!(came, RequestOutcome::Answered(_));
        match came {
            RequestOutcome::Answered(Ok(result)) => RequestOutcome::Answered(Ok(unrelated(&result))),
            other => other,
        }
    }

    /// Calls a tool of a modern server that has said that it runs it as a task only. `params` are those of the call.
    pub(super) async fn as_modern_task(
        &mut self,
        peer: &Peer,
        params: &str,
        headers: &[(String, String)],
    ) -> RequestOutcome {
        let peer = &Peer { able: with_tasks(&peer.able), ..peer.clone() };
        let mut came = self.once(peer, "tools/call", params, headers).await;
        let mut going: Option<Going> = None;
        let mut failed = 0;
        loop {
            let stands = match &came {
                RequestOutcome::Answered(Ok(result)) => TaskState::read(result),
                RequestOutcome::Transport(_) if going.is_some() && failed < MAX_FAILED && self.has_time() => {
                    failed += 1;
                    clock::pause(AGAIN_MS << failed.min(4)).await;
                    None
                }
                _ => return came,
            };
            let (job, asks) = match stands {
                Some(TaskState::Ended(response)) => {
                    going.iter_mut().for_each(|going| going.is_over = true);
                    return RequestOutcome::Answered(response);
                }
                Some(TaskState::Goes(job)) => (Some(job), false),
                Some(TaskState::Asks(job)) => (Some(job), true),
                None if going.is_none() => return came,
                None => (None, false),
            };
            if let Some(job) = job {
                going.get_or_insert_with(|| Going { peer: peer.clone(), id: job.id.clone(), is_over: false });
                if asks && let Err(came) = self.asked_by_task(peer, &job.id, &came).await {
                    return came;
                }
                clock::pause(job.poll_ms).await;
            }
            let id = going.as_ref().map(|going| going.id.as_str()).unwrap_or_default();
            came = self.once(peer, "tasks/get", &json!({"taskId": id}).to_string(), &[]).await;
        }
    }

    /// A task asks for what `came` has: whoever called is asked, and the task is told.
    async fn asked_by_task(&mut self, peer: &Peer, id: &str, came: &RequestOutcome) -> Result<(), RequestOutcome> {
        let broken = strange;
        let RequestOutcome::Answered(Ok(result)) = came else { return Err(broken()) };
        let request = elicitation::of_result(result).ok().and_then(|asked| asked.request).ok_or_else(broken)?;
        let Some(input) = self.put(request).await else { return Err(broken()) };
        let responses = elicitation::responses(&input).ok_or_else(broken)?;
        let params = format!(r#"{{"taskId":{},"inputResponses":{responses}}}"#, json!(id));
        match self.once(peer, "tasks/update", &params, &[]).await {
            RequestOutcome::Answered(Ok(_)) => Ok(()),
            came => Err(came),
        }
    }

    async fn see_through(&mut self, peer: &Peer, mut job: Job) -> RequestOutcome {
        let params = json!({"taskId": job.id}).to_string();
        let mut failed = 0;
        loop {
            if job.is_ready {
                match self.once(peer, "tasks/result", &params, &[]).await {
                    RequestOutcome::Transport(_) if failed < MAX_FAILED && self.has_time() => failed += 1,
                    came => return came,
                }
            }
            clock::pause(job.poll_ms << failed.min(4)).await;
            match self.once(peer, "tasks/get", &params, &[]).await {
                RequestOutcome::Answered(Ok(result)) => match Job::read(&result) {
                    Some(seen) => job = Job { id: job.id, ..seen },
                    None => return strange(),
                },
                RequestOutcome::Transport(_) if failed < MAX_FAILED && self.has_time() => {
                    failed += 1;
                    job.is_ready = false;
                }
                came => return came,
            }
        }
    }
}
