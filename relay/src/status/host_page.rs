//! The page of a host.

use std::time::Duration;

use crawler::allowance::GROWN;
use protocol::host::HostName;
use protocol::host_state::HostState;
use protocol::ids::Micros;
use storage::Override;

use super::facts::Facts;
use super::front::crawl_command;
use super::host::{Connection, DAY, HOUR, Seen, used};
use super::html::{Html, bytes, length, number, segment};
use super::page::Page;
use super::rejects;
use super::visit::Visit;

/// All that is known of a host, for people.
pub(super) fn page(seen: &Seen, now: Micros) -> Page {
    let name = seen.host.name.as_str();
    let mut main = Html::new();
    main.tags("<h1>").text(name).tags("</h1>");
    standing(&mut main, seen, now);
    connection(&mut main, seen, now);
    rejects::section(&mut main, &seen.rejects, Some(&seen.host), now);
    events(&mut main, seen, now);
    limits(&mut main, seen, now);
    reconciliation(&mut main, seen, now);
    let path = format!("/status/host/{}", segment(name));
    let page = Page::new(format!("{name} \u{b7} Mainstem"), main);
    Page { sought: Some(name.to_owned()), json: Some(path), ..page }
}

/// Nobody has asked for the host: how to.
pub(super) fn unknown(name: &HostName, visit: &Visit) -> Page {
    let name = name.as_str();
    let mut main = Html::new();
    main.tags("<h1>This host is not known here</h1><p>").code(name).tags("</p>");
    main.tags(
        "<p class=\"lede\">Nobody has asked this relay to follow it. If it is a PDS of yours, ask \
         now; the answer says at once whether it can be followed, and what is wrong if \
         not:</p><pre><code>",
    );
    main.text(&crawl_command(visit, name)).tags("</code></pre>");
    main.tags(
        "<p>A PDS that has this relay in its list of crawlers (<code>PDS_CRAWLERS</code>) asks by \
         itself. If the name is a handle and not a host, look up the DID of its account.</p>",
    );
    Page { sought: Some(name.to_owned()), ..Page::new("Unknown host \u{b7} Mainstem", main) }
}

/// A short time to the millisecond, a longer one as people say it.
fn exact(time: Duration) -> String {
    if time < Duration::from_secs(10) { format!("{} ms", time.as_millis()) } else { length(time) }
}

/// What the state means for those who run the host.
fn standing(main: &mut Html, seen: &Seen, now: Micros) {
    let Connection { state, since, reason, .. } = &seen.connection;
    let (class, badge, means) = if seen.status == "banned" {
        ("bad", "Banned", "The operators of this relay do not follow it.")
    } else {
        told(*state)
    };
    main.tags("<p class=\"lede\"><span class=\"badge ").tags(class).tags("\">").tags(badge);
    main.tags("</span> ").tags(means).tags("</p><p>Since ").moment(*since, now);
    if !reason.is_empty() && seen.status != "banned" {
        main.tags(": ").said(reason);
    }
    main.tags("</p>");
    if let Some(other) = &seen.alias_of {
        let other = other.as_str();
        main.tags("<p>It is another name of ");
        main.link(&format!("/status/host/{}", segment(other)), other)
            .tags(", which is followed.</p>");
    }
}

/// Class, name and meaning of a state.
pub(super) fn told(state: HostState) -> (&'static str, &'static str, &'static str) {
    match state {
        HostState::Streaming => ("good", "Connected", "The relay reads its events as they come."),
        HostState::Connecting => ("wait", "Connecting", "The relay is about to reach it."),
        HostState::Idle => (
            "wait",
            "Idle",
            "It was quiet, so the relay is not connected all the time: it looks every few minutes, \
             and at once when the host asks by requestCrawl.",
        ),
        HostState::Throttled => (
            "wait",
            "Throttled",
            "It sends more than it may, so the relay reads it more slowly. Nothing is lost.",
        ),
        HostState::BackingOff => (
            "bad",
            "Not reached",
            "The relay could not reach it, or was cut off. It tries again for ever, at least once \
             an hour; requestCrawl makes it try at once.",
        ),
        HostState::Refused => ("bad", "Refused", "The relay does not follow it."),
    }
}

fn connection(main: &mut Html, seen: &Seen, now: Micros) {
    let Seen { host, connection, .. } = seen;
    let mut facts = Facts::new();
    let row = facts.row("Last error");
    match &connection.last_error {
        Some((at, text)) => row.said(text).tags("<br>").moment(*at, now),
        None => row.tags("none"),
    };
    if let Some(live) = &connection.live {
        if let Some(at) = live.next_dial {
            facts.row("Next attempt").moment(at, now);
        }
        if live.failures > 0 {
            facts.row("Failed in a row").text(&number(live.failures.into()));
        }
    }
    facts.row("Connections so far").text(&number(connection.meter.connects));
    facts.row("Speaks Sync 1.1").tags(if host.ratchet_closed { "yes" } else { "not shown yet" });
    facts.row("Known since").moment(host.added, now);
    facts.section(main, "connection", "Connection");
}

