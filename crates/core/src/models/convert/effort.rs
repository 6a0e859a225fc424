//! How much a model reasons: OpenAI's effort, and Anthropic's thinking.
//!
//! | effort | `budget_tokens` | `output_config.effort` |
//! |---|---|---|
//! | `none` | `thinking` is `disabled` | `thinking` is `disabled` |
//! | `minimal` | 1,024 | `low` |
//! | `low` | 4,096 | `low` |
//! | `medium` | 8,192 | `medium` |
//! | `high` | 16,384 | `high` |
//! | `xhigh` | 32,768 | `xhigh` |
//! | `max` | 65,536 | `max` |
//!
//! Claude models from version 4.6 get the last column, with `"thinking": {"type": "adaptive"}`: they no longer take
//! budgets, or will not for long. All others get a budget: at most half of `max_tokens`, at least 1,024, and none where
//! `max_tokens` leaves no room for it.
//!
//! The other way, `output_config.effort` counts where it is stated; else a budget below 8,192 is `low`, below 16,384
//! `medium`, and `high` from there on. `minimal`, `xhigh` and `max` are not used, because many models refuse them.

use serde_json::{Map, Value, json};

/// The smallest budget that Anthropic takes.
const LEAST: u64 = 1_024;
const BUDGETS: [(&str, u64, &str); 6] = [
    ("minimal", LEAST, "low"),
    ("low", 4_096, "low"),
    ("medium", 8_192, "medium"),
    ("high", 16_384, "high"),
    ("xhigh", 32_768, "xhigh"),
    ("max", 65_536, "max"),
];
/// The first version of Claude with adaptive thinking.
const ADAPTIVE: (u64, u64) = (4, 6);

/// The version in the name of a Claude model, such as `claude-opus-4-6` or `claude-3-7-sonnet-20250219`.
fn version(model: &str) -> Option<(u64, u64)> {
    let (_, name) = model.split_once("claude-")?;
    let mut numbers = name
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .map(|part| part.parse::<u64>().ok().filter(|number| *number < 100))
        .skip_while(Option::is_none);
    let major = numbers.next()??;
    Some((major, numbers.next().flatten().unwrap_or_default()))
}

/// What the reasoning of a request depends on beside the effort.
#[derive(Debug, Clone, Copy)]
pub struct Conditions<'a> {
    pub model: &'a str,
    pub max_tokens: u64,
    /// The client is shown a summary of the reasoning.
    pub is_shown: bool,
    /// The results of tools come last, and the call of these tools comes without the thinking before it: with a budget,
    /// Anthropic refuses that.
    pub lacks_thinking: bool,
}

/// Sets the members of Anthropic's format. Returns whether the effort is known.
pub fn to_thinking(effort: &str, conditions: &Conditions, to: &mut Map<String, Value>) -> bool {
    if effort == "none" {
        to.insert("thinking".into(), json!({"type": "disabled"}));
        return true;
    }
    let Some((_, budget, level)) = BUDGETS.iter().find(|(name, ..)| *name == effort) else { return false };
    if version(conditions.model).is_some_and(|version| version >= ADAPTIVE) {
        let mut thinking = json!({"type": "adaptive"});
        if let Some(members) = thinking.as_object_mut().filter(|_| conditions.is_shown) {
            members.insert("display".into(), "summarized".into());
        }
        to.insert("thinking".into(), thinking);
        let config = to.entry("output_config").or_insert_with(|| json!({}));
        if let Some(members) = config.as_object_mut() {
            members.insert("effort".into(), (*level).into());
        }
    } else if conditions.max_tokens > LEAST && !conditions.lacks_thinking {
        let budget = (*budget).min(conditions.max_tokens / 2).max(LEAST);
        to.insert("thinking".into(), json!({"type": "enabled", "budget_tokens": budget}));
    }
    true
}

/// The effort for a budget.
pub fn of_budget(budget: u64) -> &'static str {
    match budget {
        0..8_192 => "low",
        8_192..16_384 => "medium",
        _ => "high",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thinking(effort: &str, model: &str, max_tokens: u64) -> Value {
        let mut to = Map::new();
        let conditions = Conditions { model, max_tokens, is_shown: true, lacks_thinking: false };
        assert!(to_thinking(effort, &conditions, &mut to), "{effort}");
        to.into()
    }

    #[test]
    fn efforts_are_budgets_and_budgets_are_efforts() {
        for (effort, budget, back) in [
            ("minimal", 1_024, "low"),
            ("low", 4_096, "low"),
            ("medium", 8_192, "medium"),
            ("high", 16_384, "high"),
            ("xhigh", 32_768, "high"),
            ("max", 65_536, "high"),
        ] {
            let expected = json!({"thinking": {"type": "enabled", "budget_tokens": budget}});
            assert_eq!(thinking(effort, "claude-haiku-4-5", 200_000), expected);
            assert_eq!(of_budget(budget), back);
        }
        assert_eq!(thinking("none", "claude-haiku", 4_096), json!({"thinking": {"type": "disabled"}}));
        let conditions = Conditions { model: "m", max_tokens: 9_000, is_shown: true, lacks_thinking: false };
        assert!(!to_thinking("enormous", &conditions, &mut Map::new()));
    }

    #[test]
    fn a_budget_leaves_room_for_the_answer() {
        let budget = |max_tokens| thinking("high", "claude-haiku", max_tokens)["thinking"]["budget_tokens"].clone();
        assert_eq!(budget(8_000), 4_000);
        assert_eq!(budget(1_500), 1_024);
        assert_eq!(budget(1_024), Value::Null);
    }

    #[test]
    fn newer_models_think_adaptively() {
        let adaptive = json!({"thinking": {"type": "adaptive", "display": "summarized"},
                              "output_config": {"effort": "low"}});
        for model in ["claude-opus-4-6", "claude-sonnet-5", "us.anthropic.claude-opus-4-7-v1:0", "claude-fable-5-2"] {
            assert_eq!(thinking("minimal", model, 1_000), adaptive, "{model}");
        }
        for (model, known) in [
            ("claude-3-7-sonnet-20250219", Some((3, 7))),
            ("claude-sonnet-4-20250514", Some((4, 0))),
            ("claude-opus-4-5@20251101", Some((4, 5))),
            ("claude-haiku", None),
            ("other-9", None),
        ] {
            assert_eq!(version(model), known, "{model}");
        }
    }
}
