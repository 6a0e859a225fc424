//! `POST /v1/messages/count_tokens`: asks the provider, or estimates. It makes no context.

use serde_json::json;

use crate::platform::http::Headers;
use crate::platform::relay::Piece;
use crate::platform::{clock, tasks};
use narthex_core::http::problem::Problem;
use narthex_core::models::endpoint::Endpoint;
use narthex_core::models::token_usage::estimate;

use super::super::answer::Answer;
use super::super::call::{Call, Caller};
use super::super::limits::{self, Charge};
use super::attempt::{self, Target};
use super::beginning::ResponseStart;
use super::{intake, refusal, selection};

/// How long counting may take, in milliseconds.
const TIMEOUT_MS: u64 = 30_000;

pub async fn count_tokens(call: &Call, mut caller: Caller) -> Result<Answer, Problem> {
    let endpoint = Endpoint::CountTokens;
    // What is held is released although the client leaves.
    let _stay = tasks::stay();
    let mut intake = intake::read(call, endpoint).await?;
    intake.head.streams = false;
    let (model, head) = (intake.model.clone(), intake.head.clone());
    let found = match selection::select(call, &mut caller, endpoint, &model, &head).await {
        Ok(found) => found,
        Err(problem) => {
            // A model of the other format has no such endpoint, but its tokens can be estimated.
            selection::select(call, &mut caller, Endpoint::Chat, &model, &head).await.map_err(|_| problem)?;
            return estimated(call, intake.bytes);
        }
    };
    let deadline = clock::now().plus_ms(TIMEOUT_MS);
    let route = found.route.clone();
    let mut last = None;
    for (at, wanted) in found.targets.iter().enumerate() {
        let snapshot = caller.snapshot.clone();
        let Some(entry) = snapshot.services.get(wanted.service) else { continue };
        let settings = route.as_ref().map(|route| &route.settings);
        let Some(mut target) = Target::of(entry, wanted, settings).await else { continue };
        if at > 0 {
            call.limits.begin_next(Charge::SameRequest);
        }
        limits::work(call, &caller.principal, &snapshot, &entry.service().id, endpoint.capability()).await?;
        match attempt::call(call, entry, &mut target, endpoint, &mut intake, deadline).await? {
            Ok(ResponseStart::Whole { pieces, .. }) => {
                let bytes = pieces.iter().flat_map(Piece::to_vec).collect();
                let text = String::from_utf8(bytes).unwrap_or_default();
                return Ok(Answer::text(200, super::super::answer::JSON, text)
                    .with("x-narthex-service", entry.service().id.as_str())
                    .with("request-id", &call.request_id));
            }
            Ok(ResponseStart::Document { .. } | ResponseStart::Events { .. }) => continue,
            Err(failed) => {
                let moves_on = failed.kind.moves_on(&target.settings) && intake.rest.is_none();
                last = Some(failed);
                if !moves_on {
                    break;
                }
            }
        }
    }
    match last {
        Some(failed) => Ok(refusal::of_failure(call, endpoint, &failed, Headers::default())),
        None => estimated(call, intake.bytes),
    }
}

fn estimated(call: &Call, bytes: u64) -> Result<Answer, Problem> {
    let answer = Answer::json(200, &json!({"input_tokens": estimate(bytes)}))?;
    Ok(answer.with("x-narthex-estimated", "true").with("request-id", &call.request_id))
}
