use super::super::passthrough::method;
use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

const LISTED: &str = "resources";

fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}

fn listed() -> (ForwardedMethod, &'static str) {
    (method("resources/list").unwrap(), LISTED)
}

fn page(uris: &[&str], next: Option<&str>) -> Value {
    let items: Vec<Value> = uris.iter().map(|uri| json!({"uri": uri, "name": "r"})).collect();
    let mut page = json!({"resources": items});
    if let Some(next) = next {
        page["nextCursor"] = json!(next);
    }
    page
}

/// What a client of one server gets, and how many requests that took.
fn whole(server: impl Fn(Option<&str>) -> Value, cursor: Option<&str>) -> (Value, usize) {
    let mut whole = CombinedList::new(LISTED, cursor, raw(&server(cursor)));
    let mut asked = 1;
    while let Some(next) = whole.cursor() {
        asked += 1;
        let page = raw(&server(Some(&next)));
        if !whole.take(next, page) {
            break;
        }
    }
    let result = whole.result(listed().0, true).unwrap();
    (serde_json::from_str(&result).unwrap(), asked)
}

/// What is read of one server among others, and how many requests that took.
fn read(id: &str, server: impl Fn(Option<&str>) -> Value, from: Option<&str>) -> (ListRead, usize) {
    let service = ServiceId::from(id);
    let mut reading = ListReader::new(&service, listed(), from.map(Into::into));
    let mut asked = 0;
    loop {
        asked += 1;
        let page = raw(&server(reading.cursor.as_deref()));
        match reading.take(&page) {
            Ok(more) => reading = more,
            Err(read) => return (read, asked),
        }
    }
}

fn uris(result: &Value) -> Vec<&str> {
    result["resources"].as_array().unwrap().iter().map(|item| item["uri"].as_str().unwrap()).collect()
}

fn of(read: &ListRead) -> Vec<&str> {
    read.pages.iter().flat_map(|(_, items)| items).map(|item| item.own.as_str()).collect()
}

#[test]
fn a_list_that_leads_back_by_an_empty_cursor_is_whole() {
    // From the second page to the first, and from the only one to itself.
    let two = |cursor: Option<&str>| match cursor {
        Some("c") => page(&["demo://2"], Some("")),
        _ => page(&["demo://1"], Some("c")),
    };
    let one = |_: Option<&str>| page(&["demo://1"], Some(""));
    let (result, asked) = whole(two, None);
    assert_eq!((uris(&result), asked), (vec!["demo://1", "demo://2"], 3));
    assert_eq!(result, page(&["demo://1", "demo://2"], None));
    assert_eq!(whole(one, None), (page(&["demo://1"], None), 2));
    for (count, (read, asked)) in [(2, read("a", two, None)), (1, read("a", one, None))] {
        assert_eq!((of(&read).len(), asked), (count, count + 1));
        assert!(read.is_whole && read.next.is_none() && read.left_out.is_empty());
    }
}

#[test]
fn an_empty_cursor_that_leads_on_is_not_the_end() {
    let server = |cursor: Option<&str>| match cursor {
        None => page(&["demo://1"], Some("")),
        Some("") => page(&["demo://2"], Some("c")),
        _ => page(&["demo://3"], None),
    };
    assert_eq!(whole(server, None), (page(&["demo://1", "demo://2", "demo://3"], None), 3));
    let (read, _) = read("a", server, None);
    assert!(read.is_whole && of(&read).len() == 3);
}

