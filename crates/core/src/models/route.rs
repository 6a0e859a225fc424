//! Model routes: names under which clients reach one or several models, and how calls of them are made.

use serde::{Deserialize, Serialize};

use crate::base::content::Content;
use crate::base::json::{Fault, Object, child};
use crate::base::model_name::is_model_name;
use crate::base::service_id::ServiceId;

/// The most targets of a route.
const MAX_TARGETS: usize = 20;
/// The most routes of a tenant.
pub const MAX_ROUTES: usize = 500;

/// What decides which of several equal targets serves a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Affinity {
    /// All turns of a conversation have the same one, whose cache knows its beginning.
    #[default]
    Conversation,
    /// Drawn for each request, by weight.
    None,
}

/// Failures after which another target is tried, in addition to those that say nothing about the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FallbackOn {
    Auth,
    NotFound,
    ContextLength,
    ContentFilter,
}

/// What happens to the call of a client that leaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnDisconnect {
    /// It is ended, and what it has used is estimated.
    #[default]
    Abort,
    /// It is read to its end for a while, for its usage.
    Drain,
}

/// How calls of models are made. What is not named has the value of the service's transport, and then the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct CallSettings {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_on: Option<Vec<FallbackOn>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_disconnect: Option<OnDisconnect>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_idle_seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_piece_seconds: Option<u64>,
}

/// The default time that a stream may be silent, in seconds.
const STREAM_IDLE_SECONDS: u64 = 120;
/// The default time until the first piece of a stream, and until a response in one piece begins, in seconds.
const FIRST_PIECE_SECONDS: u64 = 30;
const WHOLE_SECONDS: u64 = 600;

impl CallSettings {
    /// Reads the members of a route, or of a transport.
    pub fn read(from: &mut Object<'_>) -> Self {
        Self {
            affinity: from.parsed("affinity", "conversation or none", word),
            fallback_on: read_fallback(from),
            content: from.parsed("content", "full or none", Content::parse),
            on_disconnect: from.parsed("on_disconnect", "abort or drain", word),
            stream_idle_seconds: from.integer("stream_idle_seconds", 1..=600),
            first_piece_seconds: from.integer("first_piece_seconds", 1..=600),
        }
    }

    /// These, and others where these name nothing.
    #[must_use]
    pub fn or(&self, others: &Self) -> Self {
        Self {
            affinity: self.affinity.or(others.affinity),
            fallback_on: self.fallback_on.clone().or_else(|| others.fallback_on.clone()),
            content: self.content.or(others.content),
            on_disconnect: self.on_disconnect.or(others.on_disconnect),
            stream_idle_seconds: self.stream_idle_seconds.or(others.stream_idle_seconds),
            first_piece_seconds: self.first_piece_seconds.or(others.first_piece_seconds),
        }
    }

    pub fn falls_back_on(&self, failure: FallbackOn) -> bool {
        self.fallback_on.as_ref().is_some_and(|named| named.contains(&failure))
    }

    /// How long a stream may be silent, in milliseconds.
    pub fn stream_idle_ms(&self) -> u64 {
        self.stream_idle_seconds.unwrap_or(STREAM_IDLE_SECONDS) * 1_000
    }

    /// How long the first piece may take, in milliseconds.
    pub fn first_piece_ms(&self, streams: bool) -> u64 {
        self.first_piece_seconds.unwrap_or(if streams { FIRST_PIECE_SECONDS } else { WHOLE_SECONDS }) * 1_000
    }
}

/// A word of the API as its value.
fn word<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_value(text.into()).ok()
}

fn read_fallback(from: &mut Object<'_>) -> Option<Vec<FallbackOn>> {
    let at = from.pointer_to("fallback_on");
    let names = from.strings("fallback_on", 4, 50)?;
    let mut all = Vec::new();
    for (index, name) in names.iter().enumerate() {
        match word(name) {
            Some(failure) => all.push(failure),
            None => {
                let detail = "must be auth, not_found, context_length or content_filter";
                from.faults([Fault::new(child(&at, &index.to_string()), detail)]);
            }
        }
    }
    Some(all)
}

/// One of the models that a route leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct RouteTarget {
    pub service: ServiceId,
    /// The name of the model at the service.
    pub model: String,
    /// Higher tiers are fallbacks.
    pub tier: u64,
    pub weight: u64,
}

/// A route as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct ModelRoute {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    pub targets: Vec<RouteTarget>,
    #[serde(flatten)]
    pub settings: CallSettings,
}

