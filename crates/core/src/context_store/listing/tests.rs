use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::base::id::{ContextId, Region, StoreId, row_key};
use crate::context::status::ErrorCode;
use crate::context::{Admission, ContextError, fixtures};

const MINUTE: u64 = 60_000;
const START: u64 = 1_700_000_000_000;

fn at(ms: u64) -> Timestamp {
    Timestamp(START + ms)
}

/// A store's tables in memory. Ended contexts that come late mark their segment, as the trigger of the tables does.
#[derive(Default)]
struct Tables {
    live: RefCell<BTreeMap<u64, Head>>,
    ended: RefCell<BTreeMap<u64, Head>>,
    segments: RefCell<BTreeMap<u64, Summary>>,
    outdated: RefCell<BTreeSet<u64>>,
    /// The contexts of segments that were read.
    read: RefCell<u64>,
}

fn matches(head: &Head, filters: &Filters) -> bool {
    let Admission { owner, service, capability, .. } = &head.admission;
    let code = head.error.as_ref().map(|error| error.code.as_str());
    filters.owner.as_deref().is_none_or(|wanted| wanted == owner.as_str())
        && filters.service.as_deref().is_none_or(|wanted| wanted == service.as_str())
        && filters.capability.as_ref().is_none_or(|wanted| wanted == capability)
        && filters.status.is_none_or(|wanted| wanted == head.status)
        && filters.error_code.as_deref().is_none_or(|wanted| Some(wanted) == code)
}

fn bytes(head: &Head) -> u64 {
    serde_json::to_string(head).unwrap().len() as u64
}

fn found(table: &BTreeMap<u64, Head>, keys: Keys, filters: &Filters, most: u64) -> Vec<SizedKey> {
    let range = table.range(keys.after + 1..=keys.last).rev().filter(|(_, head)| matches(head, filters));
    range.map(|(key, head)| (*key, bytes(head))).take(most as usize).collect()
}

impl Tables {
    fn end(&self, key: u64, head: Head) {
        self.live.borrow_mut().remove(&key);
        self.ended.borrow_mut().insert(key, head);
        let segments = self.segments.borrow();
        self.outdated.borrow_mut().extend(segments.range(key..).next().map(|(last, _)| *last));
    }

    fn keys_of(&self, last: u64) -> Keys {
        Keys { after: self.segments.borrow().range(..last).next_back().map_or(0, |(before, _)| *before), last }
    }
}

impl ListStorage for Tables {
    fn live_keys(&self, keys: Keys, filters: &Filters, most: u64) -> Result<Vec<SizedKey>, StorageError> {
        Ok(found(&self.live.borrow(), keys, filters, most))
    }

    fn ended_keys(&self, keys: Keys, filters: &Filters, most: u64) -> Result<Vec<SizedKey>, StorageError> {
        let ended = self.ended.borrow();
        *self.read.borrow_mut() += ended.range(keys.after + 1..=keys.last).count() as u64;
        Ok(found(&ended, keys, filters, most))
    }

    fn heads(&self, keys: &[u64]) -> Result<Vec<(String, Head)>, StorageError> {
        let (live, ended) = (self.live.borrow(), self.ended.borrow());
        let heads = keys.iter().filter_map(|key| ended.get(key).or_else(|| live.get(key)));
        Ok(heads.map(|head| (head.id().sort_key().to_string(), head.clone())).collect())
    }

    fn last_summarized(&self) -> Result<Option<u64>, StorageError> {
        Ok(self.segments.borrow().keys().next_back().copied())
    }

    fn segments(&self, keys: Keys, wanted: &Wanted, most: u64) -> Result<Vec<Keys>, StorageError> {
        let has = |text: &str, part: &Option<String>| part.as_ref().is_none_or(|part| text.contains(part.as_str()));
        let may_have = |summary: &Summary| {
            has(&summary.statuses, &wanted.status)
                && has(&summary.services, &wanted.service)
                && has(&summary.capabilities, &wanted.capability)
                && has(&summary.owners, &wanted.owner)
                && has(&summary.error_codes, &wanted.error_code)
        };
        let (segments, outdated) = (self.segments.borrow(), self.outdated.borrow());
        let all = segments.iter().rev().map(|(last, summary)| (self.keys_of(*last), summary));
        let overlaps = all.filter(|(segment, _)| segment.last > keys.after && segment.after < keys.last);
        let wanted = overlaps.filter(|(segment, summary)| outdated.contains(&segment.last) || may_have(summary));
        Ok(wanted.map(|(segment, _)| segment).take(most as usize).collect())
    }

    fn nth_ended(&self, after: u64, before: u64, n: u64) -> Result<Option<u64>, StorageError> {
        let ended = self.ended.borrow();
        let range = ended.range(after + 1..before.max(after + 1));
        Ok(range.map(|(key, _)| *key).nth(n as usize - 1))
    }

