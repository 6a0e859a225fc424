//! JSON numbers as exact decimals. JSON does not define doubles (RFC 8259 §6): two different numbers can have the same
//! double.
//!
//! There is no arithmetic with large numbers: an exponent stays an exponent, and the time is linear in the digits.

use std::cmp::Ordering;
use std::fmt;

use serde_json::Number;

/// The largest absolute exponent; larger ones are treated as this one.
const FARTHEST: i64 = 1 << 50;

/// `digits` × 10^`exponent`, in a unique form: no zeros at either end, and no digits for zero.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Decimal {
    is_negative: bool,
    digits: Box<str>,
    exponent: i64,
}

/// A positive number for [`Decimal::is_multiple_of`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divisor {
    coefficient: u64,
    exponent: i64,
}

impl Decimal {
    /// Parses a JSON number. The text must be one.
    pub fn parse(text: &str) -> Self {
        let (is_negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, ""));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits = String::with_capacity(mantissa.len());
        digits.push_str(whole.trim_start_matches('0'));
        match digits.is_empty() {
            true => digits.push_str(fraction.trim_start_matches('0')),
            false => digits.push_str(fraction),
        }
        let length = digits.len();
        digits.truncate(digits.trim_end_matches('0').len());
        let moved = (length - digits.len()) as i64 - fraction.len() as i64;
        let exponent = read_exponent(exponent).saturating_add(moved).clamp(-FARTHEST, FARTHEST);
        match digits.is_empty() {
            true => Self { is_negative: false, digits: digits.into(), exponent: 0 },
            false => Self { is_negative, digits: digits.into(), exponent },
        }
    }

    /// The shortest decimal for this double, as serde_json writes it (other writers may choose another one that is
    /// equally near). Zero if the double is not finite.
    pub fn of(double: f64) -> Self {
        Number::from_f64(double).map_or_else(|| Self::parse("0"), |number| Self::parse(&number.to_string()))
    }

    pub fn is_integer(&self) -> bool {
        self.exponent >= 0
    }

    pub fn is_negative(&self) -> bool {
        self.is_negative
    }

    pub fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    /// The number of significant digits.
    pub fn count(&self) -> usize {
        self.digits.len()
    }

    /// Whether the number is a whole multiple of `divisor`. The time is linear in the digits.
    pub fn is_multiple_of(&self, divisor: &Divisor) -> bool {
        // The last digit is not zero, so no divisor with a larger exponent divides the number.
        let Ok(tens) = u64::try_from(self.exponent.saturating_sub(divisor.exponent)) else { return self.is_zero() };
        let by = u128::from(divisor.coefficient);
        let rest = self.digits.as_bytes().chunks(18).fold(0u128, |rest, chunk| {
            let (power, value) = chunk.iter().fold((1u128, 0u128), |(power, value), digit| {
                (power * 10, value * 10 + u128::from(digit.wrapping_sub(b'0')))
            });
            (rest * power + value) % by
        });
        (rest * power_of_ten(tens, by)).is_multiple_of(by)
    }
}

impl Divisor {
    /// `None` if the number is not positive, or has more significant digits than a `u64` can hold.
    pub fn new(decimal: &Decimal) -> Option<Self> {
        if decimal.is_negative {
            return None;
        }
        let coefficient = decimal.digits.parse().ok().filter(|coefficient| *coefficient > 0)?;
        Some(Self { coefficient, exponent: decimal.exponent })
    }

    /// The divisor as an integer, if it is one that fits.
    pub fn whole(&self) -> Option<i64> {
        let tens = 10i64.checked_pow(u32::try_from(self.exponent).ok()?)?;
        i64::try_from(self.coefficient).ok()?.checked_mul(tens)
    }
}

/// 10^`power` modulo `by`.
fn power_of_ten(mut power: u64, by: u128) -> u128 {
    let (mut base, mut product) = (10 % by, 1 % by);
    while power > 0 {
        if power & 1 == 1 {
            product = product * base % by;
        }
        base = base * base % by;
        power >>= 1;
    }
    product
}