fn events(main: &mut Html, seen: &Seen, now: Micros) {
    let Seen { host, connection, .. } = seen;
    let meter = &connection.meter;
    let mut facts = Facts::new();
    let row = facts.row("Last event");
    match meter.last_event {
        Micros(0) => row.tags("none yet"),
        at => row.moment(at, now),
    };
    if let Some(live) = &connection.live {
        if let Some(lag) = live.lag {
            facts.row("Its age on arrival").text(&exact(lag)).tags(", by the host\u{2019}s clock");
        }
        if live.caught_up != Micros(0) {
            facts.row("Everything was read").moment(live.caught_up, now);
        }
        facts.row("Received up to").tags("number ").text(&live.received.to_string());
    }
    facts.row("Taken in up to").tags("number ").text(&host.cursor.to_string());
    facts.row("Sequence restarted").text(&match host.epoch.0 {
        0 => "never".to_owned(),
        1 => "once".to_owned(),
        times => format!("{times} times"),
    });
    let row = facts.row("Received so far");
    row.text(&number(meter.events)).tags(" events, ").text(&bytes(meter.bytes));
    facts.row("Dropped so far").text(&number(host.rejects));
    facts.section(main, "events", "Events");
}

fn limits(main: &mut Html, seen: &Seen, now: Micros) {
    let Seen { host, allowance, connection, .. } = seen;
    let mut facts = Facts::new();
    usage(facts.row("Live accounts"), host.open_accounts(), allowance.accounts);
    if host.throttled > 0 {
        let row = facts.row("Throttled accounts").text(&number(host.throttled));
        row.tags(
            ": the newest, which are over the limit. They are let in when there is room, oldest \
             first, and what was missed is fetched then.",
        );
    }
    let row = facts.row("Events a second");
    match allowance.per_second {
        u64::MAX => row.tags("no limit"),
        limit => row.tags("at most ").text(&number(limit)),
    };
    let meter = &connection.meter;
    for (label, level, limit, period) in [
        ("Events of an hour", meter.hour, allowance.per_hour, HOUR),
        ("Events of a day", meter.day, allowance.per_day, DAY),
    ] {
        match limit {
            // Of what has no limit, nothing is used up.
            u64::MAX => facts.row(label).tags("no limit"),
            limit => usage(facts.row(label), used(level, limit, period, now), limit),
        };
    }
    let row = facts.row("Its limits");
    if host.allowance != Override::default() {
        row.tags("were set by the operators of this relay");
    } else if seen.is_trusted || host.level >= GROWN || host.level_since == Micros(0) {
        row.tags("are the highest that there are");
    } else {
        row.tags("double with each clean day; it has level ").text(&host.level.to_string());
        row.tags(" since ").moment(host.level_since, now);
    }
    if host.abuse > 0 {
        row.tags(". They were lowered for forged or misplaced events, times: ");
        row.text(&number(host.abuse.into()));
    }
    facts.section(main, "limits", "Limits");
}

/// How much of a limit is used, as a gauge and in figures.
fn usage(row: &mut Html, used: u64, limit: u64) -> &mut Html {
    if limit == u64::MAX {
        return row.text(&number(used)).tags(", no limit");
    }
    // A gauge of thousandths: its own numbers need not be exact.
    let share = u128::from(used.min(limit)) * 1_000 / u128::from(limit.max(1));
    row.tags("<meter min=\"0\" max=\"1000\" low=\"700\" high=\"950\" optimum=\"0\" value=\"");
    row.text(&share.to_string()).tags("\" aria-hidden=\"true\"></meter> ");
    row.text(&number(used)).tags(" of ").text(&number(limit))
}

