//! `com.atproto.sync.listRepos`: one page after the other, to an end that must come. Pure.

use std::sync::Arc;

use protocol::account::STATUS_CHARS_MAX;
use protocol::did::Did;
use serde_json::Value;

use super::compare::{Listed, Word};

/// One page of a listing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// Its rows, but for those that are none.
    pub(super) repos: Vec<Listed>,
    /// Whether it had any rows at all.
    is_empty: bool,
    cursor: Option<String>,
}

/// The way along a listing.
#[derive(Debug)]
pub(super) struct Listing {
    cursor: String,
    pages: u32,
    /// A cursor that was met before, and how far away the next one to remember is: whatever goes
    /// in a circle comes back to one of them (Brent's way to find a cycle).
    mark: String,
    lap: u32,
    power: u32,
}

/// Where a page leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// To another one.
    On,
    /// To none: this was all.
    End,
    /// Nowhere: the listing goes in a circle, or does not end. What it said so far counts; that
    /// somebody is not in it says nothing.
    Broken,
}

/// Reads a page. `None`: it is none.
//
// "repos: array of #repo {did, head, rev, active?, status?}, cursor?" (com.atproto.sync.listRepos).
// One bad row is no reason to lose the others.
pub(super) fn parse(body: &[u8]) -> Option<Page> {
    let page: Value = serde_json::from_slice(body).ok()?;
    let rows = page.get("repos")?.as_array()?;
    let cursor = page.get("cursor").and_then(Value::as_str).filter(|text| !text.is_empty());
    // What begins with a zero byte is ours to write where a pass goes on.
    let is_usable = |text: &str| text.len() <= CURSOR_BYTES_MAX && !text.starts_with('\0');
    if cursor.is_some_and(|text| !is_usable(text)) {
        return None;
    }
    Some(Page {
        repos: rows.iter().take(ROWS_MAX).filter_map(row).collect(),
        is_empty: rows.is_empty(),
        cursor: cursor.map(str::to_owned),
    })
}

fn row(row: &Value) -> Option<Listed> {
    let did = Did::parse(row.get("did")?.as_str()?).ok()?;
    Some(Listed { did, word: word(row)? })
}

/// What a row, or the answer of `getRepoStatus`, says of its account. `None`: a text in it is
/// longer than anything that may stand there.
pub(super) fn word(row: &Value) -> Option<Word> {
    let text = |name: &str| row.get(name).and_then(Value::as_str);
    let short = |name: &str| {
        let text = text(name).unwrap_or_default();
        (text.len() <= NAME_BYTES_MAX).then(|| Box::from(text))
    };
    let status = text("status").filter(|text| text.chars().count() <= STATUS_CHARS_MAX);
    Some(Word::Has {
        rev: short("rev")?,
        head: short("head")?,
        active: row.get("active").and_then(Value::as_bool),
        status: status.map(Arc::from),
    })
}

impl Listing {
    /// From this cursor on; empty: from its beginning.
    pub(super) fn from(cursor: String) -> Self {
        Self { mark: cursor.clone(), cursor, pages: 0, lap: 0, power: 1 }
    }

    /// The cursor to ask with; empty: none.
    pub(super) fn cursor(&self) -> &str {
        &self.cursor
    }

    /// Goes on behind a page.
    ///
    /// The reference PDS gives a cursor with its last page, too; the page behind that is empty.
    pub(super) fn turn(&mut self, page: &Page) -> Step {
        let next = match &page.cursor {
            Some(next) if !page.is_empty => next,
            _ => return Step::End,
        };
        self.pages += 1;
        if *next == self.cursor || *next == self.mark || self.pages >= PAGES_MAX {
            return Step::Broken;
        }
        self.lap += 1;
        if self.lap == self.power {
            self.mark.clone_from(next);
            self.power *= 2;
            self.lap = 0;
        }
        self.cursor.clone_from(next);
        Step::On
    }
}

