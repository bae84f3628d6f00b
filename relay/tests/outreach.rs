//! The guard of everything that dials out (protocol.md section 10).

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{LOCATION, RETRY_AFTER};
use axum::routing::get;
use bytes::Bytes;
use futures_util::{Stream, stream};
use loadtest::dns::{Dns, Fault};
use protocol::fetch::{Fetch, FetchError, Get, Longer};
use protocol::host::HostRules;
use protocol::txt::TxtError;
use relay::outreach;
use tokio::net::TcpListener;

/// A server on localhost: pages of some size, redirects, and one that never answers.
async fn server() -> String {
    let router = Router::new()
        .route("/page", get(|| async { "x".repeat(1_000) }))
        .route("/loop", get(|| async { (StatusCode::FOUND, [(LOCATION, "/loop")]) }))
        .route("/page-by-redirect", get(|| async { (StatusCode::FOUND, [(LOCATION, "/page")]) }))
        .route("/away", get(|| async { (StatusCode::FOUND, [(LOCATION, "http://localhost:1/")]) }))
        .route("/metadata", get(|| async { (StatusCode::FOUND, [(LOCATION, METADATA)]) }))
        .route(
            "/inside",
            get(|| async { (StatusCode::FOUND, [(LOCATION, "https://n0.inside.dev/")]) }),
        )
        .route("/busy", get(|| async { (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "7")]) }))
        .route("/endless", get(|| async { Body::from_stream(endless()) }))
        .route("/never", get(std::future::pending::<()>));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// A body that never ends.
fn endless() -> impl Stream<Item = std::io::Result<Bytes>> + Send {
    stream::repeat_with(|| Ok(Bytes::from_static(&[b'x'; 1_000])))
}

fn fetch(rules: HostRules, trusted_urls: &[String]) -> Fetch {
    let options = outreach::Options { rules, ca_file: None, dns_servers: &[], trusted_urls };
    outreach::fetcher(outreach::dialer(&options).unwrap(), "test").unwrap()
}

async fn ask(fetch: &Fetch, url: &str) -> Result<(u16, usize), FetchError> {
    let get = Get {
        url: url.to_owned(),
        timeout: Duration::from_millis(1_500),
        body_bytes_max: 1_000,
        longer: Longer::Refused,
        redirects_max: 2,
    };
    fetch.get(get).await.map(|answer| (answer.status, answer.body.len()))
}

#[tokio::test]
async fn what_is_not_public_is_not_asked() {
    let base = server().await;
    let fetch = fetch(HostRules::Public, &[]);
    for url in [
        format!("{base}/page"),
        base.replace("http", "https"),
        "https://127.0.0.1/".to_owned(),
        "https://localhost/".to_owned(),
        "https://[::1]/".to_owned(),
        "https://10.0.0.1/".to_owned(),
        "https://2130706433/".to_owned(),
        "https://0x7f000001/".to_owned(),
        "https://[::ffff:127.0.0.1]/".to_owned(),
        "https://[64:ff9b::7f00:1]/".to_owned(),
        "https://[::ffff:a9fe:a9fe]/".to_owned(),
        "https://example.com:8443/".to_owned(),
        "file:///etc/passwd".to_owned(),
        METADATA.to_owned(),
    ] {
        let refused = ask(&fetch, &url).await;
        assert!(matches!(refused, Err(FetchError::Forbidden(_))), "{url}: {refused:?}");
    }
}

#[tokio::test]
async fn the_operators_own_address_may_be_private_but_leads_nowhere_else() {
    let base = server().await;
    let fetch = fetch(HostRules::Public, std::slice::from_ref(&base));
    assert_eq!(ask(&fetch, &format!("{base}/page")).await, Ok((200, 1_000)));
    assert_eq!(ask(&fetch, &format!("{base}/page-by-redirect")).await, Ok((200, 1_000)));
    for path in ["away", "metadata"] {
        let refused = ask(&fetch, &format!("{base}/{path}")).await;
        assert!(matches!(refused, Err(FetchError::Forbidden(_))), "{path}: {refused:?}");
    }
}

