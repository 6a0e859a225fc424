//! JSON as a tree in which different numbers stay different.
//!
//! A tree holds doubles. Most numbers in practice are written exactly as their double is, so equal doubles are equal
//! numbers, in the same order. The few others (with more digits than a double can hold, or too small for it) get a
//! stand-in: a double that encodes an index into a list. Stand-ins are subnormal for numbers with a fraction, and from
//! the largest binade for integers. Numbers that are really in these two ranges are put in the list as well, so that
//! the ranges contain stand-ins only.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt::{self, Write as _};

use serde_json::{Number, Value};

use super::decimal::Decimal;
use super::json_parts::after_string;

/// The upper bits of the doubles from 2^1023 on.
const LARGEST: u64 = 0x7fe;
const MANTISSA: u64 = (1 << 52) - 1;
/// A number with at most so many digits and without an exponent is written exactly as its double is.
const SURE_DIGITS: usize = 15;

/// The numbers behind the stand-ins of a tree.
#[derive(Debug, Clone, Default)]
pub struct Numbers {
    list: Vec<Decimal>,
    places: HashMap<Decimal, usize>,
}

/// A number of a tree.
#[derive(Debug)]
pub enum TreeNumber<'n> {
    Plain(f64),
    Listed(&'n Decimal),
}

/// The two parts of the list that a tree's stand-ins refer to: numbers known before, then the tree's own.
#[derive(Debug, Clone, Copy)]
pub struct NumberLists<'n> {
    pub before: &'n Numbers,
    pub own: &'n Numbers,
}

impl Numbers {
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn add(&mut self, decimal: Decimal) -> usize {
        let next = self.list.len();
        *self.places.entry(decimal).or_insert_with_key(|decimal| {
            self.list.push(decimal.clone());
            next
        })
    }
}

impl<'n> NumberLists<'n> {
    /// The number in a tree, resolved if it is a stand-in.
    pub fn known(self, number: &Number) -> TreeNumber<'n> {
        let double = number.as_f64().unwrap_or_default();
        let place = if number.is_f64() { place_of(double) } else { None };
        let listed = place.and_then(|place| match place.checked_sub(self.before.list.len()) {
            None => self.before.list.get(place),
            Some(own) => self.own.list.get(own),
        });
        listed.map_or(TreeNumber::Plain(double), TreeNumber::Listed)
    }

    pub fn decimal(self, number: &Number) -> Cow<'n, Decimal> {
        match self.known(number) {
            TreeNumber::Listed(decimal) => Cow::Borrowed(decimal),
            TreeNumber::Plain(_) => Cow::Owned(Decimal::parse(&number.to_string())),
        }
    }

    /// Writes a value with its real numbers.
    pub fn written(self, value: &Value) -> String {
        match value {
            Value::Number(number) => self.decimal(number).to_string(),
            Value::Array(items) => {
                let items: Vec<String> = items.iter().map(|item| self.written(item)).collect();
                format!("[{}]", items.join(","))
            }
            Value::Object(members) => {
                let member =
                    |(name, inner): (&String, &Value)| format!("{}:{}", Value::from(&**name), self.written(inner));
                let members: Vec<String> = members.iter().map(member).collect();
                format!("{{{}}}", members.join(","))
            }
            other => other.to_string(),
        }
    }
}

impl TreeNumber<'_> {
    pub fn is_integer(&self) -> bool {
        match self {
            Self::Plain(double) => double.fract() == 0.0,
            Self::Listed(decimal) => decimal.is_integer(),
        }
    }

    pub fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Plain(one), Self::Plain(other)) => one.total_cmp(other),
            (Self::Listed(one), Self::Listed(other)) => one.cmp(other),
            (Self::Plain(one), Self::Listed(other)) => Decimal::of(*one).cmp(other),
            (Self::Listed(one), Self::Plain(other)) => (*one).cmp(&Decimal::of(*other)),
        }
    }
}

/// The index in the list, if this double is a stand-in.
fn place_of(double: f64) -> Option<usize> {
    let bits = double.to_bits();
    let place = match bits >> 52 {
        0 => bits.checked_sub(1)?,
        LARGEST => bits & MANTISSA,
        _ => return None,
    };
    usize::try_from(place).ok()
}

