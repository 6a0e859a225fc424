//! What servers tell their clients' models of themselves (`instructions`), where those of many are together.

/// What is said of all servers together, and the longest part of it that is one server's, in bytes.
const MAX_BYTES: usize = 16 * 1024;
const MAX_OF_ONE: usize = 4 * 1024;
/// Less than this of one server's is not worth saying.
const LEAST_OF_ONE: usize = 200;

/// One server's.
pub struct Said<'a> {
    pub service: &'a str,
    pub name: &'a str,
    pub text: &'a str,
}

/// A text's beginning, of at most so many bytes.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.into();
    }
    let fits = text.char_indices().map(|(at, one)| at + one.len_utf8()).take_while(|end| *end + '…'.len_utf8() <= most);
    format!("{}…", text.get(..fits.last().unwrap_or(0)).unwrap_or_default())
}

/// All of them, each under its service's name. What is too long is cut; where there are too many, the rest is named.
pub fn combined(all: &[Said<'_>]) -> Option<String> {
    let (mut text, mut silent) = (String::new(), 0);
    let most_of_one = (MAX_BYTES / all.len().max(1)).clamp(LEAST_OF_ONE, MAX_OF_ONE);
    for Said { service, name, text: said } in all {
        let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut part = format!("# {name} (`{service}__…`)\n\n");
        let room = most_of_one.saturating_sub(part.len() + 2).max(LEAST_OF_ONE / 2);
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
    fn each_is_said_under_its_services_name() {
        let all = [
            Said { service: "files", name: "My\nfiles", text: "Read first.\n" },
            Said { service: "b", name: "B", text: "Ask." },
        ];
        let expected = "# My files (`files__…`)\n\nRead first.\n\n# B (`b__…`)\n\nAsk.";
        assert_eq!(combined(&all).as_deref(), Some(expected));
        assert_eq!(combined(&[]), None);
    }

    proptest! {
        #[test]
        fn it_is_bounded_and_each_that_is_said_is_said_in_part(count in 1_usize..200, length in 0_usize..20_000) {
            let text = "ü".repeat(length);
            let all: Vec<_> = (0..count).map(|_| Said { service: "a", name: "A", text: &text }).collect();
            let said = combined(&all).unwrap();
            prop_assert!(said.len() <= MAX_BYTES + 100, "{}", said.len());
            prop_assert_eq!(said.contains("more services"), said.matches("# A").count() < count);
        }
    }
}
