use std::cell::RefCell;
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// The rows of the tables of variables in docs/operating.md: name, default and meaning.
fn documented() -> Vec<[&'static str; 3]> {
    let text = include_str!("../../../docs/operating.md");
    let (_, rest) = text.split_once("## Variables").unwrap();
    let (section, _) = rest.split_once("\n## ").unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `") && !line.starts_with("| `KEK_"));
    let cells = |row: &'static str| row.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`'));
    rows.map(|row| cells(row).collect::<Vec<_>>().try_into().unwrap()).collect()
}

fn with(variable: &str, value: &str) -> Settings {
    from_variables(&|name| (name == variable).then(|| value.to_string()))
}

#[test]
fn every_variable_is_documented_and_no_other() {
    let asked = RefCell::new(BTreeSet::new());
    let note = |name: &str| {
        asked.borrow_mut().insert(name.to_string());
        None
    };
    from_variables(&note);
    let names: Vec<&str> = documented().iter().map(|[name, ..]| *name).collect();
    let known: BTreeSet<String> = names.iter().map(ToString::to_string).collect();
    assert_eq!(names.len(), known.len(), "a variable has two rows");
    assert_eq!(known, asked.into_inner());
}

#[test]
fn the_documented_defaults_are_the_defaults() {
    let defaults = with("", "");
    assert_eq!(defaults.errors, []);
    let own = ["none", "origin of the request"];
    for [name, default, _] in documented().into_iter().filter(|[_, default, _]| !own.contains(default)) {
        assert_eq!(with(name, default), defaults, "{name}");
    }
}

#[test]
fn what_a_deployment_starts_with_is_valid() {
    let text = include_str!("../../../wrangler.toml");
    let (_, rest) = text.split_once("[vars]").unwrap();
    let (section, _) = rest.split_once("\n[").unwrap();
    let pairs = section.lines().filter_map(|line| line.split_once(" = "));
    let pairs: Vec<(&str, &str)> = pairs.map(|(name, value)| (name, value.trim_matches('"'))).collect();
    let names: BTreeSet<&str> = documented().iter().map(|[name, ..]| *name).collect();
    assert!(pairs.len() > 5 && pairs.iter().all(|(name, _)| names.contains(name)), "{pairs:?}");
    let find = |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string());
    assert_eq!(from_variables(&find), with("", ""));
}

const ALLOWED_ORIGINS: &str = "at most 64 origins such as http://ollama:11434, of http or https, without a path or \
                               wildcard, separated by commas";

#[test]
fn what_is_not_valid_is_named_with_what_is_allowed() {
    for (name, value, allowed) in [
        ("CONTEXT_SHARDS", "four", "a whole number from 1 to 1024"),
        ("CONTEXT_SHARDS", "0", "a whole number from 1 to 1024"),
        ("CONTEXT_SHARDS", "1025", "a whole number from 1 to 1024"),
        ("HOME_REGION", "us", "one of na, sa, eu, as, af, oc"),
        ("EVENT_RETENTION_HOURS", "24h", "a whole number from 1 to 87600"),
        ("OAUTH", "yes", "`true` or `false`"),
        ("OAUTH_RETRY_SECONDS", "301", "a number of seconds from 0 to 300"),
        ("OAUTH_KEY_DAYS", "0", "a number of days from 0.000012 to 3650"),
        ("OAUTH_KEY_DAYS", "NaN", "a number of days from 0.000012 to 3650"),
        ("OAUTH_REGISTRATION_UNUSED_HOURS", "inf", "a number of hours from 0.000278 to 87600"),
        ("WEBHOOK_RETRY_SECONDS", "5,,6", "numbers of seconds from 0 to 86400, separated by commas"),
        (
            "CORS_ORIGINS",
            "https://app.example.com/",
            "origins such as https://app.example.com, without a path, separated by commas",
        ),
        ("CORS_ORIGINS", "*", "origins such as https://app.example.com, without a path, separated by commas"),
        ("ALLOWED_ORIGINS", "http://ollama:11434/", ALLOWED_ORIGINS),
        ("ALLOWED_ORIGINS", "http://*.corp", ALLOWED_ORIGINS),
        ("CLIENT_IP_HEADER", "X Real IP", "the name of a header that lists plain addresses, such as X-Forwarded-For"),
        ("CLIENT_IP_HEADER", "Forwarded", "the name of a header that lists plain addresses, such as X-Forwarded-For"),
        ("PUBLIC_URL", "gateway.example.com", "an http or https URL without a query or fragment"),
        ("PUBLIC_URL", "https://gateway.example.com/?a", "an http or https URL without a query or fragment"),
    ] {
        let settings = with(name, value);
        let expected = ConfigError { variable: name, value: value.into(), allowed: allowed.into() };
        assert_eq!(settings.errors, [expected]);
        let problem = settings.check().unwrap_err();
        assert_eq!(problem.code, Code::NotConfigured);
        assert!(problem.detail.contains(&format!("{name} must be {allowed}")), "{}", problem.detail);
    }
}