fn double_for(place: usize, is_integer: bool) -> f64 {
    match is_integer {
        true => f64::from_bits((LARGEST << 52) + place as u64),
        false => f64::from_bits(place as u64 + 1),
    }
}

/// The number in this text, if it needs a stand-in.
fn unusual(text: &str) -> Option<Decimal> {
    let is_zero = |b: &u8| matches!(b, b'-' | b'0' | b'.');
    let digits = text.bytes().skip_while(is_zero).filter(u8::is_ascii_digit).count();
    if digits <= SURE_DIGITS && !text.contains(['e', 'E']) && text.len() < 2 * SURE_DIGITS {
        // −0 equals 0.
        return (digits == 0 && text.starts_with('-')).then(|| Decimal::parse("0"));
    }
    let double: f64 = text.parse().unwrap_or(f64::INFINITY);
    let place = double.abs().to_bits() >> 52;
    if (1..LARGEST).contains(&place) && is_written_so(double, text) {
        return None;
    }
    let decimal = Decimal::parse(text);
    let is_its_own = match place {
        0 => decimal.is_zero() && !text.starts_with('-'),
        place if place >= LARGEST => false,
        _ => Decimal::of(double) == decimal,
    };
    (!is_its_own).then_some(decimal)
}

/// Whether the double is written exactly so; compares without allocating.
fn is_written_so(double: f64, text: &str) -> bool {
    struct Left<'t>(&'t str);
    impl fmt::Write for Left<'_> {
        fn write_str(&mut self, part: &str) -> fmt::Result {
            self.0 = self.0.strip_prefix(part).ok_or(fmt::Error)?;
            Ok(())
        }
    }
    let mut left = Left(text);
    Number::from_f64(double).is_some_and(|number| write!(left, "{number}").is_ok()) && left.0.is_empty()
}

/// Replaces the numbers that need one by stand-ins. Returns the JSON text, and the numbers that are not in `before`.
/// Almost always that is the text itself and no numbers.
pub fn with_stand_ins<'t>(text: &'t str, before: &Numbers) -> (Cow<'t, str>, Numbers) {
    let mut own = Numbers::default();
    (replaced(text, |decimal, _| stand_in(decimal, before, &mut own)), own)
}

/// Replaces the numbers that a double cannot hold by strings, for display and comparison.
pub fn with_texts(text: &str) -> Cow<'_, str> {
    replaced(text, |_, number| format!("\"{number}\""))
}

