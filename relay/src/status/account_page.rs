//! The page of an account.

use protocol::account::{Local, Throttle};
use protocol::cid::Cid;
use protocol::did::Did;
use protocol::ids::Micros;

use super::account::{Seen, until};
use super::facts::Facts;
use super::html::{Html, number, segment};
use super::page::Page;
use super::rejects;

/// All that is known of an account, for people.
pub(super) fn page(seen: &Seen, now: Micros) -> Page {
    let did = seen.did.to_string();
    let mut main = Html::new();
    main.tags("<h1>").said(seen.handle().map_or(&*did, |handle| handle)).tags("</h1>");
    if seen.handle().is_some() {
        main.tags("<p>").code(&did).tags("</p>");
    }
    standing(&mut main, seen, now);
    facts(&mut main, seen, now);
    repo(&mut main, seen, now);
    rejects::section(&mut main, &seen.rejects, None, now);
    let path = format!("/status/account/{}", segment(&did));
    Page {
        sought: Some(did.clone()),
        json: Some(path),
        ..Page::new(format!("{did} \u{b7} Mainstem"), main)
    }
}

/// Nothing is known of the account: what may be the cause.
pub(super) fn unknown(did: &Did) -> Page {
    let did = did.to_string();
    let mut main = Html::new();
    main.tags("<h1>Nothing is known of this account</h1><p>").code(&did).tags("</p>");
    main.tags(
        "<p class=\"lede\">No event of it has come to this relay. An account appears with its \
         next event: a post, a like, a change of its profile.</p><section><h2>If it should be \
         here</h2><ul><li>Look up its PDS in the field above: is the relay connected to \
         it?</li><li>If the PDS is not known here, <a href=\"/#request-crawl\">have it \
         crawled</a>.</li><li>If it is connected, see whether its last dropped events are those of \
         this account.</li></ul></section>",
    );
    Page { sought: Some(did), ..Page::new("Unknown account \u{b7} Mainstem", main) }
}

/// What consumers are told of it, and why.
fn standing(main: &mut Html, seen: &Seen, now: Micros) {
    let Some(account) = &seen.account else {
        main.tags(
            "<p class=\"lede\"><span class=\"badge wait\">Not seen</span> No event of it has \
            passed this relay. What was dropped is told below.</p>",
        );
        return;
    };
    let (active, status) = account.published();
    main.tags("<p class=\"lede\">");
    if active {
        main.tags("<span class=\"badge good\">Active</span> Its events go out to everybody.");
    } else {
        main.tags("<span class=\"badge ");
        main.tags(if account.local == Local::None { "wait" } else { "bad" });
        main.tags("\">").text(status.unwrap_or("inactive")).tags("</span> ");
        match account.local {
            Local::Takendown => main.tags("The operators of this relay have taken it down."),
            Local::Suspended => main.tags("The operators of this relay have suspended it."),
            Local::Throttled(why) if account.upstream.active => throttled(main, why, now),
            _ => main.tags(
                "So its host says; its commits are not taken until the host says that it \
                is active again.",
            ),
        };
    }
    main.tags("</p>");
}

fn throttled(main: &mut Html, why: Throttle, now: Micros) -> &mut Html {
    match why {
        Throttle::Operator => main.tags("The operators of this relay hold it back."),
        Throttle::Quota => main.tags(
            "It was new when its host had as many accounts as it may \
            have here. It is let in when there is room, oldest first, and what was missed is \
            fetched then.",
        ),
        Throttle::Breaks { until } => main
            .tags("Its history was rewritten too often within an hour. This ends by itself at ")
            .moment(until, now)
            .tags(", and what was missed is fetched then."),
    }
}

fn facts(main: &mut Html, seen: &Seen, now: Micros) {
    let mut facts = Facts::new();
    if let Some(host) = &seen.host {
        let name = host.name.as_str();
        facts.row("Host").link(&format!("/status/host/{}", segment(name)), name);
    }
    if let Some(identity) = &seen.identity {
        let row = facts.row("PDS in its document");
        match &identity.pds {
            Some(pds) => {
                let name = pds.as_str();
                row.link(&format!("/status/host/{}", segment(name)), name);
                row.tags(if seen.is_pds_known { "" } else { ", which is not known here," })
            }
            None => row.tags("none that can be used"),
        };
        row.tags(" <span class=\"quiet\">as of</span> ").moment(identity.fetched, now);
        if identity.key.is_none() {
            facts.row("Signing key").tags("none that can be used is in its document");
        }
        if identity.tombstoned {
            facts.row("DID").tags("given up in the directory");
        }
    }
    if let Some(account) = &seen.account {
        let row = facts.row("Its host says");
        row.tags(if account.upstream.active { "active" } else { "not active" });
        if let Some(status) = &account.upstream.status {
            row.tags(", ").said(status);
        }
        let row = facts.row("This relay says");
        match account.local {
            Local::None => row.tags("nothing of its own"),
            local => row.text(super::account::decision(local)),
        };
        if let Some(until) = until(account.local) {
            row.tags(" until ").moment(until, now);
        }
        facts.row("Breaks of its history").text(&number(account.conduct.breaks.into()));
    }
    let row = facts.row("Known to be missing");
    match seen.owed() {
        Some((since, reason)) => {
            row.tags("something, since ").moment(since, now).tags(": ").said(reason);
            row.tags(". It is owed, and fetched by reconciliation.")
        }
        None => row.tags("nothing"),
    };
    facts.section(main, "account", "Account");
}

fn repo(main: &mut Html, seen: &Seen, now: Micros) {
    let Some(account) = &seen.account else { return };
    let mut facts = Facts::new();
    match &account.repo {
        Some(repo) => {
            facts.row("Revision").code(&repo.rev.to_string());
            facts.row("Its time").moment(repo.rev.micros(), now);
            facts.row("Commit").code(&Cid::cbor(repo.commit).to_string());
        }
        None => {
            facts.row("Revision").tags("no commit of it has passed");
        }
    }
    if account.home().is_some() {
        let row = facts.row("Last event");
        row.tags("number ").text(&account.host_seq.to_string()).tags(" of its host");
        if account.epoch.0 > 0 {
            row.text(&format!(" (epoch {})", account.epoch.0));
        }
    }
    facts.section(main, "repo", "Repo");
}
