//! `GET /`: what this is, how it does, how to look something up, subscribe, have a host crawled.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use protocol::datetime;
use protocol::host::{HostName, HostRules};
use protocol::ids::{Micros, Seq};
use serde_json::{Value, json};

use super::facts::Facts;
use super::figures::{Totals, head_time};
use super::host_page::told;
use super::html::{Html, length, number};
use super::page::{Page, search};
use super::visit::{Form, Visit};
use crate::api::Api;

/// Markup for browsers, JSON for who asks for it, plain text for everybody else.
pub(super) async fn show(State(api): State<Api>, visit: Visit) -> Response {
    if visit.form == Form::Any {
        return BANNER.into_response();
    }
    let totals = match api.status.figures.totals().await {
        Ok(totals) => totals,
        Err(error) => return error.into_response(),
    };
    let now = (api.clock)();
    if visit.form == Form::Json {
        return Json(describe(&totals)).into_response();
    }
    page(&totals, &visit, now).into_response(StatusCode::OK)
}

fn describe(totals: &Totals) -> Value {
    let states = totals.states.iter().map(|(state, count)| (state.name().to_owned(), json!(count)));
    json!({
        "software": "mainstem",
        "version": env!("CARGO_PKG_VERSION"),
        "hosts": states.chain([("banned".to_owned(), json!(totals.banned))])
            .collect::<serde_json::Map<_, _>>(),
        "accounts": totals.accounts,
        "consumers": totals.consumers,
        "eventsPerSecond": (totals.per_second * 10.0).round() / 10.0,
        "seq": totals.head.get(),
        "lastEvent": head_time(totals).map(datetime::format),
        "oldestCursor": totals.floor.get(),
    })
}

fn page(totals: &Totals, visit: &Visit, now: Micros) -> Page {
    let mut main = Html::new();
    main.tags(
        "<h1>A relay of the AT Protocol network</h1><p class=\"lede\">Mainstem follows many PDS \
         hosts, checks every event (identity, signature, tree, account state), and sends all of \
         them on as one stream that anybody can follow and resume.</p>",
    );
    tiles(&mut main, totals, now);
    main.tags(
        "<section aria-labelledby=\"look-up\"><h2 id=\"look-up\">Is my host seen? Is my \
         account?</h2><p>Look up a host or a DID: what the relay does with it, why, and what to \
         fix.</p>",
    );
    search(&mut main, "find", "");
    main.tags("</section>");
    hosts(&mut main, totals);
    subscribe(&mut main, totals, visit, now);
    crawl(&mut main, visit);
    let json = Some("/ with Accept: application/json".to_owned());
    Page { sought: None, json, ..Page::new("Mainstem", main) }
}

fn tiles(main: &mut Html, totals: &Totals, now: Micros) {
    let connected = totals
        .states
        .iter()
        .filter(|(state, _)| state.name() == "streaming")
        .map(|(_, count)| count)
        .sum();
    let newest = match head_time(totals) {
        None => "none yet".to_owned(),
        Some(at) if now.since(at) < Duration::from_secs(1) => "just now".to_owned(),
        Some(at) => format!("{} ago", length(now.since(at))),
    };
    let rate = match totals.per_second {
        rate @ ..10.0 => format!("{rate:.1}"),
        rate => format!("{rate:.0}"),
    };
    main.tags("<dl class=\"tiles\">");
    for (label, told) in [
        ("hosts connected", number(connected)),
        ("live accounts", number(totals.accounts)),
        ("events a second", rate),
        ("consumers", number(totals.consumers as u64)),
        ("newest event", newest),
    ] {
        main.tags("<div><dt>").tags(label).tags("</dt><dd>").text(&told).tags("</dd></div>");
    }
    main.tags("</dl>");
}

fn hosts(main: &mut Html, totals: &Totals) {
    let mut facts = Facts::short();
    for (state, count) in &totals.states {
        let (class, name, _) = told(*state);
        let row = facts.row(name);
        row.tags("<span class=\"").tags(if *count > 0 { class } else { "quiet" });
        row.tags(" count\">").text(&number(*count)).tags("</span>");
    }
    let row = facts.row("Banned").tags("<span class=\"quiet count\">");
    row.text(&number(totals.banned)).tags("</span>");
    facts.section(main, "hosts", "Hosts");
}

