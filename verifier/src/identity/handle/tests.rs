//! A fake DNS and a fake web; every look goes through [`Handles`].

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use std::sync::atomic::{AtomicUsize, Ordering};

use protocol::fetch::Answer;

use super::*;

const OURS: &str = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";
const OTHER: &str = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb";
const HANDLE: &str = "alice.example.com";
const HOST: HostId = HostId(7);

/// What DNS says.
#[derive(Clone, Copy, Debug)]
enum Dns {
    Records(&'static [&'static str]),
    NoSuchRecord,
    Fails,
    Silent,
}

/// What the web says.
#[derive(Clone, Copy, Debug)]
enum Web {
    Page(u16, &'static str),
    NoSuchName,
    Fails(fn() -> FetchError),
    Silent,
}

/// Both, and how often each was asked.
struct World {
    handles: Arc<Handles>,
    dns: Arc<AtomicUsize>,
    web: Arc<AtomicUsize>,
}

impl World {
    fn new(dns: Dns, web: Web, rules: HostRules) -> Self {
        let (dns_asked, web_asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let txt = {
            let asked = Arc::clone(&dns_asked);
            Txt::new(move |name: String| {
                assert!(name.starts_with("_atproto."), "{name}");
                asked.fetch_add(1, Ordering::Relaxed);
                async move {
                    tokio::task::yield_now().await;
                    match dns {
                        Dns::Records(records) => {
                            Ok(records.iter().map(|record| record.as_bytes().to_vec()).collect())
                        }
                        Dns::NoSuchRecord => Err(TxtError::NotFound),
                        Dns::Fails => Err(TxtError::Failed("SERVFAIL".into())),
                        Dns::Silent => std::future::pending().await,
                    }
                }
            })
        };
        let fetch = {
            let asked = Arc::clone(&web_asked);
            Fetch::new(move |get: Get| {
                assert!(get.url.ends_with("/.well-known/atproto-did"), "{}", get.url);
                asked.fetch_add(1, Ordering::Relaxed);
                async move {
                    match web {
                        Web::Page(status, body) => {
                            let (server, retry_after) = (None, None);
                            Ok(Answer { status, server, retry_after, body: body.into() })
                        }
                        Web::NoSuchName => Err(FetchError::NoSuchName("name".into())),
                        Web::Fails(error) => Err(error()),
                        Web::Silent => std::future::pending().await,
                    }
                }
            })
        };
        let handles = Arc::new(Handles::new(fetch, txt, rules, Duration::from_millis(20)));
        Self { handles, dns: dns_asked, web: web_asked }
    }

    fn asked(&self) -> (usize, usize) {
        (self.dns.load(Ordering::Relaxed), self.web.load(Ordering::Relaxed))
    }

    async fn at(&self, seconds: u64, handle: &str, host: HostId) -> Resolution {
        let now = Micros(1_000_000_000).plus(Duration::from_secs(seconds));
        self.handles.resolve(handle, host, now).await
    }
}

fn run<F: Future>(test: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

fn did(text: &str) -> Did {
    Did::parse(text).unwrap()
}

#[test]
fn dns_goes_before_the_web_and_only_answers_convict() {
    let check = |dns, web, expected: Resolution, ours: Option<bool>| {
        let world = World::new(dns, web, HostRules::Public);
        let found = run(world.at(0, HANDLE, HOST));
        assert_eq!(found, expected, "{dns:?} {web:?}");
        assert_eq!(found.is_of(&did(OURS)), ours, "{dns:?} {web:?}");
        let dns_decides = matches!(found, Resolution::Did(_)) && !matches!(dns, Dns::NoSuchRecord);
        let web_is_asked = usize::from(!dns_decides || matches!(dns, Dns::Records([])));
        assert_eq!(world.asked(), (1, web_is_asked), "{dns:?} {web:?}");
    };
    let found = |text| Resolution::Did(did(text));
    const SAYS_OURS: Dns = Dns::Records(&["did=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"]);
    const SAYS_OTHER: Dns = Dns::Records(&["did=did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"]);
    const TWO: Dns = Dns::Records(&[
        "did=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa",
        "did=did:plc:bbbbbbbbbbbbbbbbbbbbbbbb",
    ]);
    let page_ours = Web::Page(200, " did:plc:aaaaaaaaaaaaaaaaaaaaaaaa\n");
    let page_other = Web::Page(200, OTHER);
    let missing = Web::Page(404, "");
    check(SAYS_OURS, page_other, found(OURS), Some(true));
    check(SAYS_OTHER, page_ours, found(OTHER), Some(false));
    check(Dns::NoSuchRecord, page_ours, found(OURS), Some(true));
    check(Dns::NoSuchRecord, page_other, found(OTHER), Some(false));
    check(Dns::NoSuchRecord, missing, Resolution::Nothing, Some(false));
    check(Dns::NoSuchRecord, Web::Page(410, ""), Resolution::Nothing, Some(false));
    check(Dns::NoSuchRecord, Web::NoSuchName, Resolution::Nothing, Some(false));
    check(TWO, missing, Resolution::Nothing, Some(false));
    // DNS did not say: it may name the account.
    for dns in [Dns::Fails, Dns::Silent] {
        check(dns, page_ours, Resolution::Perhaps(did(OURS)), Some(true));
        check(dns, page_other, Resolution::Perhaps(did(OTHER)), None);
        check(dns, missing, Resolution::Unknown, None);
    }
    // The web did not say.
    for web in [
        Web::Page(500, ""),
        Web::Page(403, OURS),
        Web::Page(200, "<html>"),
        Web::Fails(|| FetchError::Timeout),
        Web::Fails(|| FetchError::TooBig),
        Web::Fails(|| FetchError::Connection("TLS".into())),
        Web::Fails(|| FetchError::Forbidden("10.0.0.1".into())),
        Web::Silent,
    ] {
        check(Dns::NoSuchRecord, web, Resolution::Unknown, None);
    }
}

#[test]
fn a_txt_answer_names_exactly_one_did() {
    let check = |records: &[&str], expected: Option<&str>| {
        let owned: Vec<Vec<u8>> = records.iter().map(|it| it.as_bytes().to_vec()).collect();
        let expected = expected.map_or(Resolution::Nothing, |text| Resolution::Did(did(text)));
        assert_eq!(read_txt(&owned), expected, "{records:?}");
    };
    let (ours, other) = (format!("did={OURS}"), format!("did={OTHER}"));
    check(&[], None);
    check(&[&ours], Some(OURS));
    check(&[&ours, &ours], Some(OURS));
    check(&[&ours, &other], None);
    check(&["v=spf1 -all", &ours, "did=", "did=did:key:z6Mk"], Some(OURS));
    check(&["did=did:web:example.com"], Some("did:web:example.com"));
    check(&[OURS], None);
    check(&[&format!("DID={OURS}"), &format!(" did={OURS}"), &format!("did={OURS} ")], None);
    assert_eq!(read_txt(&[vec![0xff; 300]]), Resolution::Nothing);
    let crowd: Vec<Vec<u8>> = (0..RECORDS_MAX).map(|_| b"x".to_vec()).collect();
    assert_eq!(read_txt(&[crowd, vec![ours.into_bytes()]].concat()), Resolution::Nothing);
}

#[test]
fn reserved_domains_are_not_asked() {
    let check = |handle, rules, expected, asked| {
        let world = World::new(Dns::NoSuchRecord, Web::Page(503, ""), rules);
        assert_eq!(run(world.at(0, handle, HOST)), expected, "{handle}");
        assert_eq!(world.asked(), asked, "{handle}");
    };
    check("alice.test", HostRules::Public, Resolution::Nothing, (0, 0));
    check("alice.test", HostRules::Insecure, Resolution::Unknown, (1, 1));
    check("alice.local", HostRules::Insecure, Resolution::Nothing, (0, 0));
    check(handle::INVALID, HostRules::Insecure, Resolution::Nothing, (0, 0));
}

#[test]
fn one_look_serves_all_who_ask_and_is_believed_for_a_while() {
    let world = World::new(Dns::Records(&[]), Web::Page(200, OURS), HostRules::Public);
    run(async {
        let mut asking = tokio::task::JoinSet::new();
        for number in 0..50 {
            let handles = Arc::clone(&world.handles);
            let handle = if number % 2 == 0 { HANDLE } else { "Alice.Example.com" };
            asking.spawn(async move { handles.resolve(handle, HostId(number), Micros(5)).await });
        }
        while let Some(found) = asking.join_next().await {
            assert_eq!(found.unwrap(), Resolution::Did(did(OURS)));
        }
        assert_eq!(world.asked(), (1, 1), "single flight");
        let kept = FOUND_KEPT.as_secs();
        let start = Micros(5).plus(FOUND_KEPT);
        world.handles.resolve(HANDLE, HOST, Micros(start.0 - 1)).await;
        assert_eq!(world.asked(), (1, 1), "believed");
        world.at(kept, HANDLE, HOST).await;
        assert_eq!(world.asked(), (2, 2), "looked at again");
    });
    let world = World::new(Dns::NoSuchRecord, Web::Page(404, ""), HostRules::Public);
    run(async {
        let kept = NOTHING_KEPT.as_secs();
        for (second, looks) in [(0, 1), (kept - 1, 1), (kept, 2)] {
            world.at(second, HANDLE, HOST).await;
            assert_eq!(world.asked(), (looks, looks), "{second}");
        }
    });
    let world = World::new(Dns::Fails, Web::Silent, HostRules::Public);
    run(async {
        let kept = UNKNOWN_KEPT.as_secs();
        for (second, looks) in [(0, 1), (kept - 1, 1), (kept, 2)] {
            world.at(second, HANDLE, HOST).await;
            assert_eq!(world.asked(), (looks, looks), "{second}");
        }
    });
}

#[test]
fn a_host_causes_so_many_looks_and_no_more() {
    let world = World::new(
        Dns::Records(&["did=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"]),
        Web::NoSuchName,
        HostRules::Public,
    );
    run(async {
        let burst = usize::try_from(HOST_BURST).unwrap() + 1;
        for number in 0..1000 {
            let handle = format!("user{number}.example.com");
            let found = world.at(0, &handle, HOST).await;
            assert_eq!(found == Resolution::Unknown, number >= burst, "{number}");
        }
        assert_eq!(world.asked(), (burst, 0));
        let found = world.at(0, "user5000.example.com", HostId(8)).await;
        assert_eq!(found, Resolution::Did(did(OURS)), "another host has its own");
        world.at(0, "user0.example.com", HOST).await;
        assert_eq!(world.asked(), (burst + 1, 0), "what is known costs nothing");
        for number in 0..10 {
            world.at(1, &format!("later{number}.example.com"), HOST).await;
        }
        assert_eq!(world.asked(), (burst + 11, 0), "ten a second");
    });
}

#[test]
fn a_recent_map_is_bounded_and_keeps_what_is_asked_for() {
    let mut recent = Recent::new(100);
    for number in 0..1000 {
        recent.put(number, number);
        assert_eq!(recent.get(&0), Some(&0), "after {number}");
        assert!(recent.len() <= 101, "{}", recent.len());
    }
    assert_eq!(recent.get(&500), None);
}

#[test]
fn damaged_answers_do_not_panic() {
    for text in ["", OURS, "did=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa\ndid=x\n\n", "\u{a0}did:web:a.b "]
    {
        (0..=text.len()).for_each(|cut| fuzz_handle(&text.as_bytes()[..cut]));
    }
    fuzz_handle(&[0xff; 5000]);
}