/// Rows that are asked for, and taken. The lexicon allows 1,000; a page of 500 is 100 kB.
pub(super) const ROWS_MAX: usize = 500;
/// A page of the longest DIDs that there could be is over this, and refused. Read as JSON it takes
/// up to twenty times as much memory, if it is made for that.
pub(super) const PAGE_BYTES_MAX: usize = 512 * 1024;
/// A hundred million accounts on one host, in pages of 500.
const PAGES_MAX: u32 = 200_000;
/// The reference PDS's has 50.
const CURSOR_BYTES_MAX: usize = 512;
/// A TID has 13, a CID 59.
const NAME_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn page(cursor: Option<&str>, rows: usize) -> Page {
        let did = |number: usize| format!("did:web:a{number}.example.com");
        let rows: Vec<Value> = (0..rows).map(|number| json!({"did": did(number)})).collect();
        parse(json!({"repos": rows, "cursor": cursor}).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_listing_ends_with_an_empty_page_or_without_a_cursor() {
        let mut listing = Listing::from(String::new());
        assert_eq!(listing.turn(&page(Some("a"), 2)), Step::On);
        assert_eq!(listing.cursor(), "a");
        assert_eq!(listing.turn(&page(Some("b"), 2)), Step::On);
        assert_eq!(listing.turn(&page(Some("c"), 0)), Step::End);
        assert_eq!(listing.turn(&page(None, 2)), Step::End);
        assert_eq!(listing.turn(&page(Some(""), 2)), Step::End);
    }

    #[test]
    fn a_listing_that_goes_in_a_circle_is_ended() {
        for length in 1..40 {
            for lead in 0..10 {
                let mut listing = Listing::from(String::new());
                let cursors = (0..).map(|page: usize| {
                    let place = if page < lead { page } else { lead + (page - lead) % length };
                    place.to_string()
                });
                let steps = cursors.take(1_000).map(|at| listing.turn(&page(Some(&at), 1)));
                let ended = steps.into_iter().position(|step| step == Step::Broken);
                assert!(ended.is_some_and(|at| at < 4 * (length + lead) + 4), "{lead} + {length}");
            }
        }
    }

    #[test]
    fn a_listing_that_does_not_end_is_ended() {
        let mut listing = Listing::from("start".to_owned());
        let mut page = page(None, 1);
        let mut turn = |at: u32| {
            page.cursor = Some(at.to_string());
            listing.turn(&page)
        };
        assert!((1..PAGES_MAX).all(|at| turn(at) == Step::On));
        assert_eq!(turn(PAGES_MAX), Step::Broken);
    }

    #[test]
    fn a_page_is_what_the_lexicon_says_and_a_bad_row_is_left_out() {
        let found = parse(
            json!({"repos": [
                {"did": format!("did:plc:{}", "a".repeat(24)), "rev": "r", "head": "h",
                    "active": true},
                {"did": "did:web:a.example.com", "active": false, "status": "deactivated", "x": []},
                {"did": "did:web:b.example.com", "status": "x".repeat(65), "active": "yes"},
                {"did": "did:web:c.example.com", "rev": "x".repeat(129)},
                {"did": "did:web:d.example.com", "head": "x".repeat(129)},
                {"did": "nonsense"},
                {"rev": "r"},
                7,
            ]})
            .to_string()
            .as_bytes(),
        );
        let has = |rev: &str, head: &str, active, status: Option<&str>| Word::Has {
            rev: rev.into(),
            head: head.into(),
            active,
            status: status.map(Arc::from),
        };
        let listed = |did: &str, word| Listed { did: Did::parse(did).unwrap(), word };
        let repos = vec![
            listed("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", has("r", "h", Some(true), None)),
            listed("did:web:a.example.com", has("", "", Some(false), Some("deactivated"))),
            listed("did:web:b.example.com", has("", "", None, None)),
        ];
        assert_eq!(found, Some(Page { repos, is_empty: false, cursor: None }));
        assert_eq!(page(None, ROWS_MAX + 1).repos.len(), ROWS_MAX);
        for none in ["", "{}", "[]", "{\"repos\": {}}", "null", "{\"repos\": [], "] {
            assert_eq!(parse(none.as_bytes()), None, "{none}");
        }
        let long = json!({"repos": [], "cursor": "x".repeat(CURSOR_BYTES_MAX + 1)}).to_string();
        assert_eq!(parse(long.as_bytes()), None);
        assert_eq!(parse(br#"{"repos": [], "cursor": "\u0000members:"}"#), None);
    }
}