    fn summarized(&self, keys: Keys) -> Result<Vec<Summarized>, StorageError> {
        let summarized = |head: &Head| Summarized {
            status: head.status.as_str().into(),
            service: head.admission.service.to_string(),
            capability: head.admission.capability.clone(),
            owner: head.admission.owner.to_string(),
            error_code: head.error.as_ref().map(|error| error.code.as_str().into()),
        };
        Ok(self.ended.borrow().range(keys.after + 1..=keys.last).map(|(_, head)| summarized(head)).collect())
    }

    fn put_segment(&self, last: u64, summary: &Summary) -> Result<(), StorageError> {
        self.segments.borrow_mut().insert(last, summary.clone());
        self.outdated.borrow_mut().remove(&last);
        Ok(())
    }

    fn outdated(&self, most: u64) -> Result<Vec<Keys>, StorageError> {
        Ok(self.outdated.borrow().iter().take(most as usize).map(|last| self.keys_of(*last)).collect())
    }
}

/// A context created at this time: its key, and its head once it has ended.
fn context(ms: u64, service: u8, owner: u8, code: Option<ErrorCode>) -> (u64, Head) {
    let mut random = [0; 10];
    random[..3].copy_from_slice(&[service, owner, 7]);
    let id = ContextId::new(StoreId { region: Region::Eu, shard: 0 }, at(ms), random);
    let key = row_key(id.sort_key());
    let owner = crate::base::principal_id::PrincipalId::of_key(&format!("o{owner}"));
    let service = crate::base::service_id::ServiceId::from(format!("s{service}").as_str());
    let admission = Admission { id, owner, service, ..fixtures::admission(1, at(ms)) };
    let mut head = Head::admit(admission, at(ms));
    head.status = if code.is_some() { Status::Failed } else { Status::Completed };
    head.error = code.map(|code| ContextError { code, message: String::new(), service: None, details: None });
    (key, head)
}

const ALL: Keys = Keys { after: 0, last: u64::MAX >> 1 };

fn bounds(contexts: u64, bytes: u64) -> Bounds {
    Bounds { contexts, bytes, segments: MAX_READ }
}

/// The sort keys of all pages.
fn pages(tables: &Tables, filters: &Filters, limit: usize, max_bytes: u64) -> (Vec<String>, usize) {
    let (mut seen, mut keys, mut count) = (Vec::new(), ALL, 0);
    loop {
        count += 1;
        assert!(count < 1_000);
        let PagePart { items, complete_to } = list(tables, keys, filters, bounds(limit as u64 + 1, max_bytes)).unwrap();
        let items = items.into_iter().map(|(key, head)| (key.clone(), head.id().sort_key().to_string())).collect();
        let (page, next) = PagePart { items, complete_to }.page(limit);
        seen.extend(page);
        let Some(next) = next else { return (seen, count) };
        keys.last = row_key(&next) - 1;
    }
}

#[test]
fn what_is_rare_is_found_without_reading_the_rest() {
    let tables = Tables::default();
    for number in 0..50_000 {
        let code = (number == 12_345).then_some(ErrorCode::UpstreamTimeout);
        let (key, head) = context(number, (number % 3) as u8, (number / 30_000) as u8, code);
        tables.end(key, head);
    }
    for segments in [MAX_SUMMARIZED as usize, 50] {
        summarize(&tables, at(10 * MINUTE), SEGMENT_CONTEXTS).unwrap();
        assert_eq!(tables.segments.borrow().len(), segments);
    }
    let read = |filters: &Filters| {
        tables.read.replace(0);
        let (found, pages) = pages(&tables, filters, 50, 2_000_000);
        (found.len(), pages, tables.read.take())
    };
    let code = |code: &str| Filters { error_code: Some(code.into()), ..Filters::default() };
    assert_eq!(read(&code("upstream_timeout")), (1, 1, 1_000));
    assert_eq!(read(&code("upstream_error")), (0, 1, 0));
    assert_eq!(read(&Filters { status: Some(Status::Failed), ..Filters::default() }), (1, 1, 1_000));
    assert_eq!(read(&Filters { status: Some(Status::Cancelled), ..Filters::default() }), (0, 1, 0));
    assert_eq!(read(&Filters { service: Some("s9".into()), ..Filters::default() }), (0, 1, 0));
    // Each property occurs, but not together: a page reads only so much, and the next one continues.
    let both =
        Filters { owner: Some("key:o0".into()), error_code: Some("upstream_timeout".into()), ..Filters::default() };
    assert_eq!(read(&both).0, 1);
    let absent = Filters { service: Some("s1".into()), capability: Some("none".into()), ..Filters::default() };
    assert_eq!(read(&absent), (0, 1, 0));
}

