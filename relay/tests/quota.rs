//! What hosts may: how many accounts, how many new hosts, which domains and names. The relay runs
//! within the test, so that what operators do can be done.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod support;

use std::sync::OnceLock;

use clap::Parser as _;
use crawler::Resume;
use futures_util::FutureExt as _;
use loadtest::consumers::{self, Event, Subscription, decode};
use loadtest::hosts::Host;
use loadtest::network::{Network, Options};
use loadtest::wire::{Frame, Value};
use loadtest::world::account::account_frame;
use metrics_exporter_prometheus::PrometheusHandle;
use protocol::account::{Local, Throttle};
use protocol::did::Did;
use protocol::frame::{AccountFrame, Kind};
use protocol::host::{HostName, HostRules};
use protocol::host_state::HostState;
use relay::cli::{Cli, Command};
use relay::metrics;
use relay::pipeline::{HostsError, Relay};
use serde_json::{Value as Json, json};
use storage::{Override, Start};

use support::{get, now, request, until};

/// A simulated network, a data folder, and the relay that runs on it.
struct World {
    network: Network,
    folder: tempfile::TempDir,
    flags: Vec<String>,
    relay: Option<Relay>,
}

impl World {
    async fn start(hosts: usize, accounts_per_host: usize, flags: &[&str]) -> Self {
        let (records_per_account, start) = (3, now());
        let options =
            Options { hosts, accounts_per_host, records_per_account, start, ..Options::default() };
        let network = Network::start(&options).await.unwrap();
        let (folder, flags) = (tempfile::tempdir().unwrap(), flags.iter().map(|f| (*f).into()));
        let mut world = Self { network, folder, flags: flags.collect(), relay: None };
        world.run().await;
        world
    }

    /// Starts the relay on what the folder holds.
    async fn run(&mut self) {
        static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
        let recorder = RECORDER.get_or_init(|| metrics::install().unwrap());
        let hosts: Vec<&str> = self.network.hosts.iter().map(Host::name).collect();
        let (hosts, plc) = (hosts.join(","), self.network.plc.url());
        let (data, dns) = (self.folder.path().join("data"), self.network.dns.address());
        let mut arguments = vec!["mainstem", "serve", "--data-dir", data.to_str().unwrap()];
        arguments.extend(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]);
        arguments.extend(["--disk-headroom", "64MiB", "--allow-insecure-hosts", "--backfill"]);
        arguments.extend(["--plc-url", &plc, "--dns-server", &dns, "--handles", "pass"]);
        arguments.extend(["--host", &hosts, "--admin-listen", "127.0.0.1:0"]);
        let token = self.folder.path().join("token");
        std::fs::write(&token, TOKEN).unwrap();
        arguments.extend(["--admin-token-file", token.to_str().unwrap()]);
        arguments.extend(self.flags.iter().map(String::as_str));
        let Command::Serve(config) = Cli::try_parse_from(arguments).unwrap().command else {
            panic!("another command");
        };
        self.relay = Some(Relay::start(&config, recorder.clone()).await.unwrap());
    }

    async fn restart(&mut self) {
        self.relay.take().unwrap().stop().await.unwrap();
        self.run().await;
    }

    fn relay(&self) -> &Relay {
        self.relay.as_ref().unwrap()
    }

    /// The store's row of a host of the network.
    fn host(&self, index: usize) -> storage::Host {
        self.relay().hosts.find(self.network.hosts[index].name()).unwrap()
    }

    async fn subscribe(&self) -> Subscription {
        let base = format!("ws://{}", self.relay().address);
        consumers::subscribe(&base, Some(0)).await.unwrap()
    }

    /// Traffic until every account of the crowd is known; the accounts in this order.
    async fn all_heard(&mut self, subscription: &mut Subscription) -> Vec<Did> {
        let all = self.network.world.accounts().len();
        let mut heard: Vec<Did> = Vec::new();
        while heard.len() < all {
            self.network.send_next(1);
            let (did, _) = next(subscription).await;
            if !heard.contains(&did) {
                heard.push(did);
            }
        }
        heard
    }

    /// A new account of the first host.
    fn birth(&mut self) -> Did {
        let birth = self.network.world.birth(0, now());
        let did = birth[0].did.clone();
        for event in birth {
            self.network.send(event);
        }
        did
    }

    /// The first host deletes an account.
    fn delete(&self, did: &Did) {
        let host = &self.network.hosts[0];
        host.forget_repo(did);
        host.append(&account_frame(did, false, Some("deleted"), now()));
    }

    fn local(&self, did: &Did) -> Local {
        self.relay().storage.account(did).unwrap().unwrap().local
    }

    async fn take_down(&self, did: &Did) {
        let (address, body) = (self.relay().admin_address.unwrap(), r#"{"local":"takendown"}"#);
        let head = format!(
            "POST /admin/accounts/{did} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\
             Content-Length: {}\r\n",
            body.len()
        );
        let (status, body) = request(&address.to_string(), &head, body).await;
        assert_eq!(status, 200, "{body}");
    }

    async fn crawl(&self, hostname: &str) -> (u16, Json, Option<u64>) {
        let body = json!({ "hostname": hostname }).to_string();
        let path = "/xrpc/com.atproto.sync.requestCrawl";
        let url = format!("http://{}{path}", self.relay().address);
        let answer = post_json(&url, body).await;
        (answer.0, serde_json::from_str(&answer.1).unwrap(), answer.2)
    }

    async fn status(&self, hostname: &str) -> Option<String> {
        let path = "/xrpc/com.atproto.sync.listHosts";
        let (status, body) = get(&self.relay().address.to_string(), path).await;
        assert_eq!(status, 200);
        let body: Json = serde_json::from_str(&body).unwrap();
        let hosts = body["hosts"].as_array().unwrap();
        let host = hosts.iter().find(|host| host["hostname"] == hostname)?;
        host["status"].as_str().map(str::to_owned)
    }
}

