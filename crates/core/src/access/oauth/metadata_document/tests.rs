use super::*;
use proptest::prelude::*;

const T: Timestamp = Timestamp(1_800_000_000_000);
const URL: &str = "https://app.example.com/client.json";

fn said(cache_control: &str) -> Said {
    Said { cache_control: cache_control.into(), ..Said::default() }
}

fn after(seconds: u64) -> Timestamp {
    T.plus_ms(seconds * 1000)
}

/// A shelf with a document that came with these headers.
fn with(said: &Said) -> Shelf<u8> {
    let mut shelf = Shelf::default();
    assert_eq!(shelf.look(URL, T, T), Look::Fetch { etag: None });
    shelf.begin(URL, "me", "app.example.com", T).unwrap();
    shelf.came(URL, 1, said, T);
    shelf
}

/// For how many seconds it is used without asking.
fn life(said: &Said) -> u64 {
    let mut shelf = with(said);
    let mut uses = |seconds| matches!(shelf.look(URL, after(seconds), after(seconds)), Look::Use(_));
    let (mut low, mut high) = (0, 200_000);
    while low < high {
        let middle = (low + high) / 2;
        if uses(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

#[test]
fn a_document_is_used_for_as_long_as_its_server_says() {
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
    assert_eq!(life(&Said { age: "100".into(), ..said("max-age=3600") }), 3500);
    assert_eq!(life(&Said { age: "4000".into(), ..said("max-age=3600") }), 0);
    let dated = |date: &str, expires: &str| Said { date: date.into(), expires: expires.into(), ..Said::default() };
    assert_eq!(life(&dated("Fri, 15 Jan 2027 08:00:00 GMT", "Fri, 15 Jan 2027 08:05:00 GMT")), 300);
    assert_eq!(life(&dated("", "Fri, 15 Jan 2027 08:10:00 GMT")), 600);
    assert_eq!(life(&dated("", "0")), 0);
    assert_eq!(life(&Said { cache_control: "max-age=5".into(), ..dated("", "Fri, 15 Jan 2027 09:00:00 GMT") }), 5);
}

#[test]
fn what_is_past_its_time_is_asked_for_by_its_tag() {
    let mut shelf = with(&Said { etag: "\"v1\"".into(), ..said("max-age=60") });
    let (at, later) = (after(60), after(90));
    assert_eq!(shelf.look(URL, at, at), Look::Fetch { etag: Some("\"v1\"".into()) });
    shelf.begin(URL, "me", "app.example.com", at).unwrap();
    assert_eq!(shelf.unchanged(URL, &Said::default(), at).map(|found| (found.content, found.at)), Some((1, at)));
    assert!(matches!(shelf.look(URL, later, later), Look::Use(_)));
    let mut never = with(&Said { etag: "\"v1\"".into(), ..said("no-store") });
    assert_eq!(never.look(URL, at, at), Look::Fetch { etag: None });
}

#[test]
fn one_fetches_and_the_others_wait_for_what_it_brings() {
    for headers in [said("max-age=60"), said("no-store"), Said::default()] {
        let mut shelf = Shelf::default();
        shelf.begin(URL, "me", "app.example.com", T).unwrap();
        assert_eq!(shelf.look(URL, T, after(1)), Look::Wait);
        shelf.came(URL, 1, &headers, after(1));
        assert_eq!(shelf.look(URL, T, after(1)), Look::Use(Found { content: 1, at: after(1) }));
    }
    let mut shelf: Shelf<u8> = Shelf::default();
    shelf.begin(URL, "me", "app.example.com", T).unwrap();
    assert_eq!(shelf.is_away(URL, after(1)), None);
    assert_eq!(shelf.look(URL, T, after(1)), Look::Away);
    assert_eq!(shelf.look(URL, after(2), after(2)), Look::Fetch { etag: None }, "who comes later tries again");
    shelf.begin(URL, "me", "app.example.com", after(2)).unwrap();
    assert_eq!(shelf.look(URL, after(2), after(9)), Look::Fetch { etag: None }, "one that died is not waited for");
}

#[test]
fn an_outage_is_lived_through_for_a_day_where_the_server_allows_it() {
    let mut shelf = with(&said("max-age=60"));
    assert!(shelf.is_away(URL, after(61)).is_some());
    assert!(shelf.is_away(URL, after(86_459)).is_some());
    assert_eq!(shelf.is_away(URL, after(86_460)), None);
    for never in ["max-age=60, must-revalidate", "no-store", "private", "s-maxage=60", "max-age=60, proxy-revalidate"] {
        assert_eq!(with(&said(never)).is_away(URL, after(61)), None, "{never}");
    }
    shelf.is_none(URL);
    assert_eq!(shelf.is_away(URL, after(62)), None);
}

#[test]
fn made_up_documents_are_fetched_so_often_and_no_more() {
    let mut shelf: Shelf<u8> = Shelf::default();
    let fetched = (0..1_000).filter(|n| {
        let url = format!("https://app.example.com/{n}");
        let begun = shelf.begin(&url, "me", "app.example.com", T).is_ok();
        shelf.is_none(&url);
        begun
    });
    assert_eq!(fetched.count(), 30);
    assert!(shelf.begin("https://b.example.com/", "another", "b.example.com", T).is_ok(), "others are not held up");
    assert_eq!(shelf.begin("https://c.example.com/", "me", "c.example.com", after(59)), Err(Busy(1_000)));
    assert!(shelf.begin("https://c.example.com/", "me", "c.example.com", after(60)).is_ok());
}

#[test]
fn a_host_is_asked_so_often_and_no_more_and_so_many_at_once() {
    let mut shelf: Shelf<u8> = Shelf::default();
    let fetched = (0..1_000).filter(|n| {
        let url = format!("https://app.example.com/{n}");
        let begun = shelf.begin(&url, &format!("caller {n}"), "app.example.com", T).is_ok();
        shelf.is_none(&url);
        begun
    });
    assert_eq!(fetched.count(), 120);
    let mut slow: Shelf<u8> = Shelf::default();
    let at_once = (0..1_000).filter(|n| slow.begin(&format!("https://{n}.example.com/"), "me", "x", T).is_ok()).count();
    assert_eq!(at_once, 16);
}

proptest! {
    /// Whatever comes, a shelf stays small.
    #[test]
    fn a_shelf_stays_small(urls in proptest::collection::vec(0u32..5_000, 1_000..1_500)) {
        let mut shelf = Shelf::default();
        for (at, url) in urls.iter().enumerate() {
            let (url, now) = (url.to_string(), after(at as u64));
            if shelf.begin(&url, "me", &url, now).is_ok() {
                shelf.came(&url, 1u8, &said("max-age=60"), now);
            }
            prop_assert!(shelf.held.len() <= MAX_HELD && shelf.counted.len() <= 4 * MAX_FETCHED as usize);
        }
    }

    #[test]
    fn any_header_may_be_read(
        text in "\\PC{0,60}",
        date in "[A-Za-z]{0,4},? ?[0-9]{0,3} [A-Z][a-z]{2} [0-9]{0,5} [0-9:]{0,9} (GMT)?",
    ) {
        life(&Said { cache_control: text.clone(), age: text.clone(), expires: date, date: text, etag: String::new() });
    }
}
