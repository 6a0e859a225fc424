use super::super::outline::TransportOutline;
use super::super::read;
use super::super::transport::Rules;
use super::*;
use crate::http::egress_address::Policy;
use proptest::prelude::*;
use serde_json::json;

fn service(id: &str, version: &str, tier: u64, weight: u64, draining: bool) -> ServiceOutline {
    let document = json!({
        "name": id, "type": "tool", "transport": {"kind": "http", "url": "https://a.example.com/"},
        "capabilities": [{"name": "echo", "version": version}, {"name": "other", "version": "9.0.0"}],
        "tier": tier, "weight": weight, "status": if draining { "draining" } else { "unknown" }
    });
    let addresses = Policy::STRICT;
    let rules = Rules { addresses, own_hosts: &[], demo: true, bindings: None, stored: None };
    read(&id.into(), &document.to_string(), rules).unwrap().service.outline()
}

fn wanted<'a>(service: Option<&'a ServiceId>, version: Option<&'a VersionReq>) -> RouteRequest<'a> {
    RouteRequest { capability: "echo", service, version, pre_releases: false, tags: &[] }
}

fn ids(services: &[ServiceOutline], wanted: RouteRequest<'_>) -> Result<Vec<ServiceId>, NoRoute> {
    candidates(services, wanted, |service| !service.draining, |service, _| service.id.as_str() != "hidden")
        .map(|found| found.iter().map(|one| services[one.service].id.clone()).collect())
}

#[test]
fn the_reason_that_got_furthest_is_reported() {
    let services = [service("one", "1.0.0", 0, 1, true), service("hidden", "1.0.0", 0, 1, false)];
    let range = VersionReq::parse("^2").unwrap();
    assert_eq!(ids(&services, wanted(None, None)), Err(NoRoute::Unavailable));
    assert_eq!(ids(&services, wanted(Some(&"hidden".into()), None)), Err(NoRoute::Forbidden));
    assert_eq!(ids(&services, wanted(None, Some(&range))), Err(NoRoute::Version));
    assert_eq!(ids(&services, wanted(Some(&"unknown".into()), None)), Err(NoRoute::Unknown));
    assert_eq!(ids(&[], wanted(None, None)), Err(NoRoute::Unknown));
}

#[test]
fn a_service_of_a_later_version_is_unavailable() {
    let later = ServiceOutline::unreadable("later".into(), vec!["echo".into()]);
    let range = VersionReq::parse("^2").unwrap();
    assert_eq!(ids(std::slice::from_ref(&later), wanted(None, Some(&range))), Err(NoRoute::Unavailable));
    let services = [later, service("one", "2.0.0", 0, 1, false)];
    assert_eq!(ids(&services, wanted(None, Some(&range))), Ok(vec!["one".into()]));
    assert_eq!(ids(&services, wanted(Some(&"later".into()), None)), Err(NoRoute::Unavailable));
}

#[test]
fn the_lowest_tier_is_chosen_while_it_lives() {
    let services = [service("fallback", "1.0.0", 1, 1000, false), service("first", "1.0.0", 0, 1, false)];
    let found = candidates(&services, wanted(None, None), |_| true, |_, _| true).unwrap();
    for random in 0..50 {
        assert_eq!(services[choose(&found, random).unwrap().service].id.as_str(), "first");
    }
}

#[test]
fn the_newest_version_that_fits_is_run() {
    let mut one = service("one", "1.0.0", 0, 1, false);
    let newer = service("one", "1.4.0", 0, 1, false).capabilities.0.remove(0);
    let newest = service("one", "2.0.0", 0, 1, false).capabilities.0.remove(0);
    one.capabilities.0.extend([newer, newest]);
    let range = VersionReq::parse("^1").unwrap();
    let found = candidates([&one], wanted(None, Some(&range)), |_| true, |_, _| true).unwrap();
    assert_eq!(found[0].version.to_string(), "1.4.0");
}

