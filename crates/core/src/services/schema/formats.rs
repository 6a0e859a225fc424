//! The string formats of `format` (JSON Schema Validation 2020-12 §7.3), for capabilities that assert them. Each check
//! takes time proportional to the length of the string.

use chrono::NaiveDate;
use fluent_uri::{Iri, IriRef, Uri, UriRef};
use regex::{Error, Library};
use std::net::{Ipv4Addr, Ipv6Addr};

/// No host name has more bytes, however it is written.
const LONGEST_HOST: usize = 1024;
const LONGEST_EMAIL: usize = 254;
const LONGEST_LOCAL: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    DateTime,
    Date,
    Time,
    Duration,
    Email,
    IdnEmail,
    Hostname,
    IdnHostname,
    Ipv4,
    Ipv6,
    Uri,
    UriReference,
    Iri,
    IriReference,
    UriTemplate,
    Uuid,
    JsonPointer,
    RelativeJsonPointer,
    Regex,
}

/// By name, with the description of a valid string.
const ALL: [(&str, Format, &str); 19] = [
    ("date-time", Format::DateTime, "a date and time with its offset (RFC 3339), such as 2026-12-01T08:30:00Z"),
    ("date", Format::Date, "a date (RFC 3339), such as 2026-12-01"),
    ("time", Format::Time, "a time with its offset (RFC 3339), such as 08:30:00Z"),
    ("duration", Format::Duration, "a duration (RFC 3339, appendix A), such as P1DT12H"),
    ("email", Format::Email, "an e-mail address (RFC 5321)"),
    ("idn-email", Format::IdnEmail, "an e-mail address (RFC 6531)"),
    ("hostname", Format::Hostname, "a host name (RFC 1123)"),
    ("idn-hostname", Format::IdnHostname, "a host name (RFC 5890)"),
    ("ipv4", Format::Ipv4, "an IPv4 address"),
    ("ipv6", Format::Ipv6, "an IPv6 address"),
    ("uri", Format::Uri, "a URI with its scheme (RFC 3986)"),
    ("uri-reference", Format::UriReference, "a URI or a relative reference (RFC 3986)"),
    ("iri", Format::Iri, "an IRI with its scheme (RFC 3987)"),
    ("iri-reference", Format::IriReference, "an IRI or a relative reference (RFC 3987)"),
    ("uri-template", Format::UriTemplate, "a URI template (RFC 6570)"),
    ("uuid", Format::Uuid, "a UUID (RFC 9562)"),
    ("json-pointer", Format::JsonPointer, "a JSON Pointer (RFC 6901)"),
    ("relative-json-pointer", Format::RelativeJsonPointer, "a relative JSON Pointer"),
    ("regex", Format::Regex, "a regular expression (ECMA-262)"),
];

/// Replaces boon's own formats of these names, which the metaschema asks for where a schema refers to it. All but
/// `regex`, which boon does not allow to be replaced.
pub(super) fn unasked() -> impl Iterator<Item = boon::Format> {
    ALL.iter().map(|(name, ..)| boon::Format { name, func: |_| Ok(()) })
}

impl Format {
    /// The format of this name, if it is supported.
    pub fn named(name: &str) -> Option<Self> {
        ALL.iter().find(|(known, ..)| *known == name).map(|(_, format, _)| *format)
    }