/// Status, body and `Retry-After` of a POST.
async fn post_json(url: &str, body: String) -> (u16, String, Option<u64>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST /{path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let wait = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("retry-after").then(|| value.parse().unwrap())
    });
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned(), wait)
}

/// A host beside those of the network, under a name of its own.
async fn host(world: &World, name: &str) -> Host {
    world.network.dns.put_addresses(name, &[std::net::Ipv4Addr::LOCALHOST]);
    let options = loadtest::hosts::Options { name: Some(name.to_owned()), ..Default::default() };
    Host::start(options).await.unwrap()
}

/// The next event: its account, and its kind or the status of an `#account`.
async fn next(subscription: &mut Subscription) -> (Did, String) {
    let next = tokio::time::timeout(support::PATIENCE, subscription.next_message());
    let message = next.await.expect("a message in time").unwrap();
    let Event::Frame { kind, did, .. } = decode(&message).unwrap() else { panic!("no event") };
    let what = match kind {
        Kind::Account => match AccountFrame::decode(&message).unwrap() {
            AccountFrame { active: true, .. } => "active".to_owned(),
            AccountFrame { status, .. } => status.unwrap_or("inactive").to_owned(),
        },
        kind => kind.name().to_owned(),
    };
    (Did::parse(&did.unwrap()).unwrap(), what)
}

/// Reads on until this is said of this account; who else is spoken of on the way, and how.
async fn heard(subscription: &mut Subscription, did: &Did, what: &str) -> Vec<(Did, String)> {
    let mut others = Vec::new();
    loop {
        let event = next(subscription).await;
        if event == (did.clone(), what.to_owned()) {
            return others;
        }
        others.push(event);
    }
}