#[test]
fn a_pre_release_is_run_only_where_it_is_asked_for_or_there_is_nothing_else() {
    let mut both = service("both", "2.1.0-rc.1", 0, 1, false);
    both.capabilities.0.push(service("both", "1.4.0", 0, 1, false).capabilities.0.remove(0));
    let stable = service("stable", "1.3.0", 1, 1, false);
    let next = service("next", "3.0.0-beta.2", 0, 9, false);
    let earlier = service("earlier", "3.0.0-beta.1", 0, 9, false);
    let all = [&both, &stable, &next, &earlier];
    let run = |services: &[&ServiceOutline], wanted: RouteRequest<'_>| {
        let found = candidates(services.iter().copied(), wanted, |service| !service.draining, |_, _| true);
        found.map(|found| found.iter().map(|one| one.version.to_string()).collect::<Vec<_>>().join(" "))
    };
    let range = |text: &str| VersionReq::parse(text).unwrap();
    assert_eq!(run(&all, wanted(None, None)).unwrap(), "1.4.0 1.3.0");
    assert_eq!(run(&[&both], wanted(None, None)).unwrap(), "1.4.0");
    // A range matches a pre-release only if it names one.
    assert_eq!(run(&all, wanted(None, Some(&range("*")))).unwrap(), "1.4.0 1.3.0");
    assert_eq!(run(&all, wanted(None, Some(&range("^2.1.0-rc.1")))).unwrap(), "2.1.0-rc.1");
    assert_eq!(run(&all, wanted(None, Some(&range("=3.0.0-beta.1")))).unwrap(), "3.0.0-beta.1");
    assert_eq!(run(&all, wanted(None, Some(&range(">=2")))), Err(NoRoute::Version));
    // There is no other one: at all, or of the requested service.
    assert_eq!(run(&[&next, &earlier], wanted(None, None)).unwrap(), "3.0.0-beta.2 3.0.0-beta.1");
    assert_eq!(run(&all, wanted(Some(&"next".into()), None)).unwrap(), "3.0.0-beta.2");
    // A request with one stays with one.
    assert!(
        run(&all, RouteRequest { pre_releases: true, ..wanted(None, None) })
            .unwrap()
            .starts_with("2.1.0-rc.1 3.0.0-beta.2")
    );
    // An unavailable release is waited for.
    let draining = service("stable", "1.3.0", 0, 1, true);
    assert_eq!(run(&[&next, &draining], wanted(None, None)), Err(NoRoute::Unavailable));
    assert_eq!(newest(both.capabilities.iter().filter(|one| one.name == "echo")).unwrap().version.to_string(), "1.4.0");
}

#[test]
fn an_absent_connected_service_is_waited_for_if_it_is_the_only_one() {
    struct Measured<'s>(&'s ServiceOutline, HealthStatus);
    impl<'s> Routable<'s> for &Measured<'s> {
        fn service(&self) -> &'s ServiceOutline {
            self.0
        }
        fn condition(&self) -> Condition {
            Condition { health: self.1, ..Condition::default() }
        }
    }
    let (mut away, other) = (service("away", "1.0.0", 0, 1, false), service("other", "1.0.0", 5, 1, false));
    let found = |away: &ServiceOutline, health: HealthStatus| {
        let offered = [Measured(away, HealthStatus::Offline), Measured(&other, health)];
        candidates(&offered, wanted(None, None), |_| true, |_, _| true)
            .map(|found| found.iter().map(|one| one.service).collect::<Vec<_>>())
    };
    assert_eq!(found(&away, HealthStatus::Offline), Err(NoRoute::Unavailable));
    away.transport = TransportOutline::Socket { grace_seconds: 10 };
    assert_eq!(found(&away, HealthStatus::Offline), Ok(vec![0]));
    assert_eq!(found(&away, HealthStatus::Online), Ok(vec![1]));
}

proptest! {
    #[test]
    fn every_weight_gets_its_share(weights in prop::collection::vec(1u64..20, 1..6)) {
        let services: Vec<ServiceOutline> = weights.iter().enumerate()
            .map(|(n, weight)| service(&format!("s{n}"), "1.0.0", 0, *weight, false)).collect();
        let found = candidates(&services, wanted(None, None), |_| true, |_, _| true).unwrap();
        let total: u64 = weights.iter().sum();
        let mut seen = vec![0; weights.len()];
        for random in 0..total {
            // If all are equal, the first of the two drawn is taken.
            seen[choose(&found, random | 7 << 32).unwrap().service] += 1;
        }
        prop_assert_eq!(seen, weights);
    }
}

fn condition(breaker: BreakerState, health: HealthStatus, latency_ms: Option<u64>) -> Condition {
    Condition { breaker, health, latency_ms }
}

fn candidate(service: usize, tier: u64, condition: Condition) -> Candidate {
    Candidate { service, capability: 0, tier, weight: 1, version: Version::new(1, 0, 0), condition }
}

/// Candidates of these tiers and conditions, and how often each is chosen of 10,000 times.
fn shares(of: &[(u64, Condition)]) -> Vec<u64> {
    let mut found: Vec<Candidate> =
        of.iter().enumerate().map(|(service, (tier, condition))| candidate(service, *tier, *condition)).collect();
    found.sort_by_key(|candidate| candidate.tier);
    let mut seen = vec![0; of.len()];
    let mut random = 1u64;
    for _ in 0..10_000 {
        // Knuth's MMIX generator; its high bits are the better ones.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seen[choose(&found, random.rotate_left(17)).unwrap().service] += 1;
    }
    seen
}