    /// The fault of a string of another format. `library` limits the work on the classes of patterns.
    pub fn unmet(self, text: &str, library: &mut Library) -> Option<String> {
        let is_met = match self {
            Self::DateTime => is_date_time(text),
            Self::Date => is_date(text),
            Self::Time => is_time(text),
            Self::Duration => is_duration(text),
            Self::Email => is_email(text, is_hostname),
            Self::IdnEmail => is_email(text, is_idn_hostname),
            Self::Hostname => is_hostname(text),
            Self::IdnHostname => is_idn_hostname(text),
            Self::Ipv4 => text.parse::<Ipv4Addr>().is_ok(),
            Self::Ipv6 => text.parse::<Ipv6Addr>().is_ok(),
            Self::Uri => Uri::parse(text).is_ok(),
            Self::UriReference => UriRef::parse(text).is_ok(),
            Self::Iri => Iri::parse(text).is_ok(),
            Self::IriReference => IriRef::parse(text).is_ok(),
            Self::UriTemplate => is_uri_template(text),
            Self::Uuid => is_uuid(text),
            Self::JsonPointer => is_json_pointer(text),
            Self::RelativeJsonPointer => is_relative_json_pointer(text),
            Self::Regex => match regex::read(text, library) {
                Ok(()) => true,
                Err(Error::Classes) => return Some("has more classes than can be checked".into()),
                Err(_) => false,
            },
        };
        let wanted = ALL.iter().find(|(_, format, _)| *format == self).map_or("", |(.., wanted)| wanted);
        (!is_met).then(|| format!("must be {wanted}"))
    }
}