#[test]
fn a_page_that_finds_nothing_says_where_it_ended() {
    let tables = Tables::default();
    for number in 0..60_000 {
        // Service 1 fails and service 2 does not.
        let service = 1 + (number % 2) as u8;
        let (key, head) = context(number, service, 0, (service == 1).then_some(ErrorCode::UpstreamError));
        tables.end(key, head);
    }
    let (key, head) = context(5, 2, 9, Some(ErrorCode::UpstreamError));
    tables.end(key, head);
    for _ in 0..2 {
        summarize(&tables, at(10 * MINUTE), SEGMENT_CONTEXTS).unwrap();
    }
    let filters = Filters { service: Some("s2".into()), status: Some(Status::Failed), ..Filters::default() };
    let first = list(&tables, ALL, &filters, bounds(51, 2_000_000)).unwrap();
    assert!(first.items.is_empty() && first.complete_to.is_some());
    assert!(tables.read.take() <= MAX_READ * SEGMENT_CONTEXTS + SEGMENT_CONTEXTS);
    let (found, count) = pages(&tables, &filters, 50, 2_000_000);
    assert_eq!((found.len(), count), (1, 3));
}

#[test]
fn what_ends_late_is_found_before_and_after_it_is_summarized() {
    let tables = Tables::default();
    for number in 0..3_000 {
        let (key, head) = context(number, 1, 0, None);
        tables.end(key, head);
    }
    summarize(&tables, at(10 * MINUTE), SEGMENT_CONTEXTS).unwrap();
    let (key, head) = context(1_500, 2, 0, Some(ErrorCode::DeadlineExceeded));
    tables.end(key, head);
    let filters = Filters { status: Some(Status::Failed), ..Filters::default() };
    assert_eq!((tables.outdated.borrow().len(), pages(&tables, &filters, 50, 2_000_000).0.len()), (1, 1));
    summarize(&tables, at(10 * MINUTE), SEGMENT_CONTEXTS).unwrap();
    tables.read.replace(0);
    assert_eq!((tables.outdated.borrow().len(), pages(&tables, &filters, 50, 2_000_000).0.len()), (0, 1));
    assert!(tables.read.take() < 1_100);
}

#[test]
fn young_contexts_are_not_summarized() {
    let tables = Tables::default();
    for number in 0..2_500 {
        let (key, head) = context(number, 1, 0, None);
        tables.end(key, head);
    }
    summarize(&tables, at(MINUTE + 1_200), SEGMENT_CONTEXTS).unwrap();
    assert_eq!(tables.segments.borrow().len(), 1);
    summarize(&tables, at(2 * MINUTE + 500), SEGMENT_CONTEXTS).unwrap();
    assert_eq!(tables.segments.borrow().len(), 2);
}

#[derive(Debug, Clone)]
enum Step {
    Begin { ms: u64, service: u8, owner: u8 },
    End { which: usize, code: u8 },
    Summarize,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..400u64, 0..3u8, 0..3u8).prop_map(|(ms, service, owner)| Step::Begin { ms, service, owner }),
        5 => (any::<usize>(), 0..4u8).prop_map(|(which, code)| Step::End { which, code }),
        1 => Just(Step::Summarize),
    ]
}

prop_compose! {
    fn any_filters()(
        owner in prop::option::of(0..4u8), service in prop::option::of(0..4u8),
        status in prop::option::of(prop::sample::select(&Status::ALL[..])),
        code in prop::option::of(prop::sample::select(vec!["upstream_error", "upstream_timeout"])),
    ) -> Filters {
        Filters {
            owner: owner.map(|owner| format!("key:o{owner}")),
            service: service.map(|service| format!("s{service}")),
            capability: None,
            status,
            error_code: code.map(Into::into),
        }
    }
}

proptest! {
    /// Whatever is summarized, and whenever contexts end: the pages are the list.
    #[test]
    fn pages_are_what_the_filters_let_through(
        steps in prop::collection::vec(any_step(), 0..120),
        filters in any_filters(),
        limit in 1..6usize,
        segment in 1..5u64,
        small in any::<bool>(),
    ) {
        let tables = Tables::default();
        let mut begun: Vec<(u64, u8, u8)> = Vec::new();
        for step in steps {
            match step {
                Step::Begin { ms, service, owner } => {
                    let (key, mut head) = context(ms, service, owner, None);
                    if tables.ended.borrow().contains_key(&key) { continue; }
                    head.status = Status::Queued;
                    if tables.live.borrow_mut().insert(key, head).is_none() {
                        begun.push((ms, service, owner));
                    }
                }
                Step::End { which, code } => {
                    if begun.is_empty() { continue; }
                    let (ms, service, owner) = begun.swap_remove(which % begun.len());
                    let code = match code { 0 => Some(ErrorCode::UpstreamError), 1 => Some(ErrorCode::UpstreamTimeout), _ => None };
                    let (key, head) = context(ms, service, owner, code);
                    tables.end(key, head);
                }
                Step::Summarize => summarize(&tables, at(MINUTE + 300), segment).unwrap(),
            }
        }
        let max_bytes = if small { 900 } else { 2_000_000 };
        let (seen, _) = pages(&tables, &filters, limit, max_bytes);
        let (live, ended) = (tables.live.borrow(), tables.ended.borrow());
        let fitting = live.values().chain(ended.values()).filter(|head| matches(head, &filters));
        let mut expected: Vec<String> = fitting.map(|head| head.id().sort_key().to_string()).collect();
        expected.sort_by(|a, b| b.cmp(a));
        prop_assert_eq!(seen, expected);
    }
}