#[tokio::test]
async fn no_redirect_leads_to_the_operators_own_address() {
    let (directory, stranger) = (server().await, server().await);
    let router = Router::new().route(
        "/",
        get({
            let target = format!("{directory}/page");
            || async { (StatusCode::FOUND, [(LOCATION, target)]) }
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let lure = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let fetch = fetch(HostRules::Insecure, std::slice::from_ref(&directory));
    assert_eq!(ask(&fetch, &format!("{stranger}/page")).await, Ok((200, 1_000)));
    let refused = ask(&fetch, &lure).await;
    assert!(matches!(refused, Err(FetchError::Forbidden(_))), "{refused:?}");
}

#[tokio::test]
async fn size_redirects_and_time_have_limits() {
    let base = server().await;
    let fetch = fetch(HostRules::Insecure, &[]);
    assert_eq!(ask(&fetch, &format!("{base}/page")).await, Ok((200, 1_000)));
    assert_eq!(ask(&fetch, &format!("{base}/loop")).await, Err(FetchError::TooBig));
    assert_eq!(ask(&fetch, &format!("{base}/never")).await, Err(FetchError::Timeout));
    let small = Get {
        url: format!("{base}/page"),
        timeout: Duration::from_secs(5),
        body_bytes_max: 999,
        longer: Longer::Refused,
        redirects_max: 0,
    };
    assert!(matches!(fetch.get(small).await, Err(FetchError::TooBig)));
}

#[tokio::test]
async fn the_head_of_a_body_is_had_without_its_end() {
    let base = server().await;
    let fetch = fetch(HostRules::Insecure, &[]);
    let head = |path: &str, body_bytes_max| {
        let url = format!("{base}/{path}");
        fetch.get(Get {
            url,
            timeout: PATIENCE,
            body_bytes_max,
            longer: Longer::Cut,
            redirects_max: 0,
        })
    };
    for (bytes_max, expected) in [(999, 999), (1_000, 1_000), (1_001, 1_000)] {
        assert_eq!(head("page", bytes_max).await.unwrap().body.len(), expected);
    }
    assert_eq!(head("endless", 100_000).await.unwrap().body.len(), 100_000);
}

#[tokio::test]
async fn an_answer_says_when_to_come_back() {
    let base = server().await;
    let url = format!("{base}/busy");
    let get = Get {
        url,
        timeout: PATIENCE,
        body_bytes_max: 1_000,
        longer: Longer::Refused,
        redirects_max: 0,
    };
    let answer = fetch(HostRules::Insecure, &[]).get(get).await.unwrap();
    assert_eq!((answer.status, answer.retry_after), (429, Some(Duration::from_secs(7))));
}

#[tokio::test]
async fn strangers_that_never_answer_take_no_place_from_the_operators_own_address() {
    let (directory, stranger) = (server().await, server().await);
    let fetch = fetch(HostRules::Insecure, std::slice::from_ref(&directory));
    let get = |url: String| Get {
        url,
        timeout: PATIENCE,
        body_bytes_max: 1_000,
        longer: Longer::Refused,
        redirects_max: 0,
    };
    // More than there are places for them.
    let mut hanging = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let (fetch, get) = (fetch.clone(), get(format!("{stranger}/never")));
        hanging.spawn(async move { fetch.get(get).await.map(|answer| answer.status) });
    }
    tokio::task::yield_now().await;
    let answer = fetch.get(get(format!("{directory}/page"))).await;
    assert_eq!(answer.unwrap().status, 200);
    assert!(hanging.try_join_next().is_none());
}

const PATIENCE: Duration = Duration::from_secs(30);
/// Where clouds keep their secrets.
const METADATA: &str = "http://169.254.169.254/latest/meta-data";

// The address is looked at when it is dialled, not when the name is first heard of: whoever owns
// a name may have it lead into our own network at any time (DNS rebinding).
#[tokio::test]
async fn a_name_that_leads_into_our_own_network_is_not_dialled() {
    let dns = Dns::start().await.unwrap();
    let (base, servers) = (server().await, [dns.address().parse().unwrap()]);
    let options = outreach::Options {
        rules: HostRules::Public,
        ca_file: None,
        dns_servers: &servers,
        trusted_urls: std::slice::from_ref(&base),
    };
    let fetch = outreach::fetcher(outreach::dialer(&options).unwrap(), "test").unwrap();
    for (index, address) in
        [[127, 0, 0, 1], [10, 1, 2, 3], [169, 254, 169, 254], [100, 64, 0, 1]].iter().enumerate()
    {
        let name = format!("n{index}.inside.dev");
        dns.put_addresses(&name, &[(*address).into()]);
        let refused = ask(&fetch, &format!("https://{name}/")).await;
        assert!(matches!(refused, Err(FetchError::Forbidden(_))), "{address:?}: {refused:?}");
        assert!(dns.questions(&name) >= 1);
    }
    // By way of a redirect, too.
    let refused = ask(&fetch, &format!("{base}/inside")).await;
    assert!(matches!(refused, Err(FetchError::Forbidden(_))), "{refused:?}");
}

#[tokio::test]
async fn all_dns_goes_through_the_given_server() {
    let dns = Dns::start().await.unwrap();
    let (base, servers) = (server().await, [dns.address().parse().unwrap()]);
    let options = outreach::Options {
        rules: HostRules::Insecure,
        ca_file: None,
        dns_servers: &servers,
        trusted_urls: &[],
    };
    let dialer = outreach::dialer(&options).unwrap();
    let txt = outreach::txt(&dialer);
    let fetch = outreach::fetcher(dialer, "test").unwrap();

    dns.put_addresses("pds.test", &[[127, 0, 0, 1].into()]);
    let page = format!("{}/page", base.replace("127.0.0.1", "pds.test"));
    assert_eq!(ask(&fetch, &page).await, Ok((200, 1_000)));
    let nowhere = ask(&fetch, "http://nowhere.test/").await;
    assert!(matches!(nowhere, Err(FetchError::NoSuchName(_))), "{nowhere:?}");

    let long = "x".repeat(600);
    dns.put_texts("a.test", &["one".into(), long.clone()]);
    let records = txt.ask("a.test".into()).await;
    assert_eq!(records, Ok(vec![b"one".to_vec(), long.into_bytes()]));
    for name in ["pds.test", "nowhere.test", "test"] {
        assert_eq!(txt.ask(name.into()).await, Err(TxtError::NotFound), "{name}");
    }
    dns.set_fault(Fault::NoSuchName, Some("a.test"));
    assert_eq!(txt.ask("a.test".into()).await, Err(TxtError::NotFound), "gone, and not kept");
    dns.set_fault(Fault::Fails, Some("b.test"));
    assert!(matches!(txt.ask("b.test".into()).await, Err(TxtError::Failed(_))));
    dns.set_fault(Fault::Fails, Some("failing.test"));
    let failed = ask(&fetch, "http://failing.test/").await;
    assert!(matches!(failed, Err(FetchError::Connection(_))), "{failed:?}");
    assert!(dns.questions("b.test") >= 1 && dns.questions("failing.test") >= 1);
}