fn reconciliation(main: &mut Html, seen: &Seen, now: Micros) {
    let mut facts = Facts::new();
    let row = facts.row("Known to be missing");
    match &seen.gap {
        None => row.tags("nothing"),
        Some(gap) => {
            match (gap.whole, gap.accounts) {
                (true, _) => row.tags("perhaps something of every account"),
                (false, 1) => row.tags("something of one account"),
                (false, accounts) => {
                    row.tags("something of ").text(&number(accounts.into())).tags(" accounts")
                }
            };
            row.tags(", since ").moment(gap.since, now).tags(": ").said(&gap.reason);
            row.tags(". It is owed, and fetched gently.")
        }
    };
    if let Some(pass) = &seen.reconciled {
        let row = facts.row("Newest comparison");
        row.tags("begun ").moment(pass.began, now);
        match pass.ended {
            Micros(0) if seen.reconciling.under_way => row.tags(", under way"),
            Micros(0) => row.tags(", goes on where it is"),
            ended => row.tags(", ended ").moment(ended, now),
        };
        row.tags(": ").said(&pass.reason);
        let row = facts.row("Accounts compared");
        row.text(&number(pass.listed)).tags(" listed by the host, ");
        row.text(&number(pass.in_step)).tags(" of them in step; ");
        row.text(&number(pass.behind)).tags(" were behind, ");
        row.text(&number(pass.repaired)).tags(" of them repaired");
        for (count, what) in [
            (pass.unverifiable, " could not be verified"),
            (pass.missing, " are no longer at the host"),
            (pass.failed, " could not be fetched"),
        ] {
            if count > 0 {
                row.tags(", ").text(&number(count)).tags(what);
            }
        }
        let row = facts.row("Last whole comparison");
        match pass.last_full {
            Micros(0) => row.tags("none yet"),
            ended => {
                row.moment(ended, now).tags(": ").text(&number(pass.last_full_in_step));
                row.tags(" of ").text(&number(pass.last_full_listed)).tags(" accounts in step")
            }
        };
    } else {
        facts.row("Newest comparison").tags("none yet");
    }
    if !seen.reconciling.trouble.is_empty() {
        let row = facts.row("What is in its way").said(&seen.reconciling.trouble);
        row.tags("; it goes on ").moment(seen.reconciling.rests_until, now);
    }
    facts.section(main, "reconciliation", "Completeness");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crawler::reconcile;
    use protocol::did::Did;
    use protocol::host::HostRules;
    use protocol::host_state::{Allowance, Meter};
    use protocol::ids::{Epoch, HostId, HostSeq};
    use storage::{Host, HostGap, ReconcileRow, RejectRow, Start};

    use super::*;

    const NOW: Micros = Micros(1_795_219_300_000_000);
    const MARKUP: &str = "</bdi><script>alert(1)</script><img src=x onerror='x'>\u{202e}\u{7}\"&";

    /// A host of which everything is told that hosts write themselves, and all of it is hostile.
    fn hostile() -> Seen {
        let name = HostName::parse("pds.example.com", HostRules::Public).unwrap();
        let host = Host {
            id: HostId(1),
            name: name.clone(),
            added: NOW,
            start: Start::Live,
            epoch: Epoch(2),
            cursor: HostSeq::new(9).unwrap(),
            state: HostState::BackingOff,
            reason: Arc::from(MARKUP),
            since: NOW,
            last_error: Arc::from(MARKUP),
            last_error_at: NOW,
            accounts: 1_234,
            throttled: 5,
            rejects: 1_000,
            ratchet_closed: true,
            banned: false,
            meter: Meter { events: 7, last_event: NOW, ..Meter::default() },
            level: 0,
            level_since: NOW,
            abuse: 0,
            allowance: Override::default(),
            service: Some(Arc::from(MARKUP)),
            alias_of: None,
        };
        let allowance =
            Allowance { per_second: 50, per_hour: 2_000, per_day: u64::MAX, accounts: 1_000 };
        let reason = MARKUP.to_owned();
        let gap = HostGap { whole: true, accounts: 0, since: NOW, newest: NOW, reason };
        let reconciled = ReconcileRow {
            began: NOW,
            reason: MARKUP.to_owned(),
            after: MARKUP.to_owned(),
            missing: 3,
            ..ReconcileRow::default()
        };
        let did = Did::parse("did:plc:ewvi7nxzyoun6zhxrhs64oiz").ok();
        let excerpt = MARKUP.as_bytes().to_vec();
        let reject = |number, name: &str| RejectRow {
            number,
            at: NOW,
            name: name.to_owned(),
            did: did.clone(),
            excerpt: excerpt.clone(),
        };
        Seen {
            status: "offline",
            connection: Connection::of(&host, None),
            allowance,
            is_trusted: false,
            alias_of: Some(name),
            gap: Some(gap),
            reconciled: Some(reconciled),
            reconciling: reconcile::Status { trouble: MARKUP.to_owned(), ..Default::default() },
            rejects: vec![reject(1, "wrong_host"), reject(0, MARKUP)],
            host,
        }
    }

    #[test]
    fn what_hosts_say_is_text_and_no_markup() {
        let mut html = Html::new();
        html.add(&page(&hostile(), NOW).main);
        let html = html.into_string();
        for forbidden in ["<script", "<img", "onerror='", "\u{202e}", "\u{7}"] {
            assert!(!html.contains(forbidden), "{forbidden}: {html}");
        }
        assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{html}");
        assert_eq!(html.matches("<bdi>").count(), html.matches("</bdi>").count());
    }

    #[test]
    fn what_is_asked_most_is_told() {
        let mut html = Html::new();
        html.add(&page(&hostile(), NOW).main);
        let html = html.into_string();
        for told in ["Not reached", "1,229", "of 1,000", "2 times", "wrong_host", "another name of"]
        {
            assert!(html.contains(told), "{told} is missing: {html}");
        }
        // A frame is nobody's to see here.
        assert!(!html.contains("excerpt"));
    }
}
