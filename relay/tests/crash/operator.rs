//! An operator who decides about accounts while the relay dies under him: what was answered stands,
//! and what was not is either so or as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use loadtest::oracle::Decision;
use protocol::did::Did;
use serde_json::{Value, json};

use crate::support::request_of;
use crate::trial::Shared;

pub const TOKEN: &str = "a token of the tests";

/// What is decided about each account.
#[derive(Clone)]
pub struct Desk(Arc<Mutex<BTreeMap<Did, File>>>);

#[derive(Clone, Copy, Default)]
struct File {
    known: Decision,
    /// Asked for, and not answered when the relay died.
    open: Option<Decision>,
}

impl Desk {
    pub fn new(dids: &[Did]) -> Self {
        let files = dids.iter().map(|did| (did.clone(), File::default())).collect();
        Self(Arc::new(Mutex::new(files)))
    }

    /// Decides one thing after the other until the relay does not answer any more; how much was
    /// answered.
    pub async fn work(self, admin: String, network: Shared, mut random: u64) -> u64 {
        let mut answered = 0;
        loop {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            tokio::time::sleep(Duration::from_micros((random >> 33) % 6_000)).await;
            let Some((did, decision)) = self.open(random >> 40) else {
                // Some lives pass without a look at what became of the last decision of each: when
                // all are open, nothing is left to be asked, and nobody would notice the end.
                if self.is_all_open() {
                    return answered;
                }
                continue;
            };
            let body = json!({ "local": decision.name() }).to_string();
            let head = format!("POST {}Content-Length: {}\r\n", head(&did), body.len());
            let Some((status, body)) = request_of(&admin, &head, &body).await else {
                return answered;
            };
            // 503 is no answer: the relay was about to stop.
            if status != 200 {
                assert_eq!(status, 503, "{body}");
                return answered;
            }
            network.lock().await.oracle.expect_decision(&did, decision);
            self.close(&did, decision);
            answered += 1;
        }
    }

    fn open(&self, random: u64) -> Option<(Did, Decision)> {
        let mut files = self.0.lock().unwrap();
        let index = usize::try_from(random).unwrap() % files.len();
        let (did, file) = files.iter_mut().nth(index)?;
        if file.open.is_some() {
            return None;
        }
        let decision = match file.known {
            Decision::None if random.is_multiple_of(3) => Decision::Suspended,
            Decision::None => Decision::Takendown,
            Decision::Suspended if random.is_multiple_of(2) => Decision::Takendown,
            Decision::Suspended | Decision::Takendown => Decision::None,
        };
        file.open = Some(decision);
        Some((did.clone(), decision))
    }

    fn is_all_open(&self) -> bool {
        self.0.lock().unwrap().values().all(|file| file.open.is_some())
    }

    fn close(&self, did: &Did, decision: Decision) {
        let file = File { known: decision, open: None };
        self.0.lock().unwrap().insert(did.clone(), file);
    }

    /// Compares what the relay holds with what was answered, and finds out what became of the
    /// rest. What is wrong.
    pub async fn examine(&self, admin: &str, network: &Shared) -> Vec<String> {
        let files = self.0.lock().unwrap().clone();
        let mut findings = Vec::new();
        for (did, File { known, open }) in files {
            let answer = show(admin, &did).await;
            let local = answer["local"].as_str().and_then(Decision::from_name);
            if let Some(decision) = open.filter(|_| local == open && open != Some(known)) {
                network.lock().await.oracle.expect_decision(&did, decision);
                self.close(&did, decision);
            } else if local == Some(known) || (answer == Value::Null && known == Decision::None) {
                self.close(&did, known);
            } else {
                findings.push(format!("{did}: {known:?} was answered, not {answer}"));
            }
        }
        findings
    }

    /// How many accounts this is decided about, by what is known.
    pub fn count(&self, decision: Decision) -> usize {
        let files = self.0.lock().unwrap();
        files.values().filter(|file| file.known == decision).count()
    }

    /// The accounts that are taken down.
    pub fn hidden(&self) -> BTreeSet<String> {
        let files = self.0.lock().unwrap();
        let hidden = files.iter().filter(|(_, file)| file.known == Decision::Takendown);
        hidden.map(|(did, _)| did.to_string()).collect()
    }
}

/// What operators are shown of an account; null of one that the relay does not know.
pub async fn show(admin: &str, did: &Did) -> Value {
    let head = format!("GET {}", head(did));
    let (status, body) = request_of(admin, &head, "").await.expect("a relay that answers");
    if status == 404 { Value::Null } else { serde_json::from_str(&body).unwrap() }
}

fn head(did: &Did) -> String {
    format!("/admin/accounts/{did} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n")
}
