//! Tools that their server runs only as tasks: the gateway creates the task, polls it and fetches its result. Requests
//! of the server arrive on the stream of the result.

use serde_json::json;

use crate::platform::{clock, tasks};
use narthex_core::mcp::client::elicitation;
use narthex_core::mcp::client::request::UpstreamRequest;
use narthex_core::mcp::client::response::ResponseError;
use narthex_core::mcp::client::result::RequestOutcome;
use narthex_core::mcp::client::task::{Job, TaskState, unrelated, with_tasks};

use super::super::observer::CallObserver;
use super::tools::ToolCall;
use super::{NOTIFY_TIMEOUT_MS, Peer, ask};

/// How much longer than its context a task is kept, in milliseconds.
const EXTRA_TTL_MS: u64 = 60_000;
/// How many requests about a task may fail. The task itself continues.
const MAX_FAILED: u32 = 10;
/// The delay before such a request is repeated, doubled each time, in milliseconds.
const RETRY_DELAY_MS: u64 = 200;

fn unreadable() -> RequestOutcome {
    RequestOutcome::Invalid(ResponseError::NoMessage("its description of a task cannot be read".into()))
}

/// A task that runs at its server. It is cancelled when this is dropped.
struct RunningTask {
    peer: Peer,
    id: String,
    is_over: bool,
}

impl Drop for RunningTask {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let (peer, params) = (self.peer.clone(), json!({"taskId": self.id}).to_string());
        tasks::keep_running(async move {
            let until = clock::now().plus_ms(NOTIFY_TIMEOUT_MS);
            if let Ok(asked) = ask(&peer, &UpstreamRequest::new("tasks/cancel", &params), &[], until, false).await {
                let _ = asked.response().await;
            }
        });
    }
}

impl<O: CallObserver> ToolCall<'_, O> {
    /// Calls a tool as a task. `name` and `arguments` are JSON.
    pub(super) async fn as_task(&mut self, peer: &Peer, name: &str, arguments: &str) -> RequestOutcome {
        let ttl = self.expires_at().since(clock::now()) + EXTRA_TTL_MS;
        let params = format!(r#"{{"name":{name},"arguments":{arguments},"task":{{"ttl":{ttl}}}}}"#);
        let outcome = self.once(peer, "tools/call", &params, &[]).await;
        let RequestOutcome::Answered(Ok(result)) = &outcome else { return outcome };
        // It may have ended already.
        let Some(job) = Job::begun(result) else { return outcome };
        let mut running = RunningTask { peer: peer.clone(), id: job.id.clone(), is_over: false };
        let outcome = self.see_through(peer, job).await;
        running.is_over = matches!(outcome, RequestOutcome::Answered(_));
        match outcome {
            RequestOutcome::Answered(Ok(result)) => RequestOutcome::Answered(Ok(unrelated(&result))),
            other => other,
        }
    }

    /// Calls a tool that a modern server runs only as a task. `params` are those of the call.
    pub(super) async fn as_modern_task(
        &mut self,
        peer: &Peer,
        params: &str,
        headers: &[(String, String)],
    ) -> RequestOutcome {
        let peer = &Peer { current_capabilities: with_tasks(&peer.current_capabilities), ..peer.clone() };
        let mut outcome = self.once(peer, "tools/call", params, headers).await;
        let mut running: Option<RunningTask> = None;
        let mut failed = 0;
        loop {
            let stands = match &outcome {
                RequestOutcome::Answered(Ok(result)) => TaskState::read(result),
                RequestOutcome::Transport(_) if running.is_some() && failed < MAX_FAILED && self.has_time() => {
                    failed += 1;
                    clock::pause(RETRY_DELAY_MS << failed.min(4)).await;
                    None
                }
                _ => return outcome,
            };
            let (job, asks) = match stands {
                Some(TaskState::Ended(response)) => {
                    running.iter_mut().for_each(|running| running.is_over = true);
                    return RequestOutcome::Answered(response);
                }
                Some(TaskState::Goes(job)) => (Some(job), false),
                Some(TaskState::Asks(job)) => (Some(job), true),
                None if running.is_none() => return outcome,
                None => (None, false),
            };
            if let Some(job) = job {
                running.get_or_insert_with(|| RunningTask { peer: peer.clone(), id: job.id.clone(), is_over: false });
                if asks && let Err(outcome) = self.asked_by_task(peer, &job.id, &outcome).await {
                    return outcome;
                }
                clock::pause(job.poll_ms).await;
            }
            let id = running.as_ref().map(|running| running.id.as_str()).unwrap_or_default();
            outcome = self.once(peer, "tasks/get", &json!({"taskId": id}).to_string(), &[]).await;
        }
    }

    /// Forwards the input request of a task to the client, and the answer to the task.
    async fn asked_by_task(&mut self, peer: &Peer, id: &str, outcome: &RequestOutcome) -> Result<(), RequestOutcome> {
        let broken = unreadable;
        let RequestOutcome::Answered(Ok(result)) = outcome else { return Err(broken()) };
        let request = elicitation::of_result(result).ok().and_then(|asked| asked.request).ok_or_else(broken)?;
        let Some(input) = self.ask_client(request).await else { return Err(broken()) };
        let responses = elicitation::responses(&input).ok_or_else(broken)?;
        let params = format!(r#"{{"taskId":{},"inputResponses":{responses}}}"#, json!(id));
        match self.once(peer, "tasks/update", &params, &[]).await {
            RequestOutcome::Answered(Ok(_)) => Ok(()),
            outcome => Err(outcome),
        }
    }

    async fn see_through(&mut self, peer: &Peer, mut job: Job) -> RequestOutcome {
        let params = json!({"taskId": job.id}).to_string();
        let mut failed = 0;
        loop {
            if job.is_ready {
                match self.once(peer, "tasks/result", &params, &[]).await {
                    RequestOutcome::Transport(_) if failed < MAX_FAILED && self.has_time() => failed += 1,
                    outcome => return outcome,
                }
            }
            clock::pause(job.poll_ms << failed.min(4)).await;
            match self.once(peer, "tasks/get", &params, &[]).await {
                RequestOutcome::Answered(Ok(result)) => match Job::read(&result) {
                    Some(seen) => job = Job { id: job.id, ..seen },
                    None => return unreadable(),
                },
                RequestOutcome::Transport(_) if failed < MAX_FAILED && self.has_time() => {
                    failed += 1;
                    job.is_ready = false;
                }
                outcome => return outcome,
            }
        }
    }
}
