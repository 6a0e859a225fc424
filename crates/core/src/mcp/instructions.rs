//! The `instructions` of several servers, combined.

use crate::base::service_id::ServiceId;

/// The maximum size of all instructions together, and of those of one server, in bytes.
const MAX_BYTES: usize = 16 * 1024;
const MAX_OF_ONE: usize = 4 * 1024;
/// The minimum size that is worth including of one server, in bytes.
const MIN_OF_ONE: usize = 200;

/// The instructions of one server.
pub struct ServiceInstructions<'a> {
    pub service: &'a ServiceId,
    pub name: &'a str,
    pub text: &'a str,
}

/// The beginning of a text, of at most `most` bytes.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.into();
    }
    let fits = text.char_indices().map(|(at, one)| at + one.len_utf8()).take_while(|end| *end + '…'.len_utf8() <= most);
    format!("{}…", text.get(..fits.last().unwrap_or(0)).unwrap_or_default())
}

/// All instructions, each under its service's name. Long ones are cut off; if there are too many, the number of the
/// rest is given. `more`: how many others have instructions.
pub fn combined(all: &[ServiceInstructions<'_>], more: usize) -> Option<String> {
    let (mut text, mut silent) = (String::new(), more);
    let max_of_one = (MAX_BYTES / (all.len() + more).max(1)).clamp(MIN_OF_ONE, MAX_OF_ONE);
    for ServiceInstructions { service, name, text: said } in all {
        let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut part = format!("# {name} (`{service}__…`)\n\n");
        let room = max_of_one.saturating_sub(part.len() + 2).max(MIN_OF_ONE / 2);
        part.push_str(&cut(said.trim(), room));
        part.push_str("\n\n");
        if text.len() + part.len() > MAX_BYTES {
            silent += 1;
        } else {
            text.push_str(&part);
        }
    }
    if silent > 0 {
        text.push_str(&format!("{silent} more services have instructions, each at its own address.\n"));
    }
    let text = text.trim_end();
    (!text.is_empty()).then(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_has_its_services_name_as_heading() {
        let (files, b) = ("files".into(), "b".into());
        let all = [
            ServiceInstructions { service: &files, name: "My\nfiles", text: "Read first.\n" },
            ServiceInstructions { service: &b, name: "B", text: "Ask." },
        ];
        let expected = "# My files (`files__…`)\n\nRead first.\n\n# B (`b__…`)\n\nAsk.";
        assert_eq!(combined(&all, 0).as_deref(), Some(expected));
        assert_eq!(combined(&[], 0), None);
    }

    proptest! {
        #[test]
        fn the_text_is_bounded_and_no_included_part_is_empty(count in 1_usize..200, length in 0_usize..20_000) {
            let text = "ü".repeat(length);
            let a = "a".into();
            let all: Vec<_> = (0..count).map(|_| ServiceInstructions { service: &a, name: "A", text: &text }).collect();
            let said = combined(&all, 0).unwrap();
            prop_assert!(said.len() <= MAX_BYTES + 100, "{}", said.len());
            prop_assert_eq!(said.contains("more services"), said.matches("# A").count() < count);
        }
    }
}