/// Reads the body of a route. Returns every fault.
///
/// # Errors
/// The faults.
pub fn read(text: &str) -> Result<ModelRoute, Vec<Fault>> {
    let mut body = Object::new(text, "#").map_err(|fault| vec![fault])?;
    let description = body.string("description", 0..=1000).unwrap_or_default();
    let targets = body.array("targets", 1..=MAX_TARGETS);
    let targets = body.require("targets", targets).unwrap_or_default();
    let at = body.pointer_to("targets");
    let mut read: Vec<RouteTarget> = Vec::new();
    for (index, raw) in targets.into_iter().enumerate() {
        let pointer = child(&at, &index.to_string());
        match Object::new(raw.get(), &pointer) {
            Ok(mut one) => {
                let target = read_target(&mut one);
                body.absorb(one);
                let same = |known: &RouteTarget, new: &RouteTarget| {
                    (&known.service, &known.model) == (&new.service, &new.model)
                };
                if target.as_ref().is_some_and(|target| read.iter().any(|known| same(known, target))) {
                    body.faults([Fault::new(pointer, "is listed twice")]);
                }
                read.extend(target);
            }
            Err(fault) => body.faults([fault]),
        }
    }
    // What a response shows.
    for name in ["name", "created_at", "updated_at"] {
        body.raw_or_null(name);
    }
    let settings = CallSettings::read(&mut body);
    let faults = body.finish();
    if faults.is_empty() { Ok(ModelRoute { description, targets: read, settings }) } else { Err(faults) }
}

fn read_target(one: &mut Object<'_>) -> Option<RouteTarget> {
    let service = one.parsed("service", "the id of a service", ServiceId::parse);
    let service = one.require("service", service);
    let expected = "1 to 128 printable ASCII characters without blanks and commas";
    let model = one.parsed("model", expected, |text| is_model_name(text).then(|| text.to_string()));
    let model = one.require("model", model);
    let tier = one.integer("tier", 0..=9).unwrap_or(0);
    let weight = one.integer("weight", 1..=1000).unwrap_or(1);
    Some(RouteTarget { service: service?, model: model?, tier, weight })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_read_with_all_its_faults() {
        let text = r#"{"description":"d","targets":[{"service":"a","model":"m:1"},{"service":"b","model":"m","tier":1,"weight":3}],
            "affinity":"none","fallback_on":["context_length"],"content":"none","on_disconnect":"drain",
            "first_piece_seconds":5}"#;
        let route = read(text).unwrap();
        assert_eq!((route.targets[1].tier, route.targets[1].weight, route.targets[0].weight), (1, 3, 1));
        assert!(route.settings.falls_back_on(FallbackOn::ContextLength));
        assert_eq!((route.settings.first_piece_ms(true), route.settings.stream_idle_ms()), (5_000, 120_000));
        let again = read(&serde_json::to_string(&route).unwrap()).unwrap();
        assert_eq!(again, route);
        for (text, pointers) in [
            ("{}", "#/targets"),
            (r#"{"targets":[]}"#, "#/targets"),
            (
                r#"{"targets":[{"service":"A b","model":"m"},{"service":"a","model":"m m"}]}"#,
                "#/targets/0/service #/targets/1/model",
            ),
            (r#"{"targets":[{"service":"a","model":"m"},{"service":"a","model":"m"}]}"#, "#/targets/1"),
            (
                r#"{"targets":[{"service":"a","model":"m"}],"affinity":"x","fallback_on":["y"],"content":"some","more":1}"#,
                "#/affinity #/fallback_on/0 #/content #/more",
            ),
        ] {
            let found: Vec<String> = read(text).unwrap_err().into_iter().map(|fault| fault.pointer).collect();
            assert_eq!(found.join(" "), pointers, "{text}");
        }
    }

    #[test]
    fn what_a_route_does_not_name_has_the_value_of_the_transport() {
        let transport =
            CallSettings { stream_idle_seconds: Some(7), first_piece_seconds: Some(9), ..CallSettings::default() };
        let route = CallSettings { first_piece_seconds: Some(3), ..CallSettings::default() };
        let both = route.or(&transport);
        assert_eq!((both.stream_idle_ms(), both.first_piece_ms(false)), (7_000, 3_000));
        assert_eq!(
            (CallSettings::default().first_piece_ms(true), CallSettings::default().first_piece_ms(false)),
            (30_000, 600_000)
        );
    }
}
