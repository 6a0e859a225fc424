//! Servers' lists as they are read, page by page, and the gateway's own pages of them. Many clients read only the first
//! page, so it contains as much as fits.

use serde_json::value::RawValue;

use super::cursor_trail::Trail;
use super::omissions::Omissions;
use super::passthrough::{ForwardedMethod, Item, Page, items, merged, next_of, result_without, text};
use crate::base::service_id::ServiceId;

/// The maximum size of a page, in bytes, and the maximum number of a server's pages in it.
pub const MAX_BYTES: usize = 512 * 1024;
/// See [`MAX_BYTES`].
pub const MAX_PAGES: usize = 20;
/// The separator of a service and its server's cursor, in a cursor of a combined list.
const BETWEEN: char = ' ';
/// The longest cursor of a server that fits into one of the gateway's, in bytes.
const MAX_CURSOR_BYTES: usize = 2048;

/// The reason for a list that leads back to pages that were read.
const LEADS_BACK: &str = "the rest, if any: its cursor leads back to pages already listed";

/// Whether a page was not read before. An empty page does not show where it is.
fn is_new_page(trail: &mut Trail, list: &str, page: &RawValue) -> bool {
    text(list, page).is_none_or(|text| trail.is_new_page(text))
}

/// The list of one server, its pages combined.
#[derive(Debug)]
pub struct CombinedList<'l> {
    list: &'l str,
    trail: Trail,
    pages: Vec<Box<RawValue>>,
    bytes: usize,
    /// The cursor that led back to pages that were read: there are no more.
    leads_back: Option<String>,
}

impl<'l> CombinedList<'l> {
    /// Begins with the page that a client requested by this cursor.
    pub fn new(list: &'l str, cursor: Option<&str>, first: Box<RawValue>) -> Self {
        let mut trail = Trail::starting_at(cursor);
        is_new_page(&mut trail, list, &first);
        Self { list, trail, bytes: first.get().len(), pages: vec![first], leads_back: None }
    }

    /// The cursor of the page to read next.
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

    /// Adds the page of this cursor. False if it has no place here.
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

    /// The result for the client; `None` if it is invalid.
    pub fn result(self, method: ForwardedMethod, legacy: bool) -> Option<String> {
        let mut missing = Omissions::default();
        // Some servers mean an empty cursor as the end.
        if self.leads_back.as_ref().is_some_and(|cursor| !cursor.is_empty()) {
            missing.list(None, LEADS_BACK);
        }
        let is_all = self.leads_back.is_some();
        // An invalid list is reported where it is read.
        let whole = if self.pages.len() > 1 || is_all { merged(self.list, &self.pages, is_all) } else { None };
        let whole = whole.or_else(|| self.pages.into_iter().next())?;
        result_without(method, &whole, missing, legacy)
    }
}

/// What was read of one server's list.
#[derive(Debug, Default)]
pub struct ListRead {
    /// Its pages, each with its cursor.
    pages: Vec<(Option<String>, Vec<Item>)>,
    left_out: Omissions,
    /// The cursor of the rest.
    next: Option<String>,
    /// The list was read completely, from its beginning to its end.
    pub is_whole: bool,
}

impl ListRead {
    /// Nothing of a list, and why.
    pub fn nothing(service: &ServiceId, reason: impl Into<String>) -> Self {
        let mut read = Self::default();
        read.left_out.list(Some(service), reason);
        read
    }

    /// Whether it contains an item of this name.
    pub fn has(&self, own: &str) -> bool {
        self.pages.iter().flat_map(|(_, items)| items).any(|item| item.own == own)
    }
}

/// One server's list that is being read, among others.
#[derive(Debug)]
pub struct ListReader<'l> {
    service: &'l ServiceId,
    method: ForwardedMethod,
    list: &'l str,
    trail: Trail,
    bytes: usize,
    /// The cursor of the page to read next.
    pub cursor: Option<String>,
    is_from_start: bool,
    read: ListRead,
}

impl<'l> ListReader<'l> {
    /// Begins to read a service's list at a cursor, or at its beginning.
    pub fn new(service: &'l ServiceId, (method, list): (ForwardedMethod, &'l str), from: Option<String>) -> Self {
        let trail = Trail::starting_at(from.as_deref());
        let is_from_start = from.is_none();
        Self { service, method, list, trail, bytes: 0, cursor: from, is_from_start, read: ListRead::default() }
    }

    /// Ends the reading with a reason.
    pub fn broken(mut self, reason: impl Into<String>) -> ListRead {
        self.read.left_out.list(Some(self.service), reason);
        self.read
    }

    /// Adds the next page; returns what was read if that is sufficient.
    pub fn take(mut self, page: &RawValue) -> Result<Self, ListRead> {
        if !is_new_page(&mut self.trail, self.list, page) {
            let cursor = self.cursor.clone().unwrap_or_default();
            return Err(self.led_back(&cursor));
        }
        let Some(Page { items, left_out, next, is_cut_off }) = items(self.list, self.service, page) else {
            let reason = format!("its response to {} is not a list", self.method.name);
            return Err(self.broken(reason));
        };
        // Invalid items were sent all the same.
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
            return Err(ListRead { next: Some(next), ..self.read });
        }
        self.cursor = Some(next);
        Ok(self)
    }

    /// Some servers mean an empty cursor as the end: then the list was complete.
    fn led_back(mut self, cursor: &str) -> ListRead {
        if !cursor.is_empty() {
            return self.broken(LEADS_BACK);
        }
        self.read.is_whole = self.is_from_start;
        self.read
    }
}

/// A cursor of a combined list: before this page of this service.
fn place(service: &ServiceId, cursor: Option<&str>) -> String {
    cursor.map_or_else(|| service.to_string(), |cursor| format!("{service}{BETWEEN}{cursor}"))
}

/// The service and its server's cursor in a cursor of a combined list.
pub fn placed(place: &str) -> (&str, Option<&str>) {
    place.split_once(BETWEEN).map_or((place, None), |(service, cursor)| (service, Some(cursor)))
}

/// A page of a combined list.
#[derive(Debug, Default)]
pub struct CombinedPage<'c> {
    pub items: Vec<(&'c ServiceId, Item)>,
    pub left_out: Omissions,
    /// Where it ends.
    pub next: Option<String>,
    bytes: usize,
    /// A list was not read to its end.
    pub lacks_some: bool,
}

impl<'c> CombinedPage<'c> {
    /// Ends the page before a list that was not read, from this cursor on.
    pub fn end(&mut self, service: &ServiceId, cursor: Option<&str>) {
        self.next = Some(place(service, cursor));
    }

    /// Adds what was read of a service's list, as far as it fits. False if the page is full.
    pub fn take(&mut self, service: &'c ServiceId, read: ListRead) -> bool {
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
            Some(_) => self.left_out.list(Some(service), "the rest: its cursor is too long"),
            None => {}
        }
        true
    }

    /// Whether this is everything in these lists: then an item of one service is in no other list.
    pub fn is_all(&self) -> bool {
        self.next.is_none() && !self.lacks_some
    }
}

#[cfg(test)]
mod tests;
