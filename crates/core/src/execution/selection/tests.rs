use proptest::prelude::*;
use semver::Version;

use super::super::fixtures::{Known, NOW, known, work, work_after};
use super::*;

const LATER: Timestamp = Timestamp(NOW.0 + 60_000);

/// The services that are selected for some random number.
fn selected(work: &Work, services: &[Known]) -> Vec<String> {
    let mut ids: Vec<String> = (0..64)
        .filter_map(|random| match select_service(work, services, NOW, random | random << 32) {
            Selection::Service { at, .. } => Some(services[at].service.id.to_string()),
            Selection::Unavailable | Selection::NoCandidate => None,
        })
        .collect();
    ids.sort();
    ids.dedup();
    ids
}

#[test]
fn the_first_attempt_goes_to_the_service_of_the_admission_unless_its_breaker_is_open() {
    let others = || [known("two"), known("three")];
    for (admitted, expected) in [
        (known("one"), vec!["one"]),
        (known("one").half_open(), vec!["one"]),
        (known("one").open(NOW), vec!["one"]),
        (known("one").resting(5_000), vec!["one"]),
        (known("one").draining(), vec!["one"]),
        (known("one").open(LATER), vec!["three", "two"]),
        (known("one").offline(), vec!["three", "two"]),
    ] {
        let services: Vec<Known> = others().into_iter().chain([admitted]).collect();
        assert_eq!(selected(&work(), &services), expected);
    }
    assert_eq!(selected(&work(), &others()), ["three", "two"]);
}

#[test]
fn a_service_of_a_later_version_gets_no_work_and_its_contexts_wait() {
    let services = [known("one").unreadable(), known("two")];
    assert_eq!(selected(&work(), &services), ["two"]);
    let alone = [known("one").unreadable()];
    assert_eq!(select_service(&work(), &alone, NOW, 0), Selection::Unavailable);
    // Whether it offers the version and the tags that were asked for, a later version knows.
    let mut asks = work();
    asks.admission.asked_version = Some("^7".into());
    asks.admission.asked_tags = vec!["gpu".into()];
    assert_eq!(select_service(&asks, &alone, NOW, 0), Selection::Unavailable);
    asks.admission.capability = "other".into();
    assert_eq!(select_service(&asks, &alone, NOW, 0), Selection::NoCandidate);
}

#[test]
fn later_attempts_prefer_untried_services() {
    let services = || vec![known("one"), known("two"), known("three")];
    assert_eq!(selected(&work_after(&["one"]), &services()), ["three", "two"]);
    assert_eq!(selected(&work_after(&["one", "three"]), &services()), ["two"]);
    assert_eq!(selected(&work_after(&["one", "two", "three"]), &services()), ["one", "three", "two"]);
}

#[test]
fn a_service_that_would_return_the_same_again_is_called_only_for_lack_of_others() {
    let services = [known("one"), known("two")];
    let all_tried = Work { hopeless: vec!["two".into()], ..work_after(&["one", "two"]) };
    assert_eq!(selected(&all_tried, &services), ["one"]);
    let both = Work { hopeless: vec!["one".into(), "two".into()], ..all_tried };
    assert_eq!(selected(&both, &services), ["one", "two"]);
}

#[test]
fn of_equally_good_services_the_one_that_asked_for_the_shortest_pause_is_called() {
    let services = [known("one"), known("two").resting(2_000), known("three").resting(1_000)];
    assert_eq!(selected(&work_after(&["one"]), &services), ["three"]);
    // A pause is no reason to try a service again.
    assert_eq!(selected(&work_after(&["one", "three"]), &services), ["two"]);
    assert_eq!(selected(&work_after(&["one", "two", "three"]), &services), ["one"]);
}

#[test]
fn a_draining_service_finishes_only_what_it_was_admitted_for() {
    let services = [known("one"), known("two").draining()];
    assert_eq!(selected(&work_after(&["one"]), &services), ["one"]);
    let services = [known("one").draining(), known("two")];
    assert_eq!(selected(&work_after(&["one", "two"]), &services), ["one", "two"]);
}

#[test]
fn without_a_candidate_the_reason_is_returned() {
    for (services, expected) in [
        (vec![known("one").offline()], Selection::Unavailable),
        (vec![known("two").draining()], Selection::Unavailable),
        (vec![], Selection::NoCandidate),
        (vec![known("one").offline().connecting()], Selection::Service { at: 0, version: Version::new(1, 0, 0) }),
    ] {
        let chosen = select_service(&work(), &services, NOW, 0);
        assert_eq!(chosen.service(&services).is_some(), matches!(expected, Selection::Service { .. }));
        assert_eq!(chosen, expected);
    }
    let mut elsewhere = work();
    elsewhere.admission.asked_service = Some("two".into());
    assert_eq!(select_service(&elsewhere, &[known("one")], NOW, 0), Selection::NoCandidate);
    let mut newer = work();
    newer.admission.asked_version = Some("^2".into());
    assert_eq!(select_service(&newer, &[known("one")], NOW, 0), Selection::NoCandidate);
}