#[test]
fn a_value_is_not_shown_to_the_client() {
    let settings = with("HOME_REGION", "a secret in the wrong place");
    assert_eq!(settings.errors.first().unwrap().value, "a secret in the wrong place");
    assert!(!settings.check().unwrap_err().detail.contains("secret"));
}

#[test]
fn all_that_is_not_valid_is_named_at_once() {
    let settings = from_variables(&|name| match name {
        "CONTEXT_SHARDS" => Some("four".into()),
        "DEMO" => Some("no".into()),
        "FAILED_LOGINS" => Some(String::new()),
        _ => None,
    });
    let named: Vec<&str> = settings.errors.iter().map(|error| error.variable).collect();
    assert_eq!(named, ["CONTEXT_SHARDS", "DEMO"]);
}

#[test]
fn of_allowed_origins_the_invalid_ones_are_shown() {
    let list = "http://ollama:11434, http://a/b, https://internal.corp, ollama,";
    let settings = with("ALLOWED_ORIGINS", list);
    assert_eq!(settings.errors.first().unwrap().value, "http://a/b, ollama");
    assert_eq!(settings.allowed_origins, []);
    let many = |count: usize| (0..count).map(|port| format!("http://a:{}", port + 1)).collect::<Vec<_>>().join(",");
    assert_eq!(with("ALLOWED_ORIGINS", &many(64)).allowed_origins.len(), 64);
    let settings = with("ALLOWED_ORIGINS", &many(65));
    assert_eq!((settings.errors.len(), settings.allowed_origins.len()), (1, 0));
    assert_eq!(settings.errors.first().unwrap().value.len(), 100);
}

#[test]
fn a_retention_that_is_not_valid_deletes_nothing_early() {
    assert_eq!(with("CONTEXT_RETENTION_DAYS", "365d").context_retention_days, 3650);
    assert_eq!(with("AUDIT_RETENTION_DAYS", "0").audit_retention_days, 3650);
    assert_eq!(with("EVENT_RETENTION_HOURS", "a day").event_retention_hours, 87_600);
    assert_eq!(with("CONTEXT_RETENTION_DAYS", "365").context_retention_days, 365);
}

#[test]
fn what_is_valid_is_taken_as_it_is() {
    assert_eq!(with("HOME_REGION", "NA").home_region, Region::Na);
    assert_eq!(with("OAUTH_KEY_DAYS", "0.5").oauth_key_ms, 43_200_000);
    assert_eq!(with("OAUTH_KEY_DAYS", &(4.0 / 86_400.0).to_string()).oauth_key_ms, 4_000);
    assert_eq!(with("WEBHOOK_RETRY_SECONDS", "0.05, 2").webhook_pauses_ms, [50, 2_000]);
    assert_eq!(with("PUBLIC_URL", "http://127.0.0.1:8787/").public_url.as_deref(), Some("http://127.0.0.1:8787"));
    let origins = "https://app.example.com, http://localhost:5173,";
    assert_eq!(with("CORS_ORIGINS", origins).cors_origins, ["https://app.example.com", "http://localhost:5173"]);
    let allowed = with("ALLOWED_ORIGINS", " HTTP://Ollama:11434 , https://internal.corp:443").allowed_origins;
    assert_eq!(
        allowed.iter().map(Origin::as_str).collect::<Vec<_>>(),
        ["http://ollama:11434", "https://internal.corp"]
    );
    assert_eq!(with("CLIENT_IP_HEADER", "X-Real-IP").client_ip_header.as_deref(), Some("x-real-ip"));
    assert_eq!(with("ADMIN_KEY", "too short").admin_key, None);
}

proptest! {
    #[test]
    fn any_text_is_taken_or_named(value in "\\PC{0,12}|-?[0-9.]{1,20}|1e[0-9]{1,4}") {
        for [name, ..] in documented() {
            let settings = with(name, &value);
            prop_assert!(settings.errors.len() <= 1);
            prop_assert!(settings.errors.iter().all(|error| error.variable == name));
        }
    }
}
