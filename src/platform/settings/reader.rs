//! Reads variables, and collects the invalid ones.

use std::cell::RefCell;
use std::ops::RangeInclusive;

use narthex_core::base::id::Region;
use narthex_core::http::egress_address::Origin;
use narthex_core::http::header_name::is_token;
use url::Url;

/// The maximum length of a logged value, in characters.
const MAX_SHOWN: usize = 100;
/// The maximum number of allowed origins.
const MAX_ORIGINS: usize = 64;

/// A variable with an invalid value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    pub variable: &'static str,
    pub value: String,
    /// As in "must be …".
    pub allowed: String,
}

pub(super) struct Reader<'s> {
    source: &'s dyn Fn(&str) -> Option<String>,
    errors: RefCell<Vec<ConfigError>>,
}

impl<'s> Reader<'s> {
    pub(super) fn new(source: &'s dyn Fn(&str) -> Option<String>) -> Self {
        Self { source, errors: RefCell::default() }
    }

    pub(super) fn errors(self) -> Vec<ConfigError> {
        self.errors.into_inner()
    }

    /// An empty variable counts as unset.
    pub(super) fn text(&self, variable: &'static str) -> Option<String> {
        let text = (self.source)(variable)?;
        let trimmed = text.trim();
        (!trimmed.is_empty()).then(|| trimmed.to_string())
    }

    /// The parsed value of a variable. `None` if it is unset or invalid.
    pub(super) fn parsed<T>(
        &self,
        variable: &'static str,
        allowed: impl FnOnce() -> String,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(variable)?;
        let parsed = parse(&text);
        if parsed.is_none() {
            self.fault(variable, &text, allowed());
        }
        parsed
    }

    fn fault(&self, variable: &'static str, value: &str, allowed: String) {
        let value = value.chars().take(MAX_SHOWN).collect();
        self.errors.borrow_mut().push(ConfigError { variable, value, allowed });
    }

    pub(super) fn flag(&self, variable: &'static str, default: bool) -> bool {
        self.parsed(variable, || "`true` or `false`".into(), |text| text.parse().ok()).unwrap_or(default)
    }

    pub(super) fn whole(&self, variable: &'static str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let allowed = || format!("a whole number from {} to {}", range.start(), range.end());
        self.parsed(variable, allowed, |text| text.parse().ok().filter(|number| range.contains(number)))
            .unwrap_or(default)
    }

    pub(super) fn fraction(&self, variable: &'static str, range: RangeInclusive<f64>) -> Option<f64> {
        let allowed = || format!("a number from {} to {}", range.start(), range.end());
        self.parsed(variable, allowed, |text| text.parse().ok().filter(|number| range.contains(number)))
    }

    /// A retention time in whole units. An invalid value means the longest time: deleted data does not come back when
    /// the value is corrected.
    pub(super) fn retention(&self, variable: &'static str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let before = self.errors.borrow().len();
        let longest = *range.end();
        let kept = self.whole(variable, default, range);
        if self.errors.borrow().len() > before { longest } else { kept }
    }

    /// A duration in milliseconds, from a number of units that may have a fraction.
    pub(super) fn span(&self, variable: &'static str, unit: Unit, default_ms: u64, range: RangeInclusive<u64>) -> u64 {
        let allowed =
            || format!("a number of {} from {} to {}", unit.name, unit.of(*range.start()), unit.of(*range.end()));
        let parse = |text: &str| unit.milliseconds(text).filter(|ms| range.contains(ms));
        self.parsed(variable, allowed, parse).unwrap_or(default_ms)
    }

    pub(super) fn spans(&self, variable: &'static str, unit: Unit, default_ms: &[u64], max_ms: u64) -> Vec<u64> {
        let allowed = || format!("numbers of {} from 0 to {}, separated by commas", unit.name, unit.of(max_ms));
        let span = |text: &str| unit.milliseconds(text).filter(|ms| *ms <= max_ms);
        self.parsed(variable, allowed, |list| list.split(',').map(span).collect())
            .unwrap_or_else(|| default_ms.to_vec())
    }

    pub(super) fn region(&self, variable: &'static str) -> Region {
        let allowed = || {
            let codes = Region::ALL.map(Region::code).join(", ");
            format!("one of {codes}")
        };
        self.parsed(variable, allowed, Region::parse).unwrap_or_default()
    }

    pub(super) fn origins(&self, variable: &'static str) -> Vec<String> {
        let allowed = || "origins such as https://app.example.com, without a path, separated by commas".into();
        let parse = |list: &str| {
            let parts = list.split(',').map(str::trim).filter(|part| !part.is_empty());
            parts.map(|part| is_origin(part).then(|| part.to_string())).collect()
        };
        self.parsed(variable, allowed, parse).unwrap_or_default()
    }

    /// Exact origins that may be called. If some are invalid, the error shows those, and none are allowed.
    pub(super) fn allowed_origins(&self, variable: &'static str) -> Vec<Origin> {
        let text = self.text(variable).unwrap_or_default();
        let parts = || text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let origins: Vec<Origin> = parts().filter_map(Origin::parse).collect();
        let invalid: Vec<&str> = parts().filter(|part| Origin::parse(part).is_none()).collect();
        if invalid.is_empty() && origins.len() <= MAX_ORIGINS {
            return origins;
        }
        let shown = if invalid.is_empty() { text.clone() } else { invalid.join(", ") };
        let allowed = format!(
            "at most {MAX_ORIGINS} origins such as http://ollama:11434, of http or https, without a path or wildcard, \
             separated by commas"
        );
        self.fault(variable, &shown, allowed);
        Vec::new()
    }

    /// The name of a header that has addresses, in lower case.
    pub(super) fn address_header(&self, variable: &'static str) -> Option<String> {
        let allowed = || "the name of a header that lists plain addresses, such as X-Forwarded-For".into();
        // The header of RFC 7239 has a syntax of its own.
        let is_plain = |name: &&str| is_token(name) && !name.eq_ignore_ascii_case("forwarded");
        self.parsed(variable, allowed, |text| Some(text).filter(is_plain).map(str::to_ascii_lowercase))
    }

    /// Without a trailing slash.
    pub(super) fn url(&self, variable: &'static str) -> Option<String> {
        let allowed = || "an http or https URL without a query or fragment".into();
        self.parsed(variable, allowed, |text| is_base(text).then(|| text.trim_end_matches('/').to_string()))
    }
}

/// A unit of time.
#[derive(Clone, Copy)]
pub(super) struct Unit {
    name: &'static str,
    milliseconds: f64,
}

pub(super) const SECONDS: Unit = Unit { name: "seconds", milliseconds: 1_000.0 };
pub(super) const HOURS: Unit = Unit { name: "hours", milliseconds: 3_600_000.0 };
pub(super) const DAYS: Unit = Unit { name: "days", milliseconds: 86_400_000.0 };

impl Unit {
    fn milliseconds(self, text: &str) -> Option<u64> {
        let ms = text.trim().parse::<f64>().ok()? * self.milliseconds;
        (ms.is_finite() && ms >= 0.0).then_some(ms.round() as u64)
    }

    fn of(self, ms: u64) -> String {
        let count = ms as f64 / self.milliseconds;
        if count == 0.0 || count >= 0.01 { count.to_string() } else { format!("{count:.6}") }
    }
}

fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return false };
    !scheme.is_empty() && !host.is_empty() && !host.contains(['/', '?', '#', '*', '@']) && Url::parse(text).is_ok()
}

fn is_base(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        let is_bare = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        matches!(url.scheme(), "http" | "https") && is_bare && url.password().is_none()
    })
}