fn read_exponent(text: &str) -> i64 {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let size = digits.bytes().fold(0i64, |size, digit| (size * 10 + i64::from(digit.wrapping_sub(b'0'))).min(FARTHEST));
    sign * size
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        // Compares the place of the first digit, then the digits, as neither number has zeros at its ends.
        let size = |one: &Self| match one.digits.is_empty() {
            true => i64::MIN,
            false => one.digits.len() as i64 + one.exponent,
        };
        let by_size = || size(self).cmp(&size(other)).then_with(|| self.digits.cmp(&other.digits));
        match (self.is_negative, other.is_negative) {
            (false, false) => by_size(),
            (true, true) => by_size().reverse(),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The maximum number of places that are written without an exponent.
const MAX_ZEROS: i64 = 20;

/// Writes a JSON number, without an exponent unless that would be long.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.is_negative { "-" } else { "" };
        let digits = &self.digits;
        let places = digits.len() as i64 + self.exponent;
        match (self.exponent, usize::try_from(places.abs()).unwrap_or_default()) {
            _ if digits.is_empty() => f.write_str("0"),
            (0, _) => write!(f, "{sign}{digits}"),
            (1.., width) if places <= MAX_ZEROS => write!(f, "{sign}{digits:0<width$}"),
            (..0, whole) if places > 0 => {
                let (whole, fraction) = digits.split_at_checked(whole).unwrap_or((digits, ""));
                write!(f, "{sign}{whole}.{fraction}")
            }
            (..0, zeros) if places >= -MAX_ZEROS => write!(f, "{sign}0.{:0<zeros$}{digits}", ""),
            (exponent, _) => write!(f, "{sign}{digits}e{exponent}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text)
    }

    fn is_multiple(value: &str, of: &str) -> bool {
        decimal(value).is_multiple_of(&Divisor::new(&decimal(of)).unwrap())
    }

    #[test]
    fn a_number_is_one_however_it_is_written() {
        for (one, other) in [
            ("1", "1.0"),
            ("100", "1e2"),
            ("0.001", "1E-3"),
            ("-0.0", "0"),
            ("0e999", "0"),
            ("12.50", "1250e-2"),
            ("0.10e+1", "1"),
        ] {
            assert_eq!(decimal(one), decimal(other), "{one} {other}");
        }
        assert_ne!(decimal("92233720368547758081"), decimal("92233720368547758082"));
        assert_ne!(decimal("0.1234567890123456781"), decimal("0.1234567890123456782"));
        assert_eq!(decimal("-92233720368547758080").to_string(), "-92233720368547758080");
        assert_eq!(decimal("0.1234567890123456781").to_string(), "0.1234567890123456781");
        assert_eq!(decimal("-1.50e-2").to_string(), "-0.015");
        assert_eq!(decimal("1234567890123456789012345").to_string(), "1234567890123456789012345");
        assert_eq!((decimal("125e-1").to_string(), decimal("5e-40").to_string()), ("12.5".into(), "5e-40".into()));
        assert!(decimal("1e3").is_integer() && decimal("1.0").is_integer() && !decimal("1.5").is_integer());
        assert!(!decimal("9007199254740993.5").is_integer());
    }

    #[test]
    fn numbers_have_an_order() {
        let sorted = [
            "-1e400",
            "-2",
            "-1.5",
            "-1e-400",
            "0",
            "1e-400",
            "0.09",
            "0.9999999999999999999999",
            "1",
            "1.0000000000000000001",
            "9007199254740992",
            "9007199254740993",
            "1e400",
        ];
        for pair in sorted.windows(2) {
            assert!(decimal(pair[0]) < decimal(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn multiples_are_multiples_of_decimals() {
        for value in ["19.99", "4.35", "0.07", "1e300", "-8.61", "0", "1e-2"] {
            assert!(is_multiple(value, "0.01"), "{value}");
        }
        for (value, of, expected) in [
            ("0.001", "0.01", false),
            ("19.999", "0.01", false),
            ("3e-7", "1e-7", true),
            ("1e308", "1e308", true),
            ("1e307", "1e308", false),
            ("1e-400", "1e-401", true),
            ("123456789012345678901234567890", "10", true),
            ("123456789012345678901234567891", "10", false),
            ("340282366920938463463374607431768211456", "18446744073709551615", false),
            ("36893488147419103230", "18446744073709551615", true),
            ("100", "40", false),
            ("7.5", "2.5", true),
        ] {
            assert_eq!(is_multiple(value, of), expected, "{value} {of}");
        }
        assert!(Divisor::new(&decimal("0")).is_none() && Divisor::new(&decimal("-1")).is_none());
    }

    #[test]
    fn a_far_exponent_takes_neither_time_nor_memory() {
        let far = decimal("1e1000000000000000000000");
        assert!(far > decimal("1e308") && is_multiple("1e-1000000000000", "1e-1000000000001"));
        assert!(far.to_string().len() < 30);
        assert!(!far.is_multiple_of(&Divisor::new(&decimal("0.07")).unwrap()));
    }

    proptest! {
        #[test]
        fn it_agrees_with_integers(a in -1_000_000_000_000i64..1_000_000_000_000, b in 1i64..1_000_000, at in 0usize..6) {
            // The same two numbers with the decimal point moved by the same number of places.
            let (ten, scale) = (10i64.pow(at as u32), at);
            let text = |n: i64| format!("{}{}.{:0scale$}", if n < 0 { "-" } else { "" }, n.abs() / ten, n.abs() % ten);
            let (x, y) = if at == 0 { (a.to_string(), b.to_string()) } else { (text(a), text(b)) };
            prop_assert_eq!(decimal(&x).cmp(&decimal(&y)), a.cmp(&b));
            prop_assert_eq!(is_multiple(&x, &y), a % b == 0);
        }

        #[test]
        fn what_it_writes_it_reads(text in "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,30})?(e[+-]?[0-9]{1,3})?") {
            prop_assert_eq!(decimal(&decimal(&text).to_string()), decimal(&text));
        }

        #[test]
        fn a_double_is_its_shortest_decimal(double in any::<f64>().prop_filter("finite", |double| double.is_finite())) {
            let shortest = Decimal::of(double);
            prop_assert_eq!(shortest.to_string().parse::<f64>().unwrap(), double);
            prop_assert!(shortest.count() <= 17);
        }
    }
}
