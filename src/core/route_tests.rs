use super::super::address::Policy;
use super::super::service::{Rules, read};
use super::*;
use proptest::prelude::*;
use serde_json::json;

fn service(id: &str, version: &str, tier: u64, weight: u64, draining: bool) -> Service {
    let document = json!({
        "name": id, "type": "tool", "transport": {"kind": "http", "url": "https://a.example.com/"},
        "capabilities": [{"name": "echo", "version": version}, {"name": "other", "version": "9.0.0"}],
        "tier": tier, "weight": weight, "status": if draining { "draining" } else { "unknown" }
    });
    let rules = Rules { addresses: Policy { allow_loopback: false }, own_hosts: &[] };
    read(id, &document.to_string(), rules).unwrap().service
}

fn wanted<'a>(service: Option<&'a str>, version: Option<&'a VersionReq>) -> Wanted<'a> {
    Wanted { capability: "echo", service, version }
}

fn ids(services: &[Service], wanted: Wanted<'_>) -> Result<Vec<String>, NoRoute> {
    candidates(services, wanted, |service| !service.draining, |service, _| service.id != "hidden")
        .map(|found| found.iter().map(|one| services[one.service].id.clone()).collect())
}

#[test]
fn the_reason_that_got_furthest_is_told() {
    let services = [service("one", "1.0.0", 0, 1, true), service("hidden", "1.0.0", 0, 1, false)];
    let range = VersionReq::parse("^2").unwrap();
    assert_eq!(ids(&services, wanted(None, None)), Err(NoRoute::Unavailable));
    assert_eq!(ids(&services, wanted(Some("hidden"), None)), Err(NoRoute::Forbidden));
    assert_eq!(ids(&services, wanted(None, Some(&range))), Err(NoRoute::Version));
    assert_eq!(ids(&services, wanted(Some("nobody"), None)), Err(NoRoute::Unknown));
    assert_eq!(ids(&[], wanted(None, None)), Err(NoRoute::Unknown));
}

#[test]
fn the_lowest_tier_is_chosen_while_it_lives() {
    let services = [service("fallback", "1.0.0", 1, 1000, false), service("first", "1.0.0", 0, 1, false)];
    let found = candidates(&services, wanted(None, None), |_| true, |_, _| true).unwrap();
    for random in 0..50 {
        assert_eq!(services[choose(&found, random).unwrap().service].id, "first");
    }
}

#[test]
fn the_newest_version_that_fits_is_run() {
    let mut one = service("one", "1.0.0", 0, 1, false);
    let newer = service("one", "1.4.0", 0, 1, false).capabilities.remove(0);
    let newest = service("one", "2.0.0", 0, 1, false).capabilities.remove(0);
    one.capabilities.extend([newer, newest]);
    let range = VersionReq::parse("^1").unwrap();
    let found = candidates([&one], wanted(None, Some(&range)), |_| true, |_, _| true).unwrap();
    assert_eq!(found[0].version.to_string(), "1.4.0");
}

proptest! {
    #[test]
    fn every_weight_gets_its_share(weights in prop::collection::vec(1u64..20, 1..6)) {
        let services: Vec<Service> = weights.iter().enumerate()
            .map(|(n, weight)| service(&format!("s{n}"), "1.0.0", 0, *weight, false)).collect();
        let found = candidates(&services, wanted(None, None), |_| true, |_, _| true).unwrap();
        let total: u64 = weights.iter().sum();
        let mut seen = vec![0; weights.len()];
        for random in 0..total {
            seen[choose(&found, random).unwrap().service] += 1;
        }
        prop_assert_eq!(seen, weights);
    }
}
