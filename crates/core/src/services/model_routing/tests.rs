use super::*;
use crate::base::service_id::ServiceId;
use crate::http::egress_address::Policy;
use crate::lane::breaker::BreakerState;
use crate::models::route;
use crate::services::Rules;
use crate::services::read;

const RULES: Rules<'static> = Rules {
    addresses: Policy { allow_loopback: true, ..Policy::STRICT },
    own_hosts: &[],
    demo: false,
    bindings: None,
    stored: None,
};

fn service(id: &str, kind: &str, more: &str) -> ServiceOutline {
    let text = format!(
        r#"{{"name":"n","type":"llm","transport":{{"kind":"{kind}","url":"https://{id}.example.com/v1"}}{more}}}"#
    );
    read(&ServiceId::parse(id).unwrap(), &text, RULES).unwrap().service.outline()
}

fn models(names: &[&str]) -> String {
    let all: Vec<String> = names.iter().map(|name| format!(r#"{{"id":"{name}"}}"#)).collect();
    format!(r#","models":[{}]"#, all.join(","))
}

fn routes(all: &[(&str, &str)]) -> Routes {
    all.iter().map(|(name, text)| ((*name).to_string(), Rc::new(route::read(text).unwrap()))).collect()
}

fn ask(routes: &Routes, services: &[&ServiceOutline], name: &str, granted: &[&str]) -> Result<Vec<String>, NoModel> {
    let may_use = |name: &str| granted.contains(&name) || granted.contains(&"*");
    let asked = Asked { name, endpoint: Endpoint::Chat, may_use: &may_use, may_call: &|_| true };
    let found = targets(routes, services, &asked)?;
    Ok(found.targets.iter().map(|one| format!("{} {} {}", services[one.service].id, one.model, one.tier)).collect())
}

#[test]
fn a_name_is_a_route_then_a_listed_id_then_a_service_with_a_name() {
    let one = service("one", "openai", &models(&["small", "one/small", "large"]));
    let two = service("two", "openai", &format!("{},\"tier\":2", models(&["small", "*"])));
    let open = service("open", "openai", "");
    let plain = service("plain", "http", r#","capabilities":[{"name":"chat"}]"#);
    let services = [&one, &two, &open, &plain];
    let routes = routes(&[
        ("small", r#"{"targets":[{"service":"one","model":"large","tier":3}]}"#),
        (
            "gone",
            r#"{"targets":[{"service":"nowhere","model":"x"},{"service":"one","model":"x"},
                {"service":"open","model":"x"}]}"#,
        ),
    ]);
    for (name, expected) in [
        ("small", vec!["one large 3"]),
        ("large", vec!["one large 0"]),
        // A listed id may have a slash.
        ("one/small", vec!["one one/small 0"]),
        ("two/anything/else", vec!["two anything/else 0"]),
        ("open/x", vec!["open x 0"]),
        // A route skips targets that are missing.
        ("gone", vec!["open x 0"]),
    ] {
        assert_eq!(ask(&routes, &services, name, &["*"]).unwrap(), expected, "{name}");
    }
    for name in ["medium", "one/medium", "x", "*", "two/*", "two/", "plain/x", "open"] {
        assert!(matches!(ask(&routes, &services, name, &["*"]), Err(NoModel::Unknown { .. })), "{name}");
    }
    let none = Routes::new();
    assert_eq!(ask(&none, &services, "small", &["*"]).unwrap(), ["one small 0", "two small 2"]);
}

#[test]
fn a_model_needs_its_permission() {
    let one = service("one", "openai", &models(&["small"]));
    let services = [&one];
    let routes = routes(&[("fast", r#"{"targets":[{"service":"one","model":"small"}]}"#)]);
    assert!(ask(&routes, &services, "one/small", &["small"]).is_ok());
    assert!(ask(&routes, &services, "fast", &["fast"]).is_ok());
    assert_eq!(ask(&routes, &services, "small", &["fast"]), Err(NoModel::Forbidden));
    assert_eq!(ask(&routes, &services, "fast", &["small"]), Err(NoModel::Forbidden));
}

#[test]
fn a_service_without_a_list_offers_the_model_of_its_transport() {
    let text =
        r#"{"name":"n","type":"llm","transport":{"kind":"openai","url":"https://a.example.com/v1","model":"own"}}"#;
    let one = read(&ServiceId::parse("one").unwrap(), text, RULES).unwrap().service.outline();
    let services = [&one];
    let none = Routes::new();
    assert_eq!(ask(&none, &services, "own", &["*"]).unwrap(), ["one own 0"]);
    assert_eq!(ask(&none, &services, "one/other", &["*"]).unwrap(), ["one other 0"]);
    assert!(matches!(ask(&none, &services, "other", &["*"]), Err(NoModel::Unknown { .. })));
}

#[test]
fn other_endpoints_and_draining_services_are_named_as_the_reason() {
    let vectors =
        service("vectors", "openai", &format!("{},\"capabilities\":[{{\"name\":\"embed\"}}]", models(&["ada"])));
    let draining = service("old", "openai", &format!("{},\"status\":\"draining\"", models(&["small"])));
    let services = [&vectors, &draining];
    let none = Routes::new();
    let Err(NoModel::OtherEndpoint { offered }) = ask(&none, &services, "ada", &["*"]) else { panic!("it is offered") };
    assert!(offered.contains("embed"));
    assert_eq!(ask(&none, &services, "small", &["*"]), Err(NoModel::Unavailable));
}

#[test]
fn an_unknown_name_is_answered_with_the_nearest_ones_that_may_be_used() {
    let one = service("one", "openai", &models(&["gpt-5", "gpt-5-mini", "secret-5", "o3"]));
    let services = [&one];
    let Err(NoModel::Unknown { nearest }) = ask(&Routes::new(), &services, "gpt5", &["gpt-5", "gpt-5-mini", "o3"])
    else {
        panic!("there is no such model")
    };
    assert_eq!(nearest, ["gpt-5", "o3", "gpt-5-mini"]);
    assert_eq!((distance("kitten", "sitting"), distance("", "abc"), distance("a", "A")), (3, 3, 0));
}

#[test]
fn targets_are_ordered_by_what_can_be_called_then_by_tier_then_by_hash() {
    let outlines: Vec<ServiceOutline> =
        ["a", "b", "c", "d"].into_iter().map(|id| service(id, "openai", &models(&["m"]))).collect();
    let services: Vec<&ServiceOutline> = outlines.iter().collect();
    let open = Condition { breaker: BreakerState::Open, ..Condition::default() };
    let target = |service, tier, condition| ModelTarget {
        service,
        capability: 0,
        endpoint: Endpoint::Chat,
        model: "m".into(),
        tier,
        weight: 1,
        condition,
    };
    let all = [
        target(0, 0, open),
        target(1, 1, Condition::default()),
        target(2, 0, Condition::default()),
        target(3, 0, Condition::default()),
    ];
    let first = |conversation, aside: Option<usize>| {
        let mut targets = all.to_vec();
        order(&mut targets, &services, "default", conversation, |one| {
            (aside == Some(one.service)).then_some(Timestamp(1))
        });
        targets.into_iter().map(|one| one.service).collect::<Vec<_>>()
    };
    for conversation in 0..50 {
        let found = first(conversation, None);
        assert_eq!((found[2], found[3]), (1, 0));
        assert_eq!(found, first(conversation, None));
        assert_eq!(first(conversation, Some(2))[..3], [3, 1, 0]);
    }
    assert!((0..50).any(|conversation| first(conversation, None)[0] == 2));
    assert!((0..50).any(|conversation| first(conversation, None)[0] == 3));
}

#[test]
fn the_list_shows_what_the_caller_may_use() {
    let one = service("one", "openai", &models(&["small", "*"]));
    let two = service("two", "anthropic", &models(&["small", "haiku"]));
    let services = [&one, &two];
    let routes = routes(&[("fast", r#"{"targets":[{"service":"two","model":"haiku"}]}"#)]);
    let names = |granted: &'static [&'static str]| {
        let may_use = move |name: &str| granted.contains(&name) || granted.contains(&"*");
        let all = list(&routes, &services, &may_use, &|_| true);
        all.into_iter().map(|model| (model.name, model.services)).collect::<Vec<_>>()
    };
    assert_eq!(names(&["*"]), [("fast".into(), vec![1]), ("haiku".into(), vec![1]), ("small".to_string(), vec![0, 1])]);
    assert_eq!(names(&["haiku"]), [("haiku".to_string(), vec![1])]);
}

#[test]
fn the_list_shows_only_models_that_can_be_used_through_an_endpoint() {
    let lists = service("lists", "openai", &format!("{},\"capabilities\":[{{\"name\":\"models\"}}]", models(&["x"])));
    let counts =
        service("counts", "anthropic", &format!("{},\"capabilities\":[{{\"name\":\"count_tokens\"}}]", models(&["y"])));
    let vectors =
        service("vectors", "openai", &format!("{},\"capabilities\":[{{\"name\":\"embed\"}}]", models(&["ada"])));
    let services = [&lists, &counts, &vectors];
    let all = list(&Routes::new(), &services, &|_| true, &|_| true);
    assert_eq!(all.iter().map(|model| model.name.as_str()).collect::<Vec<_>>(), ["ada"]);
    assert!(list(&Routes::new(), &services, &|_| true, &|offer| offer.name != "embed").is_empty());
}

#[test]
fn what_is_listed_is_found_whatever_its_services_do() {
    let one = service("one", "openai", &format!("{},\"status\":\"draining\"", models(&["small", "one/small", "*"])));
    let two = service("two", "anthropic", &models(&["small", "haiku"]));
    let services = [&one, &two];
    let routes = routes(&[
        ("fast", r#"{"targets":[{"service":"two","model":"haiku"},{"service":"one","model":"any"}]}"#),
        ("haiku", r#"{"targets":[{"service":"nowhere","model":"haiku"}]}"#),
        ("small", r#"{"targets":[{"service":"one","model":"small"}]}"#),
    ]);
    let may_use = |name: &str| name != "secret";
    let found = |name: &str| find(&routes, &services, name, &may_use, &|_| true);
    let all = list(&routes, &services, &may_use, &|_| true);
    assert_eq!(all.iter().map(|model| model.name.as_str()).collect::<Vec<_>>(), ["fast", "one/small", "small"]);
    for model in all {
        assert_eq!(found(&model.name), Some(model));
    }
    assert_eq!(found("one/anything").map(|model| model.services), Some(vec![0]));
    assert_eq!(found("two/haiku").map(|model| model.services), Some(vec![1]));
    for name in ["haiku", "secret", "two/other", "*", ""] {
        assert_eq!(found(name), None, "{name}");
    }
}

#[test]
fn what_cannot_be_a_name_is_unknown_and_compared_with_none() {
    let one = service("one", "openai", &models(&["small", "*"]));
    let services = [&one];
    let none = |name: &str| panic!("{name} is asked for");
    for name in ["", "one/ä", "one/a b", "a,b", &format!("one/{}", "m".repeat(129)), &"m".repeat(1_000_000)] {
        let asked = Asked { name, endpoint: Endpoint::Chat, may_use: &none, may_call: &|_| true };
        assert_eq!(targets(&Routes::new(), &services, &asked), Err(NoModel::Unknown { nearest: Vec::new() }));
    }
    let longest = format!("one/{}", "m".repeat(128));
    assert!(ask(&Routes::new(), &services, &longest, &["*"]).is_ok());
    let unknown = format!("two/{}", "m".repeat(128));
    assert_eq!(ask(&Routes::new(), &services, &unknown, &["*"]), Err(NoModel::Unknown { nearest: Vec::new() }));
}

#[test]
fn a_model_of_the_other_format_serves_a_request_through_its_own_endpoint() {
    let claude = service("claude", "anthropic", &models(&["haiku"]));
    let gpt = service("gpt", "openai", &models(&["small"]));
    let new = service("new", "openai", &models(&["large"])).clone();
    let services = [&claude, &gpt, &new];
    let endpoint = |name, endpoint| {
        let asked = Asked { name, endpoint, may_use: &|_| true, may_call: &|_| true };
        targets(&Routes::new(), &services, &asked).map(|found| found.targets[0].endpoint)
    };
    for (name, asked, served) in [
        ("small", Endpoint::Chat, Endpoint::Chat),
        ("haiku", Endpoint::Chat, Endpoint::Messages),
        ("small", Endpoint::Messages, Endpoint::Chat),
        ("small", Endpoint::Responses, Endpoint::Chat),
        ("haiku", Endpoint::Responses, Endpoint::Messages),
    ] {
        assert_eq!(endpoint(name, asked), Ok(served), "{name} {asked:?}");
    }
    assert!(matches!(endpoint("haiku", Endpoint::Embeddings), Err(NoModel::OtherEndpoint { .. })));
    assert!(matches!(endpoint("small", Endpoint::CountTokens), Err(NoModel::OtherEndpoint { .. })));
}
