//! Hosts as operators handle them: the command line and the admin API, against a running relay,
//! at once and over a restart.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod support;

use std::path::Path;
use std::process::Output;

use loadtest::hosts::Host;
use loadtest::network::{Network, Options};
use serde_json::{Value, json};

use support::{Relay, get, mainstem, now, request, until};

const TOKEN: &str = "a token of the tests";

/// A network of two hosts, a relay with an open admin port that follows them, and a third host
/// that it does not know.
struct Trial {
    network: Network,
    stranger: Host,
    folder: tempfile::TempDir,
    relay: Relay,
}

impl Trial {
    async fn start() -> Self {
        let options = Options {
            hosts: 2,
            accounts_per_host: 2,
            records_per_account: 5,
            start: now(),
            ..Options::default()
        };
        let mut network = Network::start(&options).await.unwrap();
        network.send_next(20);
        let stranger = loadtest::hosts::Options { port: 0, name: None };
        let stranger = Host::start(stranger).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), TOKEN).unwrap();
        let relay = Relay::start(&folder.path().join("data"), &network, &token(folder.path()));
        let trial = Self { network, stranger, folder, relay };
        for host in &trial.network.hosts {
            let path = format!("/admin/hosts/{}", host.name());
            until("what was sent is settled", async || {
                trial.api("GET", &path, "").await.1["cursor"] == json!(host.seq())
            })
            .await;
        }
        trial
    }

    /// `kill -9`, and again without any host on its command line.
    fn restart(&mut self) {
        self.relay.kill_here();
        let (plc, dns) = (self.network.plc.url(), self.network.dns.address());
        let mut arguments = vec!["--allow-insecure-hosts", "--plc-url", &plc, "--dns-server", &dns];
        let token = token(self.folder.path());
        arguments.extend(token);
        self.relay = Relay::start_with(&self.folder.path().join("data"), &arguments);
    }

    /// `mainstem hosts …` against this relay.
    fn hosts(&self, arguments: &[&str]) -> Output {
        let (url, token) =
            (format!("http://{}", self.relay.admin), self.folder.path().join("token"));
        let mut all = vec!["hosts", "--admin-url", &url, "--admin-token-file"];
        all.push(token.to_str().unwrap());
        all.extend(arguments);
        mainstem(&all)
    }

    /// As [`Trial::hosts`], which must succeed; what it prints.
    fn done(&self, arguments: &[&str]) -> String {
        let output = self.hosts(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// As [`Trial::hosts`], which the relay must refuse; what is said of that.
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.hosts(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    async fn status(&self, host: &str) -> String {
        let path = format!("/xrpc/com.atproto.sync.getHostStatus?hostname={host}");
        let (_, body) = get(&self.relay.address, &path).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        body["status"].as_str().or_else(|| body["error"].as_str()).unwrap().to_owned()
    }

    async fn becomes(&self, host: &str, status: &str) {
        until(&format!("{host} is {status}"), async || self.status(host).await == status).await;
    }

    async fn api(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\
             Content-Length: {}\r\n",
            body.len()
        );
        let (status, body) = request(&self.relay.admin, &head, body).await;
        (status, serde_json::from_str(&body).unwrap())
    }
}

async fn cut_off(host: &Host) {
    until("the host is cut off", async || host.connections() == 0).await;
}

fn token(folder: &Path) -> [&'static str; 2] {
    let path = folder.join("token").to_str().unwrap().to_owned();
    ["--admin-token-file", Box::leak(path.into_boxed_str())]
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_come_and_go_at_once_and_for_good() {
    let mut trial = Trial::start().await;
    let (first, stranger) = (trial.network.hosts[0].name().to_owned(), trial.stranger.name());
    let stranger = stranger.to_owned();
    let listed = trial.done(&["list"]);
    assert!(listed.starts_with("HOST") && listed.contains(&first), "{listed}");
    assert!(listed.ends_with("2 hosts\n") && !listed.contains(&stranger), "{listed}");

    trial.done(&["add", &stranger]);
    trial.stranger.connected(1).await;
    assert!(trial.done(&["add", &stranger]).contains("is followed"), "again is no error");
    trial.becomes(&stranger, "active").await;

    // Removed, it is gone: no connection, no name. Its accounts stay.
    let accounts = async || {
        let (_, body) = get(&trial.relay.address, "/xrpc/com.atproto.sync.listRepos").await;
        body
    };
    let before = accounts().await;
    trial.done(&["remove", &first, &stranger]);
    cut_off(&trial.stranger).await;
    cut_off(&trial.network.hosts[0]).await;
    assert_eq!(trial.status(&first).await, "HostNotFound");
    assert!(trial.done(&["list"]).ends_with("1 host\n"));
    assert_eq!(accounts().await, before);
    assert!(trial.refused(&["remove", &first]).contains(&first));

    trial.restart();
    trial.network.hosts[1].connected(1).await;
    assert!(trial.done(&["list"]).ends_with("1 host\n"), "it stays away");
    assert_eq!(trial.network.hosts[0].connections(), 0);
    trial.done(&["add", &first, "--start", "live"]);
    trial.network.hosts[0].connected(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_cuts_off_at_once_and_stays() {
    let mut trial = Trial::start().await;
    let first = trial.network.hosts[0].name().to_owned();
    trial.done(&["ban", &first]);
    cut_off(&trial.network.hosts[0]).await;
    assert_eq!(trial.status(&first).await, "banned");
    let (status, shown) = {
        let (status, body) = get(&trial.relay.address, &format!("/status/host/{first}")).await;
        (status, serde_json::from_str::<Value>(&body).unwrap())
    };
    assert_eq!((status, &shown["status"]), (200, &json!("banned")));
    trial.restart();
    trial.network.hosts[1].connected(1).await;
    assert_eq!(trial.status(&first).await, "banned");
    assert_eq!(trial.network.hosts[0].connections(), 0);
    let crawl = json!({ "hostname": first }).to_string();
    let path = "/xrpc/com.atproto.sync.requestCrawl";
    let (status, body) = support::post(&trial.relay.address, path, &crawl).await;
    assert_eq!(status, 400);
    assert!(body.contains("HostBanned"), "{body}");
    let banned = trial.done(&["list", "--status", "banned"]);
    assert!(banned.contains(&first) && banned.ends_with("1 host\n"), "{banned}");
    trial.done(&["unban", &first]);
    trial.network.hosts[0].connected(1).await;
    trial.becomes(&first, "active").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ban_of_a_domain_holds_for_all_of_its_hosts() {
    let mut trial = Trial::start().await;
    let names: Vec<String> =
        trial.network.hosts.iter().map(|host| host.name().to_owned()).collect();
    assert!(trial.done(&["ban-domain", "localhost"]).ends_with(": 2\n"));
    for (host, name) in trial.network.hosts.iter().zip(&names) {
        cut_off(host).await;
        assert_eq!(trial.status(name).await, "banned");
        // Which ban it is, only operators are told.
        let (_, shown) = get(&trial.relay.address, &format!("/status/host/{name}")).await;
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(
            (&shown["status"], &shown["connection"]["reason"]),
            (&json!("banned"), &json!(""))
        );
    }
    let stranger = trial.stranger.name().to_owned();
    assert!(trial.refused(&["add", &stranger]).contains("banned"));
    trial.restart();
    assert_eq!(trial.done(&["domain-bans"]), "localhost\n");
    assert_eq!(trial.status(&names[0]).await, "banned");
    assert!(trial.done(&["unban-domain", "localhost"]).ends_with(": 2\n"));
    for host in &trial.network.hosts {
        host.connected(1).await;
    }
    assert_eq!(trial.done(&["domain-bans"]), "");
    assert!(trial.refused(&["unban-domain", "localhost"]).contains("localhost"));
    assert!(trial.refused(&["ban-domain", "no domain"]).contains("not a domain"));
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_set_and_given_back_to_the_rule() {
    let mut trial = Trial::start().await;
    let first = trial.network.hosts[0].name().to_owned();
    let shown = async |trial: &Trial| {
        let (status, shown) = trial.api("GET", &format!("/admin/hosts/{first}"), "").await;
        assert_eq!(status, 200, "{shown}");
        shown["limits"].clone()
    };
    let ruled = shown(&trial).await;
    let set = ["limits", &first, "--accounts", "7", "--events-per-hour", "9000"];
    assert!(trial.done(&set).contains("live accounts 7,"));
    let limits = shown(&trial).await;
    assert_eq!((&limits["accounts"], &limits["eventsPerHour"]), (&json!(7), &json!(9000)));
    assert_eq!(limits["eventsPerDay"], ruled["eventsPerDay"]);
    trial.restart();
    assert_eq!(shown(&trial).await, limits);
    trial.done(&["limits", &first, "--accounts", "rule"]);
    let limits = shown(&trial).await;
    assert_eq!((&limits["accounts"], &limits["eventsPerHour"]), (&ruled["accounts"], &json!(9000)));
    // Without a limit it only tells.
    assert!(trial.done(&["limits", &first]).contains("an hour 9000,"));
    assert!(trial.refused(&["limits", "nobody.example.com"]).contains("not known"));
    assert!(trial.refused(&["limits", &first, "--events-per-day", "0"]).contains("at least 1"));
    let path = format!("/admin/hosts/{first}/limits");
    for bad in [r#"{"accounts": -1}"#, r#"{"events": 1}"#, "[]", "x"] {
        let (status, answer) = trial.api("POST", &path, bad).await;
        assert_eq!((status, &answer["error"]), (400, &json!("InvalidRequest")), "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_is_forgotten_and_the_host_read_anew() {
    let trial = Trial::start().await;
    let first = &trial.network.hosts[0];
    until("the host is read", async || {
        let (_, shown) = trial.api("GET", &format!("/admin/hosts/{}", first.name()), "").await;
        shown["cursor"] == json!(first.seq())
    })
    .await;
    let before = first.connections_ever();
    trial.done(&["reset-cursor", first.name()]);
    until("it is dialled and read again", async || {
        let (_, shown) = trial.api("GET", &format!("/admin/hosts/{}", first.name()), "").await;
        first.connections_ever() > before
            && shown["epoch"] == 1
            && shown["cursor"] == json!(first.seq())
    })
    .await;
    // What was applied before was known by the account's own state, and nothing went out twice.
    let (_, shown) = get(&trial.relay.address, &format!("/status/host/{}", first.name())).await;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert!(shown["reconciliation"].is_object(), "{shown}");
    assert!(trial.refused(&["reset-cursor", "nobody.example.com"]).contains("not known"));
    trial.done(&["reconcile", first.name()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_imported_from_files_and_from_other_relays() {
    let trial = Trial::start().await;
    let stranger = trial.stranger.name().to_owned();
    let list = trial.folder.path().join("list");
    let known = trial.network.hosts[0].name();
    std::fs::write(&list, format!("# mine\n{stranger}\n\n{known} # too\nnot a host\n")).unwrap();
    let output = trial.hosts(&["import", list.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "one is no host: {output:?}");
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(told, "1 added, 1 known already, 1 refused\n");
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("not a host: "));
    trial.stranger.connected(1).await;

    // A second relay takes all that the first one follows.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), TOKEN).unwrap();
    let (plc, dns) = (trial.network.plc.url(), trial.network.dns.address());
    let mut arguments = vec!["--allow-insecure-hosts", "--plc-url", &plc, "--dns-server", &dns];
    arguments.extend(token(folder.path()));
    let second = Relay::start_with(&folder.path().join("data"), &arguments);
    let from = format!("http://{}", trial.relay.address);
    let (url, token) = (format!("http://{}", second.admin), folder.path().join("token"));
    let token = token.to_str().unwrap();
    // One host a page, then all on one.
    let paged = format!("{from}/xrpc/com.atproto.sync.listHosts?limit=1");
    for (source, expected) in [
        (&paged, "3 added, 0 known already, 0 refused\n"),
        (&from, "0 added, 3 known already, 0 refused\n"),
    ] {
        let import =
            ["hosts", "--admin", &url, "--admin-token-file", token, "import", source.as_str()];
        let output = mainstem(&import);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }
    trial.stranger.connected(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_ask_or_is_not_heard_is_told() {
    let trial = Trial::start().await;
    let (status, _) = get(&trial.relay.admin, "/admin/hosts").await;
    assert_eq!(status, 401);
    let wrong = trial.folder.path().join("wrong");
    std::fs::write(&wrong, "another token entirely").unwrap();
    let not_asked = |url: &str, file: &str, expected: &str| {
        let arguments = ["hosts", "list", "--admin-url", url, "--admin-token-file", file];
        let output = mainstem(&arguments);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains(expected), "{told}");
    };
    let url = format!("http://{}", trial.relay.admin);
    not_asked(&url, wrong.to_str().unwrap(), "does not know this token");
    not_asked(&url, "/nowhere", "/nowhere");
    let token = trial.folder.path().join("token");
    not_asked("http://127.0.0.1:1", token.to_str().unwrap(), "127.0.0.1:1");
    let output = mainstem(&["hosts", "list"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let output = trial.hosts(&["import", "/nowhere/list"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let lines = trial.done(&["list", "--json"]);
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["hostname"], trial.network.hosts[0].name());
}