/// A number of exactly this many digits.
fn digits(text: &str, count: usize) -> Option<u32> {
    (text.len() == count && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

fn is_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let mut next = |count| parts.next().and_then(|part| digits(part, count));
    let (Some(year), Some(month), Some(day)) = (next(4), next(2), next(2)) else { return false };
    NaiveDate::from_ymd_opt(year as i32, month, day).is_some()
}

/// Hours and minutes, in minutes.
fn minutes(text: &str) -> Option<u32> {
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
}

fn is_time(text: &str) -> bool {
    let Some((clock, rest)) = text.split_at_checked(8) else { return false };
    let (Some(time), Some((_, seconds))) = (clock.get(..5).and_then(minutes), clock.rsplit_once(':')) else {
        return false;
    };
    let Some(seconds) = digits(seconds, 2).filter(|_| clock.get(5..6) == Some(":")) else { return false };
    let zone = match rest.strip_prefix('.') {
        None => rest,
        Some(fraction) => {
            let zone = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            if zone.len() == fraction.len() {
                return false;
            }
            zone
        }
    };
    let at_greenwich = match zone.split_at_checked(1) {
        Some(("Z" | "z", "")) => Some(time),
        Some(("+", offset)) => minutes(offset).map(|offset| (time + 24 * 60 - offset) % (24 * 60)),
        Some(("-", offset)) => minutes(offset).map(|offset| (time + offset) % (24 * 60)),
        _ => None,
    };
    // A leap second occurs only at the end of a UTC day.
    at_greenwich.is_some_and(|minute| seconds < 60 || seconds == 60 && minute == 24 * 60 - 1)
}

fn is_date_time(text: &str) -> bool {
    text.split_once(['T', 't']).is_some_and(|(date, time)| is_date(date) && is_time(time))
}

/// Whether these are numbers with units, in the order of the units and each at most once.
fn has_units(text: &str, units: &str) -> bool {
    let (mut rest, mut left) = (text, units);
    while !rest.is_empty() {
        let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let Some(unit) = after.chars().next().filter(|_| after.len() < rest.len()) else { return false };
        let Some((_, later)) = left.split_once(unit) else { return false };
        (rest, left) = (after.get(unit.len_utf8()..).unwrap_or_default(), later);
    }
    !text.is_empty()
}

fn is_duration(text: &str) -> bool {
    let Some(text) = text.strip_prefix('P') else { return false };
    match text.split_once('T') {
        None => has_units(text, "W") || has_units(text, "YMD"),
        Some((date, time)) => (date.is_empty() || has_units(date, "YMD")) && has_units(time, "HMS"),
    }
}

fn is_hostname(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

fn is_idn_hostname(text: &str) -> bool {
    text.len() <= LONGEST_HOST && idna::domain_to_ascii_strict(text).is_ok_and(|ascii| is_hostname(&ascii))
}

/// Non-ASCII local parts are accepted where the host may be non-ASCII.
fn is_email(text: &str, is_host: fn(&str) -> bool) -> bool {
    let wide = is_host("\u{fc}.example");
    let Some((local, domain)) = text.rsplit_once('@').filter(|_| wide || text.len() <= LONGEST_EMAIL) else {
        return false;
    };
    let is_letter = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || wide && !c.is_ascii();
    let is_atom = |atom: &str| !atom.is_empty() && atom.chars().all(is_letter);
    let is_quoted = |inside: &str| {
        let mut letters = inside.chars();
        let fits = |c: char| matches!(c, ' '..='~') || wide && !c.is_ascii();
        while let Some(letter) = letters.next() {
            let is_fine = match letter {
                '"' => false,
                '\\' => letters.next().is_some_and(fits),
                letter => fits(letter),
            };
            if !is_fine {
                return false;
            }
        }
        true
    };
    let quoted = local.strip_prefix('"').and_then(|local| local.strip_suffix('"'));
    let fits = quoted.map_or_else(|| local.split('.').all(is_atom), is_quoted);
    let literal = domain.strip_prefix('[').and_then(|domain| domain.strip_suffix(']'));
    let is_domain = match literal {
        None => is_host(domain),
        Some(address) => match address.strip_prefix("IPv6:") {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => address.parse::<Ipv4Addr>().is_ok(),
        },
    };
    local.len() <= LONGEST_LOCAL && fits && is_domain
}

fn is_uuid(text: &str) -> bool {
    let is_group = |(group, count): (&str, usize)| group.len() == count && group.bytes().all(|b| b.is_ascii_hexdigit());
    text.len() == 36 && text.split('-').count() == 5 && text.split('-').zip([8, 4, 4, 4, 12]).all(is_group)
}

fn is_json_pointer(text: &str) -> bool {
    let is_escaped = |rest: &str| rest.starts_with(['0', '1']);
    (text.is_empty() || text.starts_with('/')) && text.split('~').skip(1).all(is_escaped)
}

/// By draft-bhutton-relative-json-pointer-00.
fn is_relative_json_pointer(text: &str) -> bool {
    let after_number = |text: &str| {
        let rest = text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, rest) = text.split_at_checked(text.len() - rest)?;
        let is_number = !number.is_empty() && (number == "0" || !number.starts_with('0'));
        is_number.then(|| rest.to_owned())
    };
    let Some(rest) = after_number(text) else { return false };
    let rest = match rest.strip_prefix(['+', '-']) {
        None => Some(rest),
        Some(index) => after_number(index),
    };
    rest.is_some_and(|rest| rest == "#" || is_json_pointer(&rest))
}

fn is_uri_template(text: &str) -> bool {
    let is_encoded = |part: &str| {
        part.split('%').skip(1).all(|after| after.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2)
    };
    let is_literal = |part: &str| {
        let is_out =
            |c: char| c.is_control() || matches!(c, ' ' | '"' | '\'' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}');
        !part.contains(is_out) && is_encoded(part)
    };
    let is_variable = |variable: &str| {
        let (name, most) = variable.split_once(':').unwrap_or((variable, "1"));
        let name = if most == "1" { name.strip_suffix('*').unwrap_or(name) } else { name };
        let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '%' | '.');
        let is_count = most.len() <= 4 && !most.starts_with('0') && most.bytes().all(|b| b.is_ascii_digit());
        let is_name = !name.is_empty() && !name.starts_with('.') && !name.ends_with('.') && !name.contains("..");
        is_name && name.chars().all(is_letter) && is_encoded(name) && is_count && !most.is_empty()
    };
    let mut parts = text.split('{');
    parts.next().is_none_or(is_literal)
        && parts.all(|part| {
            part.split_once('}').is_some_and(|(expression, literal)| {
                let operators = ['+', '#', '.', '/', ';', '?', '&'];
                let variables = expression.strip_prefix(operators).unwrap_or(expression);
                variables.split(',').all(is_variable) && is_literal(literal)
            })
        })
}

#[cfg(test)]
mod tests;