#[test]
fn a_list_that_leads_back_ends_and_reports_it() {
    let same = |cursor: Option<&str>| page(&[cursor.map_or("demo://1", |_| "demo://2")], Some("c"));
    let round = |cursor: Option<&str>| match cursor {
        Some("c") => page(&["demo://2"], Some("d")),
        _ => page(&["demo://1"], Some("c")),
    };
    let always_new = |cursor: Option<&str>| {
        let at = cursor.map_or(0, |cursor| cursor.parse::<usize>().unwrap() + 1);
        page(&["demo://1"], Some(&at.to_string()))
    };
    let without = |cursor: Option<&str>| page(&[], Some(if cursor == Some("c") { "d" } else { "c" }));
    type Server<'s> = &'s dyn Fn(Option<&str>) -> Value;
    let servers: [(Server<'_>, usize); 4] = [(&same, 2), (&round, 2), (&always_new, 1), (&without, 0)];
    for (at, (server, count)) in servers.into_iter().enumerate() {
        let (result, asked) = whole(server, None);
        assert!(result.get("nextCursor").is_none() && asked <= 3, "{at}: {result} {asked}");
        assert_eq!(
            (uris(&result).len(), &result["_meta"]["narthex/left_out"][0]["reason"]),
            (count, &json!(LEADS_BACK))
        );
        let (read, asked) = read("a", server, None);
        assert!(read.next.is_none() && !read.is_whole && !read.left_out.is_empty() && asked <= 3, "{at}: {asked}");
    }
    // The page that a client requests may name itself as the next.
    let (result, asked) = whole(|_| page(&["demo://1"], Some("c")), Some("c"));
    assert!(result.get("nextCursor").is_none() && asked == 1, "{result}");
}

#[test]
fn invalid_items_are_bounded_too() {
    let server = |cursor: Option<&str>| {
        let at = cursor.map_or(0, |cursor| cursor.parse::<usize>().unwrap() + 1);
        json!({"resources": vec![at; 100_000], "nextCursor": at.to_string()})
    };
    let (read, asked) = read("hostile", server, None);
    assert!(asked <= 4, "{asked}");
    assert!(!read.is_whole && read.next.is_some());
    let hostile = ServiceId::from("hostile");
    let mut taken = CombinedPage::default();
    assert!(!taken.take(&hostile, read));
    assert!(taken.left_out.meta(None).unwrap().len() < 20_000);
}

#[test]
fn an_incomplete_list_may_contain_items_of_several() {
    let server = |_: Option<&str>| page(&["ui://app/1"], None);
    let cut_off = |_: Option<&str>| json!({"resources": [], "nextCursor": 7});
    let more =
        |cursor: Option<&str>| page(&[cursor.unwrap_or("demo://")], Some(&format!("{}x", cursor.unwrap_or_default())));
    let all = |reads: Vec<ListRead>| {
        let service = ServiceId::from("a");
        let mut taken = CombinedPage::default();
        let _ = reads.into_iter().all(|read| taken.take(&service, read));
        taken.is_all()
    };
    let good = || read("b", server, None).0;
    assert!(good().is_whole && good().has("ui://app/1") && !good().has("ui://app/2"));
    assert!(all(vec![good(), good()]));
    assert!(!all(vec![good(), ListRead::nothing(&"a".into(), "it is down")]));
    assert!(!all(vec![ListRead::nothing(&"a".into(), "a limit"), good()]));
    assert!(!all(vec![good(), read("a", cut_off, None).0]));
    assert!(!all(vec![good(), read("a", more, None).0]));
    assert!(!all(vec![read("b", server, Some("c")).0, good()]));
    let a = ServiceId::from("a");
    let broken = ListReader::new(&a, listed(), None).broken("it is down");
    assert!(!all(vec![good(), broken]));
    let no_list = ListReader::new(&a, listed(), None).take(&raw(&json!({"resources": 1}))).unwrap_err();
    assert!(!all(vec![good(), no_list]));
    let mut ended = CombinedPage::default();
    assert!(ended.take(&a, good()));
    ended.end(&"b".into(), None);
    assert!(!ended.is_all());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The cursors of the pages lead through everything that the servers list, without repetition.
    #[test]
    fn all_is_listed_once(sizes in proptest::collection::vec((1_usize..40, 1_usize..60_000), 1..6)) {
        let ids: Vec<ServiceId> = (0..sizes.len()).map(|at| ServiceId::from_stored(format!("s{at}"))).collect();
        let server = |at: usize| {
            let (pages, bytes) = sizes[at];
            move |cursor: Option<&str>| {
                let number = cursor.map_or(0, |cursor| cursor.parse::<usize>().unwrap());
                let next = (number + 1 < pages).then(|| (number + 1).to_string());
                let mut page = page(&[&format!("demo://{at}/{number}")], next.as_deref());
                page["resources"][0]["description"] = json!("x".repeat(bytes));
                page
            }
        };
        let (mut seen, mut next) = (Vec::new(), Some(String::from("s0")));
        while let Some(from) = next {
            let (service, cursor) = placed(&from);
            let mut cursor = cursor;
            let mut taken = CombinedPage::default();
            let first = ids.iter().position(|id| id.as_str() == service).unwrap();
            for (at, id) in ids.iter().enumerate().skip(first) {
                if !taken.take(id, read(id.as_str(), server(at), cursor.take()).0) {
                    break;
                }
            }
            prop_assert!(!taken.items.is_empty());
            seen.extend(taken.items.into_iter().map(|(_, item)| item.own));
            next = taken.next;
        }
        let count = seen.len();
        prop_assert_eq!(count, sizes.iter().map(|(pages, _)| pages).sum::<usize>());
        seen.sort_unstable();
        seen.dedup();
        prop_assert_eq!(seen.len(), count);
    }
}
