//! The last events of a host or account that were dropped: what was wrong, and what to fix.

use protocol::datetime;
use protocol::ids::Micros;
use protocol::reject::Reject;
use serde_json::{Value, json};
use storage::{Host, RejectRow};

use super::html::{Html, number, segment};

/// For programs: newest first.
pub(super) fn describe(rows: &[RejectRow]) -> Value {
    let entry = |row: &RejectRow| {
        json!({
            "name": row.name,
            "at": datetime::format(row.at),
            "did": row.did.as_ref().map(ToString::to_string),
            "fix": explanation(&row.name),
        })
    };
    rows.iter().take(TOLD_MAX).map(entry).collect()
}

/// For people: each offence once, with what to fix, and when it was met last.
pub(super) fn section(html: &mut Html, rows: &[RejectRow], host: Option<&Host>, now: Micros) {
    html.tags("<section aria-labelledby=\"rejects\"><h2 id=\"rejects\">Dropped events</h2>");
    if rows.is_empty() {
        html.tags("<p>None is on record.</p></section>");
        return;
    }
    html.tags("<p class=\"quiet\">What did not pass, newest first. ");
    html.text(&format!("On record are the last {}", rows.len()));
    let total = host.map(|host| host.rejects).filter(|total| *total > rows.len() as u64);
    if let Some(total) = total {
        html.text(&format!(" of {}", number(total)));
    }
    html.tags(".</p>");
    for (name, met) in by_name(rows) {
        html.tags("<article><h3>").code(name);
        html.tags(" <span class=\"quiet\">").text(&format!("\u{d7} {}", met.len()));
        html.tags("</span></h3><p class=\"fix\">").sentence(explanation(name)).tags("</p><ul>");
        for row in met.iter().take(SHOWN_MAX) {
            html.tags("<li>").moment(row.at, now);
            // On an account's own page all of them are its own.
            if let (Some(did), Some(host)) = (&row.did, host) {
                let (did, host) = (did.to_string(), segment(host.name.as_str()));
                let path = format!("/status/account/{}?host={host}", segment(&did));
                html.tags(" ").link(&path, &did);
            }
            html.tags("</li>");
        }
        html.tags("</ul>");
        if let Some(more @ 1..) = met.len().checked_sub(SHOWN_MAX) {
            html.tags("<p class=\"more\">").text(&format!("and {more} before")).tags("</p>");
        }
        html.tags("</article>");
    }
    html.tags("</section>");
}

/// The offences in the order of their newest case, each with all of its cases.
fn by_name(rows: &[RejectRow]) -> Vec<(&str, Vec<&RejectRow>)> {
    let mut groups: Vec<(&str, Vec<&RejectRow>)> = Vec::new();
    for row in rows {
        match groups.iter_mut().find(|(name, _)| *name == row.name) {
            Some((_, met)) => met.push(row),
            None => groups.push((&row.name, vec![row])),
        }
    }
    groups
}

/// A store may hold names that an older version gave.
fn explanation(name: &str) -> &'static str {
    Reject::named(name).map_or("This version of the relay does not know the name.", Reject::explain)
}

/// A host's ring holds no more than 256.
const TOLD_MAX: usize = 100;
/// Cases of one offence on a page.
const SHOWN_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn row(number: u64, name: &str) -> RejectRow {
        let at = Micros(1_795_219_200_000_000).plus(Duration::from_secs(number));
        RejectRow { number, at, name: name.to_owned(), did: None, excerpt: Vec::new() }
    }

    #[test]
    fn each_offence_is_explained_once_newest_first() {
        let names = ["wrong_host", "rev_syntax", "wrong_host", "gone", "wrong_host"];
        let rows: Vec<_> = (0..).zip(names).map(|(number, name)| row(number, name)).collect();
        let groups: Vec<_> = by_name(&rows).iter().map(|(name, met)| (*name, met.len())).collect();
        assert_eq!(groups, [("wrong_host", 3), ("rev_syntax", 1), ("gone", 1)]);
        let mut html = Html::new();
        section(&mut html, &rows, None, Micros(1_795_219_300_000_000));
        let html = html.into_string();
        for name in ["wrong_host", "rev_syntax"] {
            let mut explained = Html::new();
            let explained = std::mem::take(explained.sentence(explanation(name))).into_string();
            assert_eq!(html.matches(&explained).count(), 1, "{html}");
        }
        assert!(html.contains("the last 5."), "{html}");
        assert_eq!(describe(&rows)[3]["fix"], explanation("gone"));
    }
}