fn replaced(text: &str, mut with: impl FnMut(Decimal, &str) -> String) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let (mut written, mut done, mut at) = (String::new(), 0, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = after_string(bytes, at),
            b'-' | b'0'..=b'9' => {
                let rest = bytes.get(at..).unwrap_or_default();
                let is_part = |b: &u8| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                let end = at + rest.iter().position(|b| !is_part(b)).unwrap_or(rest.len());
                let number = text.get(at..end).unwrap_or_default();
                if let Some(decimal) = unusual(number) {
                    written.push_str(text.get(done..at).unwrap_or_default());
                    written.push_str(&with(decimal, number));
                    done = end;
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    written.push_str(text.get(done..).unwrap_or_default());
    Cow::Owned(written)
}

fn stand_in(decimal: Decimal, before: &Numbers, own: &mut Numbers) -> String {
    if decimal.is_zero() {
        return "0".into();
    }
    let is_integer = decimal.is_integer();
    let place = match before.places.get(&decimal) {
        Some(place) => *place,
        None => before.list.len() + own.add(decimal),
    };
    format!("{:e}", double_for(place, is_integer))
}

/// The tree of a text, and the numbers behind its stand-ins that are not in `before`.
pub fn tree(text: &str, before: &Numbers) -> Result<(Value, Numbers), serde_json::Error> {
    let (text, own) = with_stand_ins(text, before);
    Ok((serde_json::from_str(&text)?, own))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> (Value, Numbers) {
        tree(text, &Numbers::default()).unwrap()
    }

    fn back(text: &str) -> String {
        let (value, own) = read(text);
        NumberLists { before: &Numbers::default(), own: &own }.written(&value)
    }

    #[test]
    fn usual_numbers_stay_as_they_are() {
        let doubles = [0.1, 1.0 / 3.0, 1e22, 5e-300, 123_456_789.123_456_79, f64::MIN_POSITIVE, 1e307];
        let text = serde_json::to_string(&doubles).unwrap();
        for text in [text.as_str(), "[1,1.0,-2.50,9007199254740992,1e2]", r#"{"a":"1e999 \" 92233720368547758081"}"#] {
            assert!(
                matches!(with_stand_ins(text, &Numbers::default()), (Cow::Borrowed(_), own) if own.is_empty()),
                "{text}"
            );
        }
    }

    #[test]
    fn others_keep_apart_what_a_double_does_not() {
        let (value, own) = read(
            "[92233720368547758081,92233720368547758082,92233720368547758081.0,0.99999999999999999999,1e-400,-0.0]",
        );
        assert_eq!(own.list.len(), 4);
        assert_ne!(value[0], value[1]);
        assert_eq!(value[0], value[2]);
        assert_eq!(value[5], 0);
        let is_whole = |at: usize| value[at].as_f64().unwrap().fract() == 0.0;
        assert!(is_whole(0) && !is_whole(3) && !is_whole(4));
        assert_eq!(
            back(r#"{"a":[92233720368547758081,1.50],"b":1e-400}"#),
            r#"{"a":[92233720368547758081,1.5],"b":1e-400}"#
        );
    }

    #[test]
    fn people_are_shown_texts() {
        assert_eq!(
            with_texts(r#"{"a":1.50,"b":[92233720368547758081]}"#),
            r#"{"a":1.50,"b":["92233720368547758081"]}"#
        );
    }

    #[test]
    fn what_stands_for_others_is_listed_itself() {
        let (value, own) = read("[5e-324,8.98846567431158e307,1.7976931348623157e308]");
        assert_eq!(own.list.len(), 3);
        assert_eq!(
            NumberLists { before: &own, own: &Numbers::default() }.written(&value),
            "[5e-324,898846567431158e293,17976931348623157e292]"
        );
    }

    #[test]
    fn a_list_continues_from_another() {
        let (first, before) = read("[0.1234567890123456781]");
        let (second, own) = tree("[0.1234567890123456781,0.1234567890123456782]", &before).unwrap();
        assert_eq!((own.list.len(), first[0] == second[0]), (1, true));
        assert_eq!(
            NumberLists { before: &before, own: &own }.written(&second),
            "[0.1234567890123456781,0.1234567890123456782]"
        );
    }

    fn number() -> impl Strategy<Value = String> {
        prop_oneof![
            "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,24})?(e[+-]?[0-9]{1,2})?",
            any::<f64>().prop_filter("finite", |double| double.is_finite()).prop_map(|double| format!("{double:?}")),
            Just("1159774767117613.2".to_owned()),
            Just("1159774767117613.3".to_owned()),
            (9_007_199_254_740_990u64..9_007_199_254_740_999).prop_map(|n| n.to_string()),
            "0\\.[0-9]{16,18}",
        ]
    }

    proptest! {
        #[test]
        fn it_compares_as_decimals_do(one in number(), other in number()) {
            let (value, own) = read(&format!("[{one},{other}]"));
            let none = Numbers::default();
            let lists = NumberLists { before: &none, own: &own };
            let [Value::Number(a), Value::Number(b)] = value.as_array().unwrap().as_slice() else { panic!() };
            let (x, y) = (Decimal::parse(&one), Decimal::parse(&other));
            prop_assert_eq!(lists.known(a).compare(&lists.known(b)), x.cmp(&y));
            prop_assert_eq!(a.as_f64() == b.as_f64(), x == y);
            prop_assert_eq!(lists.decimal(a).into_owned(), x.clone());
            prop_assert_eq!(a.as_f64().unwrap().fract() == 0.0, x.is_integer());
            prop_assert_eq!(lists.known(a).is_integer(), x.is_integer());
        }
    }
}
