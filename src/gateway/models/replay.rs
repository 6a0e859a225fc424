//! The replay of a call by an endpoint of models: a context for the first target that its model has now.

use std::collections::BTreeMap;

use serde_json::value::{RawValue, to_raw_value};

use super::super::call::Caller;
use super::selection::{targets, unknown};
use narthex_core::base::service_id::ServiceId;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::models::endpoint::Endpoint;

/// The service and the parameters of the context: the request with the model as its service names it, without what asks
/// for a stream.
///
/// # Errors
/// No service has the model in the format of the request.
pub fn request(
    caller: &Caller,
    capability: &str,
    parameters: &RawValue,
) -> Result<(ServiceId, Box<RawValue>), Problem> {
    let unreadable = || Problem::internal("a kept request is unreadable");
    let mut members: BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(parameters.get()).map_err(|_| unreadable())?;
    let model = members.get("model").and_then(|model| serde_json::from_str::<String>(model.get()).ok());
    let model = model.ok_or_else(unreadable)?;
    let endpoint = Endpoint::USING.into_iter().find(|endpoint| endpoint.capability() == capability);
    let endpoint = endpoint.ok_or_else(unreadable)?;
    let found = targets(caller, endpoint, &model).map_err(|_| unknown(&model))?;
    let target = found.targets.iter().find(|target| target.endpoint == endpoint).ok_or_else(|| {
        let detail = format!("No service has the model {model:?} in the format of this request now.");
        Problem::new(Code::Conflict, detail)
    })?;
    let entry = caller.snapshot.services.get(target.service).ok_or_else(unreadable)?;
    members.insert("model".into(), to_raw_value(&target.model).map_err(|_| unreadable())?);
    members.remove("stream");
    members.remove("stream_options");
    Ok((entry.service().id.clone(), to_raw_value(&members).map_err(|_| unreadable())?))
}
