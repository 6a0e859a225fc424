//! For a format, boon takes only a function, and the function does not know which format it is. So there is one
//! function for each check that a schema may have.

use super::run;
use boon::Format;

/// The prefix of hook names. No registered format begins with it.
const MARK: char = '\u{1}';

struct Hook<const PLACE: usize>;

impl<const PLACE: usize> Hook<PLACE> {
    const NAME: [u8; 4] = [MARK as u8, digit(PLACE / 100), digit(PLACE / 10), digit(PLACE)];
    const FORMAT: Format = Format {
        name: match std::str::from_utf8(&Self::NAME) {
            Ok(name) => name,
            Err(_) => "",
        },
        func: |value| run(PLACE, value),
    };
}

const fn digit(number: usize) -> u8 {
    b'0' + (number % 10) as u8
}

macro_rules! ten {
    ($each:ident, $from:expr, $step:expr) => {
        [
            $each!($from),
            $each!($from + $step),
            $each!($from + 2 * $step),
            $each!($from + 3 * $step),
            $each!($from + 4 * $step),
            $each!($from + 5 * $step),
            $each!($from + 6 * $step),
            $each!($from + 7 * $step),
            $each!($from + 8 * $step),
            $each!($from + 9 * $step),
        ]
    };
}

macro_rules! one {
    ($place:expr) => {
        Hook::<{ $place }>::FORMAT
    };
}

macro_rules! tens {
    ($from:expr) => {
        ten!(one, $from, 1)
    };
}

macro_rules! hundreds {
    ($from:expr) => {
        ten!(tens, $from, 10)
    };
}

/// As many as a schema may have subschemas.
static HOOKS: [[[Format; 10]; 10]; 10] = ten!(hundreds, 0, 100);

pub(super) fn hook(place: usize) -> Option<Format> {
    HOOKS.get(place / 100)?.get(place / 10 % 10)?.get(place % 10).copied()
}

pub(super) fn name(place: usize) -> String {
    format!("{MARK}{place:03}")
}
