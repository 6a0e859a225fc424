//! Servers' lists as they are read, page by page, and what a page of the gateway's own has of them: as many clients read no
//! other page, that is as much as fits.

use serde_json::value::RawValue;

use super::cursor_trail::Trail;
use super::omissions::LeftOuts;
use super::passthrough::{Item, Page, Passed, items, merged, next_of, result_without, text};

/// How long a page's text may get, in bytes, and how many of a server's own pages it has.
pub const MAX_BYTES: usize = 512 * 1024;
pub const MAX_PAGES: usize = 20;
/// Between a service and its server's cursor in a cursor of a list of all.
const BETWEEN: char = ' ';
/// The longest cursor of a server's that fits into one of the gateway's, in bytes.
const MAX_CURSOR_BYTES: usize = 2048;

/// What is said of a list that leads back to what was read of it.
const LEADS_BACK: &str = "what follows, if anything: its cursor leads back to what is listed already";

/// Whether a page of a list was not read before. One without anything says nothing of where it is.
fn is_new_page(trail: &mut Trail, list: &str, page: &RawValue) -> bool {
    text(list, page).is_none_or(|text| trail.is_new_page(text))
}

/// The list of one server, its own pages as one.
#[derive(Debug)]
pub struct Whole<'l> {
    list: &'l str,
    trail: Trail,
    pages: Vec<Box<RawValue>>,
    bytes: usize,
    /// The cursor that leads back to what was read: there is no more.
    leads_back: Option<String>,
}

impl<'l> Whole<'l> {
    /// Begins with the page that a client asked for by this cursor.
    pub fn new(list: &'l str, cursor: Option<&str>, first: Box<RawValue>) -> Self {
        let mut trail = Trail::starting_at(cursor);
        is_new_page(&mut trail, list, &first);
        Self { list, trail, bytes: first.get().len(), pages: vec![first], leads_back: None }
    }

    /// The cursor of the page that is to be read next.
    pub fn cursor(&mut self) -> Option<String> {
        if self.leads_back.is_some() {
            return None;
        }
        let next = next_of(self.pages.last()?)?;
        if !self.trail.is_new_cursor(&next) {
            self.leads_back = Some(next);
            return None;
        }
        (self.pages.len() < MAX_PAGES && self.bytes < MAX_BYTES).then_some(next)
    }

    /// Takes the page of this cursor. False: it has no place here.
    pub fn take(&mut self, cursor: String, page: Box<RawValue>) -> bool {
        if !is_new_page(&mut self.trail, self.list, &page) {
            self.leads_back = Some(cursor);
            return false;
        }
        self.bytes += page.get().len();
        let fits = self.bytes <= MAX_BYTES && merged(self.list, std::slice::from_ref(&page), false).is_some();
        if fits {
            self.pages.push(page);
        }
        fits
    }

    /// The result that a client gets; nothing where it is none.
    pub fn result(self, method: Passed, legacy: bool) -> Option<String> {
        let mut missing = LeftOuts::default();
        // Some servers mean an empty cursor as the end.
        if self.leads_back.as_ref().is_some_and(|cursor| !cursor.is_empty()) {
            missing.list(None, LEADS_BACK);
        }
        let is_all = self.leads_back.is_some();
        // What is no list is said to be none where it is read.
        let whole = if self.pages.len() > 1 || is_all { merged(self.list, &self.pages, is_all) } else { None };
        let whole = whole.or_else(|| self.pages.into_iter().next())?;
        result_without(method, &whole, missing, legacy)
    }
}

/// What was read of one server's list.
#[derive(Debug, Default)]
pub struct Read {
    /// Its pages, each with the cursor it was asked for by.
    pages: Vec<(Option<String>, Vec<Item>)>,
    left_out: LeftOuts,
    /// Of what was not read.
    next: Option<String>,
    /// All of it was read, from its beginning to its end.
    pub is_whole: bool,
}

impl Read {
    /// Nothing of a list, and why.
    pub fn nothing(service: &str, reason: impl Into<String>) -> Self {
        let mut read = Self::default();
        read.left_out.list(Some(service), reason);
        read
    }

    /// Whether something of this name is in it.
    pub fn has(&self, own: &str) -> bool {
        self.pages.iter().flat_map(|(_, items)| items).any(|item| item.own == own)
    }
}