fn subscribe(main: &mut Html, totals: &Totals, visit: &Visit, now: Micros) {
    let address = address(visit);
    main.tags(
        "<section aria-labelledby=\"subscribe\"><h2 id=\"subscribe\">Subscribe</h2><p>A WebSocket \
         client of your language, or:</p><pre><code>",
    );
    main.text(&format!("websocat {}/xrpc/com.atproto.sync.subscribeRepos", address.stream));
    main.tags(
        "</code></pre><p>With <code>?cursor=</code> and the <code>seq</code> of the last event \
         that you have, it goes on there. A <code>seq</code> is a time in microseconds, so a \
         cursor can be computed from the clock, and <code>0</code> is the oldest event that is \
         kept",
    );
    if totals.floor > Seq::ZERO {
        main.tags(" (").moment(Micros(totals.floor.get()), now).tags(")");
    }
    main.tags(".</p><p>The newest event is <code>").text(&totals.head.to_string());
    main.tags("</code>.</p></section>");
}

fn crawl(main: &mut Html, visit: &Visit) {
    main.tags(
        "<section aria-labelledby=\"request-crawl\"><h2 id=\"request-crawl\">Have your PDS \
         crawled</h2><p>Add this relay to its list of crawlers (<code>PDS_CRAWLERS</code>), or ask \
         once by hand. The answer says what is wrong, if anything is:</p><pre><code>",
    );
    main.text(&crawl_command(visit, "pds.example.com")).tags("</code></pre>");
    main.tags(
        "<p>All hosts: <a href=\"/xrpc/com.atproto.sync.listHosts\">listHosts</a>.</p></section>",
    );
}

/// How to ask for a crawl of a host.
pub(super) fn crawl_command(visit: &Visit, host: &str) -> String {
    format!(
        "curl -X POST {}/xrpc/com.atproto.sync.requestCrawl -H 'Content-Type: application/json' \
         -d '{{\"hostname\": \"{host}\"}}'",
        address(visit).web
    )
}

/// This relay as the visitor reaches it.
struct Address {
    web: String,
    stream: String,
}

/// A name with a port, or one that is not public, stands for itself; else there is TLS before us.
fn address(visit: &Visit) -> Address {
    let named = visit.authority.as_deref();
    let name = named.and_then(|text| HostName::parse(text, HostRules::Insecure).ok());
    let Some(name) = name else {
        return Address { web: "https://RELAY".to_owned(), stream: "wss://RELAY".to_owned() };
    };
    let tls = name.is_tls() && HostName::parse(name.as_str(), HostRules::Public).is_ok();
    let (web, stream) = if tls { ("https", "wss") } else { ("http", "ws") };
    Address { web: format!("{web}://{name}"), stream: format!("{stream}://{name}") }
}

const BANNER: &str = concat!(
    "This is Mainstem ",
    env!("CARGO_PKG_VERSION"),
    ", a relay of the AT Protocol network.\n\n",
    "Subscribe:  /xrpc/com.atproto.sync.subscribeRepos (WebSocket, ?cursor= to resume)\n",
    "Hosts:      /xrpc/com.atproto.sync.listHosts\n",
    "Status:     /status/host/pds.example.com, /status/account/did:plc:... (JSON; pages for \
     browsers)\n",
    "Your PDS:   POST /xrpc/com.atproto.sync.requestCrawl ",
    "{\"hostname\": \"pds.example.com\"}\n",
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_relay_is_named_as_the_visitor_reaches_it() {
        let check = |authority: Option<&str>, web: &str, stream: &str| {
            let visit = Visit { form: Form::Html, authority: authority.map(str::to_owned) };
            let address = address(&visit);
            assert_eq!((address.web.as_str(), address.stream.as_str()), (web, stream));
        };
        let of = |name: &str| (format!("https://{name}"), format!("wss://{name}"));
        let (web, stream) = of("relay.example.com");
        check(Some("Relay.Example.com"), &web, &stream);
        check(Some("relay.example.com:443"), &web, &stream);
        check(Some("localhost:2470"), "http://localhost:2470", "ws://localhost:2470");
        check(Some("127.0.0.1:2470"), "http://127.0.0.1:2470", "ws://127.0.0.1:2470");
        let (web, stream) = of("RELAY");
        check(None, &web, &stream);
        check(Some("'; rm -rf ~; '"), &web, &stream);
    }
}