const TOKEN: &str = "a token of the tests";
const QUOTA: Local = Local::Throttled(Throttle::Quota);

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_makes_room_for_the_oldest_throttled_account_and_what_it_missed_is_owed() {
    let mut world = World::start(1, 2, &["--accounts-per-host-max", "2"]).await;
    let mut subscription = world.subscribe().await;
    let old = world.all_heard(&mut subscription).await;
    let first = world.birth();
    heard(&mut subscription, &first, "throttled").await;
    let second = world.birth();
    heard(&mut subscription, &second, "throttled").await;
    until("both are counted", async || world.host(0).throttled == 2).await;
    assert_eq!((world.host(0).accounts, world.host(0).open_accounts()), (4, 2));

    // Room outlives nobody: it is found from the store.
    world.restart().await;
    let mut subscription = world.subscribe().await;
    heard(&mut subscription, &second, "throttled").await;
    let began = now();
    world.delete(&old[0]);
    heard(&mut subscription, &old[0], "deleted").await;
    let others = heard(&mut subscription, &first, "active").await;
    assert!(!others.iter().any(|(did, what)| *did == second && what == "active"), "{others:?}");
    assert_eq!((world.local(&first), world.local(&second)), (Local::None, QUOTA));
    until("the counts", async || world.host(0).throttled == 1).await;
    assert_eq!(world.host(0).open_accounts(), 2);
    let gaps = world.relay().storage.account_gaps(world.host(0).id, 100).unwrap();
    let gap = gaps.iter().find(|gap| gap.did == first).expect("a gap is owed");
    assert!(gap.newest >= began, "it was owed when it was let go");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lowered_limit_throttles_the_newest_and_a_raised_one_lets_them_go() {
    let mut world = World::start(1, 4, &[]).await;
    let mut subscription = world.subscribe().await;
    let all = world.all_heard(&mut subscription).await;
    until("all are counted", async || world.host(0).accounts == 4).await;
    let name = world.network.hosts[0].name().to_owned();
    let limit = Override { accounts: Some(2), ..Override::default() };
    world.relay().hosts.set_override(&name, limit).await.unwrap();
    until("two are throttled", async || world.host(0).throttled == 2).await;
    let locals: Vec<Local> = all.iter().map(|did| world.local(did)).collect();
    assert_eq!(locals, [Local::None, Local::None, QUOTA, QUOTA], "the newest, of {all:?}");

    // What the operator has set and what the host has earned outlive a restart.
    let before = world.host(0);
    assert_eq!((before.level, before.abuse), (crawler::allowance::GROWN, 0));
    world.restart().await;
    let after = world.host(0);
    assert_eq!((after.allowance, after.throttled), (limit, 2));
    assert_eq!((after.level, after.level_since), (before.level, before.level_since));
    assert_eq!(world.relay().hosts.allowance(&after).accounts, 2);
    let born = world.birth();
    let mut subscription = world.subscribe().await;
    heard(&mut subscription, &born, "throttled").await;

    let limit = Override { accounts: Some(3), ..Override::default() };
    world.relay().hosts.set_override(&name, limit).await.unwrap();
    heard(&mut subscription, &all[2], "active").await;
    until("one is let go", async || world.host(0).throttled == 2).await;
    assert_eq!((world.local(&all[3]), world.local(&born)), (QUOTA, QUOTA));
    world.relay().hosts.set_override(&name, Override::default()).await.unwrap();
    until("all are let go", async || world.host(0).throttled == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_an_operator_decided_about_is_not_touched() {
    let mut world = World::start(1, 2, &[]).await;
    let mut subscription = world.subscribe().await;
    let all = world.all_heard(&mut subscription).await;
    until("all are counted", async || world.host(0).accounts == 2).await;
    world.take_down(&all[1]).await;
    let name = world.network.hosts[0].name().to_owned();
    let limit = Override { accounts: Some(1), ..Override::default() };
    world.relay().hosts.set_override(&name, limit).await.unwrap();
    heard(&mut subscription, &all[0], "throttled").await;
    assert_eq!(world.local(&all[1]), Local::Takendown);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_of_abuse_lowers_a_host_and_outlives_a_restart() {
    let flags = ["--accounts-per-host-base", "10", "--accounts-per-host-max", "1000"];
    let mut world = World::start(1, 1, &flags).await;
    let limit = |world: &World| world.relay().hosts.allowance(&world.host(0)).accounts;
    assert_eq!(limit(&world), 1_000, "an operator listed it");
    let lie = Frame::event(
        "#account",
        &Value::Map(vec![
            ("did", Value::from("did:key:zQ3shf3Kc3BsnZEPhb9uiQ2nkNa4BmK7UfExfHNfDtCh4qzvJ")),
            ("seq", Value::Seq),
            ("time", Value::Text(protocol::datetime::format(now()))),
            ("active", Value::Bool(true)),
        ]),
    );
    world.network.hosts[0].append_all(std::iter::repeat_n(&lie, 999));
    until("they are dropped", async || world.host(0).rejects == 999).await;
    assert_eq!(world.host(0).abuse, 0, "some are borne");
    world.network.hosts[0].append(&lie);
    until("it has fallen", async || world.host(0).abuse == 1).await;
    // From the seventh level, 1,000 accounts at most, to the fifth.
    assert_eq!((world.host(0).level, limit(&world)), (5, 320));
    world.restart().await;
    assert_eq!((world.host(0).level, world.host(0).abuse, limit(&world)), (5, 1, 320));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_delays_what_a_host_sends_and_loses_nothing() {
    let mut world = World::start(1, 3, &[]).await;
    let mut subscription = world.subscribe().await;
    world.all_heard(&mut subscription).await;
    let name = world.network.hosts[0].name().to_owned();
    let rate = Override { per_second: Some(5), ..Override::default() };
    world.relay().hosts.set_override(&name, rate).await.unwrap();
    world.network.send_next(400);
    // At this rate it takes longer than the test is patient.
    until("it is held back", async || world.status(&name).await.as_deref() == Some("throttled"))
        .await;
    assert!(world.host(0).reason.contains("5 events a second"), "{}", world.host(0).reason);
    assert!(world.host(0).cursor.get() < world.network.hosts[0].seq());
    world.relay().hosts.set_override(&name, Override::default()).await.unwrap();
    until("all is read", async || world.host(0).cursor.get() == world.network.hosts[0].seq()).await;
    until("it is held back no more", async || {
        world.status(&name).await.as_deref() == Some("active")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_hosts_come_by_themselves_within_a_day() {
    let flags = ["--new-hosts-per-day", "1", "--trusted-domain", "trusted.test"];
    let base = ["--accounts-per-host-base", "7", "--accounts-per-host-max", "70"];
    let mut world = World::start(1, 1, &[&flags[..], &base].concat()).await;
    let [first, second, third] = [
        host(&world, "a.pds.test").await,
        host(&world, "b.pds.test").await,
        host(&world, "c.trusted.test").await,
    ];
    // A name that is no host takes no place.
    assert_eq!(world.crawl("localhost:1").await.0, 400);
    assert_eq!(world.crawl(first.name()).await.0, 200);
    let check = async |world: &World| {
        let (status, body, wait) = world.crawl(second.name()).await;
        assert_eq!((status, &body["error"]), (429, &json!("RateLimitExceeded")), "{body}");
        assert!(body["message"].as_str().unwrap().contains("within a day"), "{body}");
        assert!(wait.is_some_and(|wait| (86_000..=86_400).contains(&wait)), "{wait:?}");
        assert_eq!(world.crawl(first.name()).await.0, 200, "it is known");
    };
    check(&world).await;
    world.restart().await;
    check(&world).await;
    assert_eq!(world.crawl(third.name()).await.0, 200, "its domain is trusted");
    world.relay().hosts.add(second.name(), Start::Live).await.unwrap();
    second.connected(1).await;
    // Who calls begins at the base; who is vouched for, at the ceiling.
    let limits = [&first, &second, &third].map(|host| {
        let hosts = &world.relay().hosts;
        hosts.allowance(&hosts.find(host.name()).unwrap()).accounts
    });
    assert_eq!(limits, [7, 70, 70]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_ban_ends_the_connections_of_its_hosts_and_outlives_a_restart() {
    let mut world = World::start(1, 1, &[]).await;
    let (bad, late) = (host(&world, "pds.bad.test").await, host(&world, "bad.test").await);
    let hosts = &world.relay().hosts;
    hosts.add(bad.name(), Start::Oldest).await.unwrap();
    bad.connected(1).await;
    world.network.hosts[0].connected(1).await;
    assert_eq!(hosts.ban_domain("Bad.test").await.unwrap(), 1);
    until("its connection is closed", async || bad.connections() == 0).await;
    assert_eq!(world.network.hosts[0].connections(), 1);

    let check = async |world: &World| {
        assert_eq!(world.relay().hosts.domain_bans(), ["bad.test"]);
        assert_eq!(world.status(bad.name()).await.as_deref(), Some("banned"));
        for host in [&bad, &late] {
            let (status, body, _) = world.crawl(host.name()).await;
            assert_eq!((status, &body["error"]), (400, &json!("HostBanned")));
            let added = world.relay().hosts.add(host.name(), Start::Live).await;
            assert!(matches!(added, Err(HostsError::Banned)), "{added:?}");
        }
        assert_eq!(world.status(late.name()).await, None, "nothing of it is stored");
    };
    check(&world).await;
    let ever = bad.connections_ever();
    world.restart().await;
    world.network.hosts[0].connected(1).await;
    check(&world).await;
    assert_eq!(bad.connections_ever(), ever, "it was not dialled");

    let hosts = &world.relay().hosts;
    assert!(matches!(hosts.unban_domain("other.test").await, Err(HostsError::NotFound)));
    assert_eq!(hosts.unban_domain("bad.test").await.unwrap(), 1);
    bad.connected(1).await;
    assert_eq!(hosts.domain_bans(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_operators_do_with_a_host_acts_at_once() {
    let mut world = World::start(2, 1, &[]).await;
    let [first, second] = [0, 1].map(|index| world.network.hosts[index].name().to_owned());
    let mut subscription = world.subscribe().await;
    world.all_heard(&mut subscription).await;
    let hosts = &world.relay().hosts;
    until("something is settled", async || world.host(0).cursor.get() > 0).await;

    hosts.ban(&first).await.unwrap();
    until("it is closed", async || world.network.hosts[0].connections() == 0).await;
    assert_eq!(world.status(&first).await.as_deref(), Some("banned"));
    hosts.unban(&first).await.unwrap();
    world.network.hosts[0].connected(1).await;

    let epoch = world.host(0).epoch;
    let host = hosts.reset_cursor(&first, Resume::Oldest).await.unwrap();
    assert_eq!((host.epoch, host.cursor.get()), (epoch.next(), 0));
    assert!(world.relay().storage.gap(host.id).unwrap().is_some_and(|gap| gap.whole));
    until("it is read anew", async || world.host(0).cursor.get() == world.network.hosts[0].seq())
        .await;

    let id = world.host(1).id;
    hosts.remove(&second).await.unwrap();
    until("it is closed", async || world.network.hosts[1].connections() == 0).await;
    assert!(matches!(hosts.find(&second), Err(HostsError::NotFound)));
    let host = hosts.add(&second, Start::Oldest).await.unwrap();
    assert!(host.id > id, "it is another host");
    world.network.hosts[1].connected(1).await;

    let names = vec![first.clone(), "not a name".to_owned(), second.clone()];
    let results = hosts.import(names, Start::Live).await.unwrap();
    assert!(matches!(results[1].1, Err(HostsError::Invalid(_))));
    assert!(results[0].1.is_ok() && results[2].1.is_ok());
    let rate = Override { per_hour: Some(0), ..Override::default() };
    assert!(matches!(hosts.set_override(&first, rate).await, Err(HostsError::Invalid(_))));
}

/// Who asked goes away at once: what is polled a single time and then dropped.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_begun_with_a_host_is_done_also_if_who_asked_goes_away() {
    let mut world = World::start(1, 1, &[]).await;
    let mut subscription = world.subscribe().await;
    world.all_heard(&mut subscription).await;
    let (hosts, host) = (&world.relay().hosts, &world.network.hosts[0]);
    host.connected(1).await;

    assert!(hosts.ban(host.name()).now_or_never().is_none());
    until("it is closed", async || host.connections() == 0).await;
    until("it is written", async || world.host(0).state == HostState::Refused).await;
    assert!(world.host(0).banned);
    assert!(hosts.unban(host.name()).now_or_never().is_none());
    host.connected(1).await;

    let epoch = world.host(0).epoch;
    assert!(hosts.reset_cursor(host.name(), Resume::Oldest).now_or_never().is_none());
    until("it is read anew", async || {
        let row = world.host(0);
        row.epoch == epoch.next() && row.cursor.get() == host.seq()
    })
    .await;
    host.connected(1).await;

    assert!(hosts.ban_domain("*.host.test").now_or_never().is_none());
    until("the domain is banned", async || !hosts.domain_bans().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_host_without_a_task_gets_one_when_it_calls() {
    let world = World::start(1, 1, &[]).await;
    let late = host(&world, "late.test").await;
    let name = HostName::parse(late.name(), HostRules::Insecure).unwrap();
    world.relay().storage.add_host(name, Start::Oldest, 0).await.unwrap();
    assert_eq!(world.crawl(late.name()).await.0, 200);
    late.connected(1).await;
    assert!(world.relay().hosts.ban(late.name()).await.is_ok());
    assert_eq!(world.crawl(late.name()).await.0, 400);
    assert_eq!(late.connections(), 0);
}

/// Both names lead to one PDS, which says of itself what it is.
#[tokio::test(flavor = "multi_thread")]
async fn another_name_of_a_known_host_is_refused_with_its_reason() {
    let mut world = World::start(1, 3, &[]).await;
    let mut subscription = world.subscribe().await;
    world.all_heard(&mut subscription).await;
    until("it has said who it is", async || world.host(0).service.is_some()).await;
    let name = world.network.hosts[0].name().to_owned();
    let port = name.split(':').nth(1).unwrap();
    world.network.dns.put_addresses("other.test", &[std::net::Ipv4Addr::LOCALHOST]);
    let (status, body, _) = world.crawl(&format!("other.test:{port}")).await;
    assert_eq!((status, &body["error"]), (400, &json!("InvalidRequest")));
    assert!(body["message"].as_str().unwrap().contains(&name), "{body}");
    assert_eq!(world.status(&format!("other.test:{port}")).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_name_that_no_document_says_is_refused_once_the_right_one_calls() {
    let mut world = World::start(1, 3, &[]).await;
    let mut subscription = world.subscribe().await;
    world.all_heard(&mut subscription).await;
    let name = world.network.hosts[0].name().to_owned();
    let port = name.split(':').nth(1).unwrap();
    let other = format!("other.test:{port}");
    world.network.dns.put_addresses("other.test", &[std::net::Ipv4Addr::LOCALHOST]);
    world.relay().hosts.add(&other, Start::Live).await.unwrap();
    let found = async || world.relay().hosts.find(&other).unwrap();
    // Each of the two is looked at when its turn comes, whoever is first.
    until("it is found out", async || found().await.alias_of.is_some()).await;
    assert_eq!(found().await.alias_of, Some(world.host(0).id));
    until("its connection is closed", async || world.network.hosts[0].connections() == 1).await;
    assert_eq!(world.status(&other).await.as_deref(), Some("offline"));
    until("its reason is shown", async || found().await.reason.contains(&name)).await;
    world.restart().await;
    world.network.hosts[0].connected(1).await;
    assert_eq!(world.relay().hosts.find(&other).unwrap().alias_of, Some(world.host(0).id));
    assert_eq!(world.network.hosts[0].connections(), 1, "it is not dialled");
    let (status, body, _) = world.crawl(&other).await;
    assert_eq!((status, &body["error"]), (400, &json!("InvalidRequest")), "{body}");
}