/// One server's list under way, among those of others.
#[derive(Debug)]
pub struct Reading<'l> {
    service: &'l str,
    method: Passed,
    list: &'l str,
    trail: Trail,
    bytes: usize,
    /// The cursor of the page that is to be read next.
    pub cursor: Option<String>,
    is_from_start: bool,
    read: Read,
}

impl<'l> Reading<'l> {
    pub fn new(service: &'l str, (method, list): (Passed, &'l str), from: Option<String>) -> Self {
        let trail = Trail::starting_at(from.as_deref());
        let is_from_start = from.is_none();
        Self { service, method, list, trail, bytes: 0, cursor: from, is_from_start, read: Read::default() }
    }

    /// The list could not be read on.
    pub fn broken(mut self, reason: impl Into<String>) -> Read {
        self.read.left_out.list(Some(self.service), reason);
        self.read
    }

    /// Takes the next page; gives what was read where that is enough.
    pub fn take(mut self, page: &RawValue) -> Result<Self, Read> {
        if !is_new_page(&mut self.trail, self.list, page) {
            let cursor = self.cursor.clone().unwrap_or_default();
            return Err(self.led_back(&cursor));
        }
        let Some(Page { items, left_out, next, is_cut_off }) = items(self.list, self.service, page) else {
            let reason = format!("its answer to {} is no list", self.method.name);
            return Err(self.broken(reason));
        };
        // What does not count as an item was sent all the same.
        self.bytes += page.get().len();
        self.read.left_out.add(left_out);
        self.read.pages.push((self.cursor.take(), items));
        let Some(next) = next else {
            self.read.is_whole = self.is_from_start && !is_cut_off;
            return Err(self.read);
        };
        if !self.trail.is_new_cursor(&next) {
            return Err(self.led_back(&next));
        }
        if self.read.pages.len() >= MAX_PAGES || self.bytes > MAX_BYTES {
            return Err(Read { next: Some(next), ..self.read });
        }
        self.cursor = Some(next);
        Ok(self)
    }

    /// Some servers mean an empty cursor as the end: then the list was whole.
    fn led_back(mut self, cursor: &str) -> Read {
        if !cursor.is_empty() {
            return self.broken(LEADS_BACK);
        }
        self.read.is_whole = self.is_from_start;
        self.read
    }
}

/// Where a page of a list of all ends: before this page of this service.
fn place(service: &str, cursor: Option<&str>) -> String {
    cursor.map_or_else(|| service.into(), |cursor| format!("{service}{BETWEEN}{cursor}"))
}

/// The service that a place is before, and its server's cursor.
pub fn placed(place: &str) -> (&str, Option<&str>) {
    place.split_once(BETWEEN).map_or((place, None), |(service, cursor)| (service, Some(cursor)))
}

/// A page of a list of all.
#[derive(Debug, Default)]
pub struct Taken<'c> {
    pub items: Vec<(&'c str, Item)>,
    pub left_out: LeftOuts,
    /// Where it ends.
    pub next: Option<String>,
    bytes: usize,
    /// Some list was not read to its end.
    pub lacks_some: bool,
}

impl<'c> Taken<'c> {
    /// Ends the page before a list that was not read, from this cursor on.
    pub fn end(&mut self, service: &str, cursor: Option<&str>) {
        self.next = Some(place(service, cursor));
    }

    /// Takes what was read of a service's list, as far as it fits. False: the page is full.
    pub fn take(&mut self, service: &'c str, read: Read) -> bool {
        self.lacks_some |= !read.is_whole;
        self.left_out.add(read.left_out);
        for (cursor, items) in read.pages {
            let more = items.iter().map(Item::bytes).sum::<usize>();
            let fits = self.bytes == 0 || self.bytes + more <= MAX_BYTES;
            if !fits && cursor.as_ref().is_none_or(|cursor| cursor.len() <= MAX_CURSOR_BYTES) {
                self.end(service, cursor.as_deref());
                return false;
            }
            self.bytes += more;
            self.items.extend(items.into_iter().map(|item| (service, item)));
        }
        match read.next {
            Some(next) if next.len() <= MAX_CURSOR_BYTES => {
                self.end(service, Some(&next));
                return false;
            }
            Some(_) => self.left_out.list(Some(service), "what follows: its cursor is too long"),
            None => {}
        }
        true
    }

    /// Whether this is all there is of these lists: what one service alone has here, no other has.
    pub fn is_all(&self) -> bool {
        self.next.is_none() && !self.lacks_some
    }
}

#[cfg(test)]
mod tests;