#[test]
fn the_better_of_two_is_taken_and_the_worse_still_gets_some() {
    use BreakerState::*;
    use HealthStatus::*;
    let well = condition(Closed, Online, Some(20));
    for worse in
        [condition(Closed, Degraded, Some(20)), condition(Closed, Online, Some(41)), condition(Closed, Degraded, None)]
    {
        let seen = shares(&[(0, well), (0, worse)]);
        assert!(seen[0] > 7_000 && seen[1] > 2_000, "{worse:?}: {seen:?}");
    }
    for equal in
        [condition(Closed, Unknown, None), condition(Closed, Online, Some(25)), condition(Closed, Online, Some(29))]
    {
        let seen = shares(&[(0, well), (0, equal)]);
        assert!(seen.iter().all(|share| *share > 4_500), "{equal:?}: {seen:?}");
    }
}

#[test]
fn an_open_breaker_sends_all_to_the_next_tier_and_a_half_open_one_gets_its_probe() {
    use BreakerState::*;
    use HealthStatus::*;
    let with = |breaker| condition(breaker, Unknown, None);
    assert_eq!(shares(&[(0, with(Open)), (1, with(Closed))]), [0, 10_000]);
    assert_eq!(shares(&[(0, with(Open)), (1, with(Open))]), [10_000, 0]);
    assert_eq!(shares(&[(0, with(HalfOpen)), (1, with(Closed))]), [10_000, 0]);
    let seen = shares(&[(0, with(HalfOpen)), (0, with(Closed))]);
    assert!(seen[0] > 2_000 && seen[1] > 4_000, "{seen:?}");
}

#[test]
fn a_service_with_an_open_breaker_gets_nothing_while_another_of_its_tier_admits_calls() {
    let with = |breaker| condition(breaker, HealthStatus::Unknown, None);
    let (open, closed) = (with(BreakerState::Open), with(BreakerState::Closed));
    assert_eq!(shares(&[(0, open), (0, closed)]), [0, 10_000]);
    assert_eq!(shares(&[(0, open), (0, with(BreakerState::HalfOpen))]), [0, 10_000]);
    let seen = shares(&[(0, open), (0, open)]);
    assert!(seen.iter().all(|share| *share > 4_500), "{seen:?}");
    let seen = shares(&[(0, closed), (0, open), (0, closed)]);
    assert!(seen[0] > 4_500 && seen[1] == 0 && seen[2] > 4_500, "{seen:?}");
}

proptest! {
    #[test]
    fn an_open_breaker_is_chosen_only_if_no_candidate_admits_calls(
        of in prop::collection::vec((0u64..3, 1u64..4, 0usize..3, prop::option::of(0u64..100)), 1..8),
        random: u64,
    ) {
        let breakers = [BreakerState::Closed, BreakerState::HalfOpen, BreakerState::Open];
        let mut found: Vec<Candidate> = of
            .into_iter()
            .map(|(tier, weight, at, latency_ms)| {
                let condition = condition(breakers[at], HealthStatus::Unknown, latency_ms);
                Candidate { weight, ..candidate(0, tier, condition) }
            })
            .collect();
        found.sort_by_key(|candidate| candidate.tier);
        let chosen = choose(&found, random).unwrap();
        let best = found.iter().filter(|one| !one.condition.is_open()).map(|one| one.tier).min();
        prop_assert_eq!(chosen.condition.is_open(), best.is_none());
        prop_assert_eq!(chosen.tier, best.unwrap_or(found[0].tier));
    }
}

#[test]
fn offline_services_get_no_work_and_all_tags_are_required() {
    struct Offline<'s>(&'s ServiceOutline);
    impl<'s> Routable<'s> for Offline<'s> {
        fn service(&self) -> &'s ServiceOutline {
            self.0
        }
        fn condition(&self) -> Condition {
            condition(BreakerState::Closed, HealthStatus::Offline, None)
        }
    }
    let mut one = service("one", "1.0.0", 0, 1, false);
    one.tags = vec!["eu".into(), "fast".into()];
    let found = candidates([Offline(&one)], wanted(None, None), |_| true, |_, _| true);
    assert_eq!(found, Err(NoRoute::Unavailable));
    for (tags, finds) in [(vec!["eu".to_string()], true), (vec!["eu".into(), "us".into()], false)] {
        let wanted = RouteRequest { tags: &tags, ..wanted(None, None) };
        let found = candidates([&one], wanted, |_| true, |_, _| true);
        assert_eq!(found.map(|found| found.len()), if finds { Ok(1) } else { Err(NoRoute::Tags) });
    }
}