#[test]
fn only_untried_services_with_a_breaker_that_admits_calls_are_callable_others() {
    let services = [known("one"), known("two").open(LATER), known("three"), known("four").draining()];
    for (tried, has, callable) in
        [(vec![], true, 1), (vec!["three"], true, 0), (vec!["two"], true, 1), (vec!["two", "three"], false, 0)]
    {
        let work = work_after(&tried);
        let one = "one".into();
        assert_eq!(has_others(&work, &services, &one, NOW), has, "{tried:?}");
        assert_eq!(callable_others(&work, &services, &one, NOW), callable, "{tried:?}");
    }
}

#[test]
fn the_pause_is_that_of_the_service_that_is_called_next() {
    let services = || vec![known("one"), known("two").resting(3_000)];
    let one = "one".into();
    let pause = |work: &Work, services: &[Known], own_ms| pause_ms(work, services, &one, own_ms, NOW);
    assert_eq!(pause(&work(), &services(), Some(500)), Some(3_000));
    // Both were tried: the one that may be called sooner is next.
    assert_eq!(pause(&work_after(&["two"]), &services(), Some(500)), Some(500));
    assert_eq!(pause(&work_after(&["two"]), &services(), None), Some(0));
    let hopeless = |ids: &[&str]| Work { hopeless: ids.iter().map(|id| (*id).into()).collect(), ..work() };
    assert_eq!(pause(&hopeless(&["two"]), &services(), Some(500)), Some(500));
    assert_eq!(pause(&hopeless(&["one", "two"]), &services(), Some(500)), None);
}

#[test]
fn contexts_of_a_blocked_service_stay_queued_only_if_no_other_could_run_them() {
    let ids = |services: &[Known]| {
        let (ids, again_at) = unavailable_services(services, NOW);
        (ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "), again_at)
    };
    for (services, expected) in [
        (vec![known("one"), known("two")], ("", None)),
        (vec![known("one").open(LATER)], ("one", Some(LATER))),
        (vec![known("one").open(LATER), known("two")], ("", None)),
        (vec![known("one").open(LATER), known("two").draining()], ("one", Some(LATER))),
        (vec![known("one").open(LATER), known("two").open(LATER.plus_ms(1))], ("one two", Some(LATER))),
        (vec![known("one").offline()], ("one", None)),
        (vec![known("one").unreadable()], ("one", None)),
        (vec![known("one").unreadable(), known("two")], ("", None)),
        // They wait in the queue of a service that may connect at any moment.
        (vec![known("one").offline().connecting()], ("", None)),
        (vec![known("one").open(LATER).connecting()], ("one", Some(LATER))),
    ] {
        assert_eq!(ids(&services), (expected.0.to_string(), expected.1));
    }
}

prop_compose! {
    fn any_service(id: usize)(
        state in 0..6, resting in prop::option::of(1u64..5_000),
    ) -> Known {
        let service = known(&format!("s{id}"));
        let service = match state {
            0 => service.open(LATER),
            1 => service.half_open(),
            2 => service.offline(),
            3 => service.draining(),
            4 => service.offline().connecting(),
            _ => service,
        };
        service.resting(resting.unwrap_or(0))
    }
}

proptest! {
    #[test]
    fn a_tried_service_is_selected_only_if_no_other_one_is_left(
        services in (0usize..5).prop_flat_map(|count| (0..count).map(any_service).collect::<Vec<_>>()),
        tried in prop::collection::vec(0usize..5, 0..4),
        random: u64,
    ) {
        let ids: Vec<String> = tried.iter().map(|number| format!("s{number}")).collect();
        let work = work_after(&ids.iter().map(String::as_str).collect::<Vec<_>>());
        match select_service(&work, &services, NOW, random) {
            Selection::Service { at, .. } => {
                let chosen = &services[at];
                let id = &chosen.service.id;
                prop_assert!(!chosen.service.draining && (!chosen.is_offline() || chosen.service.transport.connects()));
                prop_assert!(!work.tried.contains(id) || !has_others(&work, &services, id, NOW));
            }
            Selection::Unavailable | Selection::NoCandidate => {
                let takes = |known: &Known| !known.service.draining && !known.is_offline();
                prop_assert!(!services.iter().any(takes));
            }
        }
    }
}
