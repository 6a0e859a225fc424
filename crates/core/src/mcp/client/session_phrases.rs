//! Whether a text states that a session of the protocol does not exist: "no such session", "session 7 has expired".
//!
//! It is not enough that both words occur. "The session's transaction was rolled back: invalid request" is about
//! something else, as is "chat session not found"; a request with such a response may have been executed.

/// A word in lowercase, or what separates words.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    /// Quotes, colons and brackets, which may occur inside a phrase.
    Light,
    /// The end of a sentence or of a member.
    Stop,
}

/// What may precede "session" as the first word about it.
const BEFORE: [&str; 13] = [
    "no",
    "unknown",
    "invalid",
    "expired",
    "missing",
    "stale",
    "unrecognized",
    "unrecognised",
    "inactive",
    "nonexistent",
    "terminated",
    "bad",
    "uninitialized",
];
/// What may follow "not" there: "could not find the session", "not a valid session".
const NOT_BEFORE: [&str; 8] = ["find", "found", "recognize", "recognise", "recognized", "recognised", "know", "valid"];
/// What may stand between that and "session".
const BETWEEN: [&str; 33] = [
    "a",
    "an",
    "the",
    "your",
    "that",
    "such",
    "any",
    "valid",
    "active",
    "known",
    "existing",
    "matching",
    "current",
    "or",
    "and",
    "expired",
    "invalid",
    "unknown",
    "missing",
    "terminated",
    "mcp",
    "http",
    "streamable",
    "client",
    "server",
    "transport",
    "given",
    "provided",
    "requested",
    "specified",
    "open",
    "initialized",
    "upstream",
];
/// What may precede "session" where it begins the phrase.
const SUBJECT: [&str; 9] = ["error", "errors", "exception", "because", "as", "since", "but", "so", "request"];
const ARTICLES: [&str; 6] = ["a", "the", "this", "your", "that", "current"];
const OF_PROTOCOL: [&str; 6] = ["mcp", "http", "streamable", "client", "server", "transport"];
const NAMES: [&str; 4] = ["id", "ids", "identifier", "header"];
const AUXILIARY: [&str; 19] = [
    "is", "was", "has", "have", "had", "been", "does", "did", "do", "could", "can", "be", "are", "it", "already",
    "either", "or", "and", "with",
];
/// What may follow "session".
const AFTER: [&str; 19] = [
    "expired",
    "terminated",
    "gone",
    "missing",
    "invalid",
    "unknown",
    "closed",
    "ended",
    "lost",
    "stale",
    "notfound",
    "unrecognized",
    "unrecognised",
    "inactive",
    "deleted",
    "destroyed",
    "evicted",
    "uninitialized",
    "nonexistent",
];
/// What may follow "not" there.
const NOT_AFTER: [&str; 13] = [
    "found",
    "exist",
    "exists",
    "valid",
    "active",
    "known",
    "recognized",
    "recognised",
    "initialized",
    "initialised",
    "open",
    "available",
    "alive",
];
/// How a complete phrase may continue. A noun would be its real subject.
const CONTINUATIONS: [&str; 36] = [
    "or",
    "and",
    "for",
    "please",
    "in",
    "on",
    "at",
    "by",
    "due",
    "after",
    "because",
    "since",
    "anymore",
    "any",
    "with",
    "to",
    "from",
    "so",
    "as",
    "was",
    "is",
    "has",
    "error",
    "exception",
    "valid",
    "found",
    "exists",
    "exist",
    "provided",
    "available",
    "active",
    "matches",
    "given",
    "here",
    "you",
    "but",
];

/// Splits at anything but letters and digits, and at capital letters inside a word.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let (mut all, mut word) = (Vec::new(), String::new());
    let mut before = ' ';
    for (at, &char) in chars.iter().enumerate() {
        let next = chars.get(at + 1).copied().unwrap_or(' ');
        let is_inside = before.is_alphanumeric() && next.is_alphanumeric();
        if char.is_alphanumeric() || matches!(char, '\'' | '’') && is_inside {
            if char.is_uppercase() && before.is_lowercase() {
                end(&mut word, &mut all);
            }
            word.extend(char.to_lowercase());
        } else {
            end(&mut word, &mut all);
            match char {
                ' ' | '_' | '-' | '\t' => {}
                '.' if is_inside => {}
                '.' | ';' | '!' | '?' | ',' | '\n' | '\r' => push(&mut all, Token::Stop),
                _ => push(&mut all, Token::Light),
            }
        }
        before = char;
    }
    end(&mut word, &mut all);
    all
}

fn end(word: &mut String, all: &mut Vec<Token>) {
    if !word.is_empty() {
        all.push(Token::Word(std::mem::take(word)));
    }
}

/// Of adjacent marks, the strongest counts.
fn push(all: &mut Vec<Token>, mark: Token) {
    match all.last_mut() {
        Some(last @ (Token::Light | Token::Stop)) => {
            if mark == Token::Stop {
                *last = mark;
            }
        }
        _ => all.push(mark),
    }
}

