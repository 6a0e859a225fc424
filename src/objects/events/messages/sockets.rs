//! The messages that open a socket of a hub or a shard.

use std::fmt;

use serde::{Deserialize, Serialize};

use narthex_core::events::fanout::ShardNumber;
use narthex_core::events::filter::Filter;
use narthex_core::events::sequence::Sequence;
use narthex_core::events::subscribers::Form;
use narthex_core::events::viewer::Viewer;

/// The message that opens a socket, sent with the upgrade.
#[derive(Debug, Serialize, Deserialize)]
pub struct Open {
    pub viewer: Viewer,
    pub filter: Filter,
    /// Resumes after this sequence; without it, the stream starts with the next event.
    #[serde(default)]
    pub after: Option<Sequence>,
    /// The one subject that this socket may see, whatever it subscribes to later.
    #[serde(default)]
    pub bound_to: Option<String>,
    #[serde(default)]
    pub form: Form,
    /// The shard that must accept the socket; without it, the hub decides.
    #[serde(default, with = "zero_if_none")]
    pub shard: Option<ShardNumber>,
    /// Headers of the response, as `name\nvalue\n…`.
    pub headers: String,
}

/// The hub's reply when a shard must accept the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redirection {
    pub shard: ShardNumber,
    /// The hub's position. The shard may lag behind it.
    pub last: Sequence,
}

impl Redirection {
    pub fn parse(text: &str) -> Option<Self> {
        let (shard, last) = text.split_once(' ')?;
        Some(Self { shard: ShardNumber::parse(shard)?, last: Sequence::parse(last)? })
    }
}

impl fmt::Display for Redirection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.shard, self.last)
    }
}

/// A shard is sent as its number, and none as 0.
mod zero_if_none {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::ShardNumber;

    pub fn serialize<S: Serializer>(shard: &Option<ShardNumber>, serializer: S) -> Result<S::Ok, S::Error> {
        shard.map_or(0, ShardNumber::get).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ShardNumber>, D::Error> {
        u16::deserialize(deserializer).map(ShardNumber::new)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn open(members: Value) -> Open {
        serde_json::from_value(members).unwrap()
    }

    // Other versions of the Worker send and read these forms during a deployment.
    #[test]
    fn other_versions_read_the_message_that_opens_a_socket() {
        let viewer = json!({"tenant": "default", "principal": "key:a", "sees_all": false, "until": null});
        let at_hub = json!({"viewer": viewer, "filter": {}, "after": null, "bound_to": null, "form": "message",
                            "shard": 0, "headers": ""});
        let at_shard = json!({"viewer": viewer, "filter": {}, "after": 4, "bound_to": "a", "form": "frame",
                              "shard": 3, "headers": "a\nb\n"});
        for sent in [&at_hub, &at_shard] {
            assert_eq!(serde_json::to_value(open(sent.clone())).unwrap(), *sent);
        }
        assert_eq!(open(at_hub).shard, None);
        assert_eq!(open(at_shard).shard, ShardNumber::new(3));
        let older = open(json!({"viewer": viewer, "filter": {}, "headers": ""}));
        assert_eq!((older.after, older.form, older.shard), (None, Form::Message, None));
    }

    #[test]
    fn a_redirection_names_a_shard_and_a_position() {
        let redirection = Redirection::parse("3 7").unwrap();
        assert_eq!(redirection.to_string(), "3 7");
        assert_eq!((redirection.shard.get(), redirection.last.get()), (3, 7));
        for text in ["", "3", "0 7", "x 7", "70000 7", "3 x", "3 7 1", "-1 7"] {
            assert_eq!(Redirection::parse(text), None, "{text}");
        }
    }
}
