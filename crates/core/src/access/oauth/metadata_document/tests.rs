use super::*;
use proptest::prelude::*;

const T: Timestamp = Timestamp(1_800_000_000_000);
const URL: &str = "https://app.example.com/client.json";

fn said(cache_control: &str) -> CachingHeaders {
    CachingHeaders { cache_control: cache_control.into(), ..CachingHeaders::default() }
}

fn after(seconds: u64) -> Timestamp {
    T.plus_ms(seconds * 1000)
}

/// A cache with a document that was received with these headers.
fn with(said: &CachingHeaders) -> DocumentCache<u8> {
    let mut cache = DocumentCache::default();
    assert_eq!(cache.lookup(URL, T, T), Lookup::Fetch { etag: None });
    cache.begin_fetch(URL, "me", "app.example.com", T).unwrap();
    cache.store(URL, 1, said, T);
    cache
}

/// How many seconds it is used without a request.
fn life(said: &CachingHeaders) -> u64 {
    let mut cache = with(said);
    let mut uses = |seconds| matches!(cache.lookup(URL, after(seconds), after(seconds)), Lookup::Use(_));
    let (mut low, mut high) = (0, 200_000);
    while low < high {
        let middle = (low + high) / 2;
        if uses(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

#[test]
fn a_document_is_used_for_its_freshness_lifetime() {
    for (cache_control, seconds) in [
        ("max-age=3600", 3600),
        ("public, Max-Age=\"600\"", 600),
        ("max-age=3600, s-maxage=60", 60),
        ("max-age=999999999999", 86_400),
        ("max-age=18446744073709551616", 0),
        ("max-age=soon", 0),
        ("max-age=3600, no-cache", 0),
        ("no-store, max-age=3600", 0),
        ("private, max-age=3600", 0),
        ("", 0),
    ] {
        assert_eq!(life(&said(cache_control)), seconds, "{cache_control}");
    }
    assert_eq!(life(&CachingHeaders { age: "100".into(), ..said("max-age=3600") }), 3500);
    assert_eq!(life(&CachingHeaders { age: "4000".into(), ..said("max-age=3600") }), 0);
    let dated = |date: &str, expires: &str| CachingHeaders {
        date: date.into(),
        expires: expires.into(),
        ..CachingHeaders::default()
    };
    assert_eq!(life(&dated("Fri, 15 Jan 2027 08:00:00 GMT", "Fri, 15 Jan 2027 08:05:00 GMT")), 300);
    assert_eq!(life(&dated("", "Fri, 15 Jan 2027 08:10:00 GMT")), 600);
    assert_eq!(life(&dated("", "0")), 0);
    assert_eq!(
        life(&CachingHeaders { cache_control: "max-age=5".into(), ..dated("", "Fri, 15 Jan 2027 09:00:00 GMT") }),
        5
    );
}

#[test]
fn what_is_past_its_time_is_asked_for_by_its_tag() {
    let mut cache = with(&CachingHeaders { etag: "\"v1\"".into(), ..said("max-age=60") });
    let (at, later) = (after(60), after(90));
    assert_eq!(cache.lookup(URL, at, at), Lookup::Fetch { etag: Some("\"v1\"".into()) });
    cache.begin_fetch(URL, "me", "app.example.com", at).unwrap();
    assert_eq!(
        cache.revalidated(URL, &CachingHeaders::default(), at).map(|found| (found.content, found.at)),
        Some((1, at))
    );
    assert!(matches!(cache.lookup(URL, later, later), Lookup::Use(_)));
    let mut never = with(&CachingHeaders { etag: "\"v1\"".into(), ..said("no-store") });
    assert_eq!(never.lookup(URL, at, at), Lookup::Fetch { etag: None });
}

#[test]
fn one_fetches_and_the_others_wait_for_what_it_brings() {
    for headers in [said("max-age=60"), said("no-store"), CachingHeaders::default()] {
        let mut cache = DocumentCache::default();
        cache.begin_fetch(URL, "me", "app.example.com", T).unwrap();
        assert_eq!(cache.lookup(URL, T, after(1)), Lookup::Wait);
        cache.store(URL, 1, &headers, after(1));
        assert_eq!(cache.lookup(URL, T, after(1)), Lookup::Use(CachedDocument { content: 1, at: after(1) }));
    }
    let mut cache: DocumentCache<u8> = DocumentCache::default();
    cache.begin_fetch(URL, "me", "app.example.com", T).unwrap();
    assert_eq!(cache.unreachable(URL, after(1)), None);
    assert_eq!(cache.lookup(URL, T, after(1)), Lookup::Unreachable);
    assert_eq!(cache.lookup(URL, after(2), after(2)), Lookup::Fetch { etag: None }, "who comes later tries again");
    cache.begin_fetch(URL, "me", "app.example.com", after(2)).unwrap();
    assert_eq!(cache.lookup(URL, after(2), after(9)), Lookup::Fetch { etag: None }, "one that died is not waited for");
}

#[test]
fn an_outage_is_lived_through_for_a_day_where_the_server_allows_it() {
    let mut cache = with(&said("max-age=60"));
    assert!(cache.unreachable(URL, after(61)).is_some());
    assert!(cache.unreachable(URL, after(86_459)).is_some());
    assert_eq!(cache.unreachable(URL, after(86_460)), None);
    for never in ["max-age=60, must-revalidate", "no-store", "private", "s-maxage=60", "max-age=60, proxy-revalidate"] {
        assert_eq!(with(&said(never)).unreachable(URL, after(61)), None, "{never}");
    }
    cache.remove(URL);
    assert_eq!(cache.unreachable(URL, after(62)), None);
}

#[test]
fn made_up_documents_are_fetched_so_often_and_no_more() {
    let mut cache: DocumentCache<u8> = DocumentCache::default();
    let fetched = (0..1_000).filter(|n| {
        let url = format!("https://app.example.com/{n}");
        let begun = cache.begin_fetch(&url, "me", "app.example.com", T).is_ok();
        cache.remove(&url);
        begun
    });
    assert_eq!(fetched.count(), 30);
    assert!(
        cache.begin_fetch("https://b.example.com/", "another", "b.example.com", T).is_ok(),
        "others are not held up"
    );
    assert_eq!(cache.begin_fetch("https://c.example.com/", "me", "c.example.com", after(59)), Err(FetchLimit(1_000)));
    assert!(cache.begin_fetch("https://c.example.com/", "me", "c.example.com", after(60)).is_ok());
}

#[test]
fn a_host_is_asked_so_often_and_no_more_and_so_many_at_once() {
    let mut cache: DocumentCache<u8> = DocumentCache::default();
    let fetched = (0..1_000).filter(|n| {
        let url = format!("https://app.example.com/{n}");
        let begun = cache.begin_fetch(&url, &format!("caller {n}"), "app.example.com", T).is_ok();
        cache.remove(&url);
        begun
    });
    assert_eq!(fetched.count(), 120);
    let mut slow: DocumentCache<u8> = DocumentCache::default();
    let at_once =
        (0..1_000).filter(|n| slow.begin_fetch(&format!("https://{n}.example.com/"), "me", "x", T).is_ok()).count();
    assert_eq!(at_once, 16);
}

proptest! {
    /// A cache stays small, whatever it stores.
    #[test]
    fn a_cache_stays_small(urls in proptest::collection::vec(0u32..5_000, 1_000..1_500)) {
        let mut cache = DocumentCache::default();
        for (at, url) in urls.iter().enumerate() {
            let (url, now) = (url.to_string(), after(at as u64));
            if cache.begin_fetch(&url, "me", &url, now).is_ok() {
                cache.store(&url, 1u8, &said("max-age=60"), now);
            }
            prop_assert!(cache.held.len() <= MAX_ENTRIES && cache.counted.len() <= 4 * MAX_FETCHED as usize);
        }
    }

    #[test]
    fn any_header_may_be_read(
        text in "\\PC{0,60}",
        date in "[A-Za-z]{0,4},? ?[0-9]{0,3} [A-Z][a-z]{2} [0-9]{0,5} [0-9:]{0,9} (GMT)?",
    ) {
        life(&CachingHeaders { cache_control: text.clone(), age: text.clone(), expires: date, date: text, etag: String::new() });
    }
}