fn word(token: Option<&Token>) -> Option<&str> {
    match token {
        Some(Token::Word(word)) => Some(word),
        _ => None,
    }
}

fn is_word(token: &Token) -> bool {
    word(Some(token)).is_some()
}

fn is_one_of(token: Option<&Token>, words: &[&str]) -> bool {
    word(token).is_some_and(|word| words.contains(&word))
}

fn is_not(token: Option<&Token>) -> bool {
    word(token).is_some_and(|word| matches!(word, "not" | "cannot") || word.ends_with("n't") || word.ends_with("n’t"))
}

/// A session's name: contains a digit.
fn is_value(token: Option<&Token>) -> bool {
    word(token).is_some_and(|word| word.bytes().any(|byte| byte.is_ascii_digit()))
}

fn may_continue(token: Option<&Token>) -> bool {
    word(token).is_none() || is_one_of(token, &CONTINUATIONS) || is_value(token)
}

/// The rest after the tokens that a test accepts.
fn skip(mut rest: &[Token], takes: impl Fn(Option<&Token>) -> bool) -> &[Token] {
    while let Some((first, after)) = rest.split_first() {
        if !takes(Some(first)) {
            break;
        }
        rest = after;
    }
    rest
}

/// "no such …", read backwards from "session".
fn says_before(before: &[Token]) -> bool {
    let mut back = before.iter().rev().peekable();
    loop {
        let Some(token) = back.next() else { return false };
        let next = back.peek().copied();
        if is_one_of(Some(token), &BEFORE) || is_one_of(Some(token), &NOT_BEFORE) && is_not_a(next, &mut back.clone()) {
            return true;
        }
        let is_light = *token == Token::Light && next.is_some_and(is_word);
        if !is_light && !is_one_of(Some(token), &BETWEEN) {
            return false;
        }
    }
}

/// Whether "not" stands here, with or without an article after it.
fn is_not_a<'t>(next: Option<&Token>, back: &mut impl Iterator<Item = &'t Token>) -> bool {
    is_not(next) || is_one_of(next, &["a", "an", "the"]) && is_not(back.nth(1))
}

/// "… has expired", read from what follows "session" and its name.
fn says_after(rest: &[Token]) -> bool {
    let rest = match rest {
        [Token::Light, Token::Word(_), Token::Light, after @ ..] => after,
        [Token::Light, value, after @ ..] if is_value(Some(value)) => after,
        [Token::Light, after @ ..] => after,
        rest => skip(rest, is_value),
    };
    let rest = skip(rest, |token| is_one_of(token, &AUXILIARY));
    match rest {
        [first, after @ ..] if is_one_of(Some(first), &AFTER) => may_continue(after.first()),
        [first, second, after @ ..] if is_not(Some(first)) => {
            let after =
                if is_one_of(Some(second), &["a", "been", "be"]) { after } else { rest.get(1..).unwrap_or(&[]) };
            is_one_of(after.first(), &NOT_AFTER) && may_continue(after.get(1))
        }
        [Token::Word(first), Token::Word(second), after @ ..] => match (first.as_str(), second.as_str()) {
            ("timed", "out") => may_continue(after.first()),
            ("no", "longer" | "more") => true,
            _ => false,
        },
        _ => false,
    }
}

/// Whether "session" refers to the protocol's session, and is not part of another name.
fn is_subject(before: &[Token]) -> bool {
    let takes = [&OF_PROTOCOL[..], &ARTICLES[..]].concat();
    let mut back = before.iter().rev().skip_while(|token| is_one_of(Some(token), &OF_PROTOCOL)).peekable();
    let next = back.peek().copied();
    let last = before.iter().rev().find(|token| !is_one_of(Some(token), &takes));
    let is_part = is_one_of(last, &["of", "for", "in", "with", "from", "by", "during", "using"]);
    let known = [&SUBJECT[..], &ARTICLES[..], &BEFORE[..], &BETWEEN[..]].concat();
    !is_part && (word(next).is_none() || is_one_of(next, &known))
}

/// Whether a text states this anywhere.
pub fn says_no_session(text: &str) -> bool {
    let tokens = tokens(text);
    tokens.iter().enumerate().any(|(at, token)| {
        let name = word(Some(token));
        if !matches!(name, Some("session" | "sessions" | "sessionid")) {
            return false;
        }
        let before = tokens.get(..at).unwrap_or(&[]);
        let rest = skip(tokens.get(at + 1..).unwrap_or(&[]), |token| is_one_of(token, &NAMES));
        // The name of an error with more words is about something else: `MongoExpiredSessionError`.
        let is_other =
            is_one_of(rest.first(), &["error", "exception"]) && before.iter().rev().nth(1).is_some_and(is_word);
        let is_before = says_before(before) && may_continue(rest.first()) && !is_other;
        is_before || is_subject(before) && says_after(rest)
    })
}

#[cfg(test)]
mod tests;
