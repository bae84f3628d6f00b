//! What one host is asked, at its pace: its listing, a status, the signed commit of an account.
//! Every answer is untrusted: bounded, hashed, and judged by the account's shard in the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use protocol::account::Upstream;
use protocol::car;
use protocol::cid::Cid;
use protocol::commit::Commit;
use protocol::did::Did;
use protocol::fetch::{Answer, Fetch, FetchError, Get, Longer};
use protocol::host::HostName;
use protocol::tid::Tid;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::compare::Word;
use super::listing::{self, PAGE_BYTES_MAX, ROWS_MAX};
use super::metrics::Metrics;
use super::pace::{Pace, Pacing, Timing};

/// Asks one host.
pub(super) struct Asker {
    fetch: Fetch,
    /// `https://NAME/xrpc/`.
    base: String,
    pacing: Arc<Pacing>,
    pace: Pace,
    /// Others wait for the pass's place.
    crowded: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
    /// `getRecord` and `getBlocks` are there, as far as was tried.
    has_record: bool,
    has_blocks: bool,
    /// Requests in a row that no answer came to.
    unanswered: u32,
}

/// Why a host cannot be asked on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// Why, for people.
    pub(super) why: String,
    /// For how long it asks to be left alone.
    pub(super) rest: Option<Duration>,
}

/// A page of the listing.
#[derive(Debug)]
pub(super) enum Listing {
    /// The page.
    Page(listing::Page),
    /// The host does not list.
    MethodMissing,
}

/// What a host says of an account's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// This.
    Word(Word),
    /// It does not answer that question.
    MethodMissing,
    /// Nothing that could be used.
    Unusable,
}

/// What a host has for an account's signed commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Signed {
    /// The block, and its own revision.
    Commit { block: Bytes, rev: Tid },
    /// The commit that was held already.
    Held,
    /// It does not know the account.
    NotFound,
    /// It does not serve the account.
    Inactive(Upstream),
    /// Nothing that could be used.
    Unusable,
}

/// What an answer is before its body is looked at.
enum Kind {
    Body(Bytes),
    /// An XRPC error of HTTP 400, by its name.
    Refused(String),
    MethodMissing,
    Failed,
}

impl Asker {
    pub(super) fn new(
        fetch: Fetch,
        host: &HostName,
        pacing: Arc<Pacing>,
        timing: &Timing,
        metrics: Arc<Metrics>,
        crowded: Arc<AtomicBool>,
    ) -> Self {
        Self {
            fetch,
            base: format!("{}/xrpc/com.atproto.sync.", host.origin()),
            pacing,
            pace: Pace::new(timing.host_interval),
            crowded,
            metrics,
            has_record: true,
            has_blocks: true,
            unanswered: 0,
        }
    }

    /// A page of `listRepos`.
    pub(super) async fn page(&mut self, cursor: &str) -> Result<Listing, Trouble> {
        let mut query = format!("listRepos?limit={ROWS_MAX}");
        if !cursor.is_empty() {
            query.push_str(&format!("&cursor={}", encoded(cursor)));
        }
        match self.get(&query, PAGE_BYTES_MAX, Longer::Refused).await? {
            Kind::Body(body) => match listing::parse(&body) {
                Some(page) => Ok(Listing::Page(page)),
                None => Err(Trouble::of("its listing cannot be read")),
            },
            Kind::MethodMissing => Ok(Listing::MethodMissing),
            Kind::Refused(name) => Err(Trouble::of(&format!("its listing says {name}"))),
            Kind::Failed => Err(Trouble::of("its listing fails")),
        }
    }

    /// `getRepoStatus`.
    pub(super) async fn status(&mut self, did: &Did) -> Result<Said, Trouble> {
        let query = format!("getRepoStatus?did={}", encoded(&did.to_string()));
        Ok(match self.get(&query, JSON_BYTES_MAX, Longer::Refused).await? {
            Kind::Body(body) => {
                let answer = serde_json::from_slice::<Value>(&body).ok();
                let word = answer.as_ref().and_then(listing::word);
                let is_said = |word: &Word| matches!(word, Word::Has { active: Some(_), .. });
                word.filter(is_said).map_or(Said::Unusable, Said::Word)
            }
            Kind::Refused(name) if name == NOT_FOUND => Said::Word(Word::NotFound),
            Kind::MethodMissing => Said::MethodMissing,
            Kind::Refused(_) | Kind::Failed => Said::Unusable,
        })
    }

    /// The account's newest commit, by the cheapest way that the host knows; `held` is the one
    /// that needs not be fetched.
    pub(super) async fn commit(&mut self, did: &Did, held: Option<Cid>) -> Result<Signed, Trouble> {
        let account = encoded(&did.to_string());
        if self.has_record {
            // The proof that a record is there, or is not, begins with the commit.
            let query = format!("getRecord?did={account}&collection={COLLECTION}&rkey={RKEY}");
            match self.get(&query, PROOF_BYTES_MAX, Longer::Cut).await? {
                Kind::Body(body) => {
                    if let Some(signed) = signed(&body, None, did) {
                        return Ok(signed);
                    }
                }
                Kind::Refused(name) => {
                    if let Some(signed) = refused(&name) {
                        return Ok(signed);
                    }
                }
                Kind::MethodMissing => self.has_record = false,
                Kind::Failed => {}
            }
        }
        let query = format!("getLatestCommit?did={account}");
        let latest = match self.get(&query, JSON_BYTES_MAX, Longer::Refused).await? {
            Kind::Body(body) => latest(&body),
            Kind::Refused(name) => match refused(&name) {
                Some(signed) => return Ok(signed),
                None => None,
            },
            Kind::MethodMissing | Kind::Failed => None,
        };
        if latest.is_some() && latest == held {
            return Ok(Signed::Held);
        }
        if let Some(latest) = latest.filter(|_| self.has_blocks) {
            let query = format!("getBlocks?did={account}&cids={latest}");
            match self.get(&query, BLOCK_BYTES_MAX, Longer::Cut).await? {
                // The reference PDS's answer has no roots: the block is found by its CID.
                Kind::Body(body) => {
                    if let Some(signed) = signed(&body, Some(latest), did) {
                        return Ok(signed);
                    }
                }
                Kind::MethodMissing => self.has_blocks = false,
                Kind::Refused(_) | Kind::Failed => {}
            }
        }
        // The newest blocks come first, and among them the commit.
        let query = format!("getRepo?did={account}");
        Ok(match self.get(&query, HEAD_BYTES_MAX, Longer::Cut).await? {
            Kind::Body(body) => signed(&body, None, did).unwrap_or(Signed::Unusable),
            Kind::Refused(name) => refused(&name).unwrap_or(Signed::Unusable),
            Kind::MethodMissing | Kind::Failed => Signed::Unusable,
        })
    }

    /// One request, and again when the host asks to wait. One that nothing comes back to may be the
    /// account's fault; several in a row are trouble.
    async fn get(
        &mut self,
        query: &str,
        body_bytes_max: usize,
        longer: Longer,
    ) -> Result<Kind, Trouble> {
        let url = format!("{}{query}", self.base);
        for wait in WAITS {
            let get = Get {
                url: url.clone(),
                timeout: REQUEST_TIMEOUT,
                body_bytes_max,
                longer,
                redirects_max: REDIRECTS_MAX,
            };
            let place = self.pacing.turn(&mut self.pace).await;
            let began = Instant::now();
            let answer = self.fetch.get(get).await;
            drop(place);
            let took = began.elapsed();
            self.metrics.requests.increment(1);
            self.pace.answered(took, Instant::now());
            let answer = match answer {
                Ok(answer) => answer,
                Err(FetchError::TooBig) => return Ok(Kind::Failed),
                Err(error) => {
                    self.unanswered += 1;
                    let is_trouble = self.unanswered >= UNANSWERED_MAX;
                    let trouble = Trouble::of(&error.to_string());
                    return if is_trouble { Err(trouble) } else { Ok(Kind::Failed) };
                }
            };
            self.unanswered = 0;
            if !matches!(answer.status, 429 | 503) {
                return Ok(kind(&answer));
            }
            self.metrics.waits.increment(1);
            let asked = answer.retry_after.unwrap_or(wait);
            let is_crowded = self.crowded.load(Ordering::Relaxed);
            if asked > if is_crowded { WAIT_CROWDED_MAX } else { WAIT_MAX } {
                let why = format!("answers {}", answer.status);
                return Err(Trouble { why, rest: Some(asked) });
            }
            sleep(asked.max(WAIT_MIN)).await;
        }
        Err(Trouble::of("asks to wait, again and again"))
    }
}

impl Trouble {
    pub(super) fn of(why: &str) -> Self {
        Self { why: why.chars().take(WHY_CHARS_MAX).collect(), rest: None }
    }
}

fn kind(answer: &Answer) -> Kind {
    match answer.status {
        200 => Kind::Body(answer.body.clone()),
        // The reference PDS says 401 to whatever it does not know.
        401 | 404 | 405 | 501 => Kind::MethodMissing,
        400 => {
            let body = serde_json::from_slice::<Value>(&answer.body).ok();
            let name = body.as_ref().and_then(|body| body.get("error")?.as_str());
            let name: String = name.unwrap_or_default().chars().take(ERROR_CHARS_MAX).collect();
            match name.as_str() {
                "MethodNotImplemented" | "MethodNotSupported" => Kind::MethodMissing,
                _ => Kind::Refused(name),
            }
        }
        _ => Kind::Failed,
    }
}

/// The signed commit in the head of a CAR, if it is one, and of this account.
fn signed(car: &Bytes, wanted: Option<Cid>, did: &Did) -> Option<Signed> {
    let (_, block) = car::find(car, wanted).ok()??;
    if block.len() > COMMIT_BYTES_MAX {
        return None;
    }
    let commit = Commit::parse(block).ok()?;
    let rev = Tid::parse(commit.rev).ok()?;
    // Copied: the rest of the body is not to be kept for it.
    let block = Bytes::copy_from_slice(block);
    (commit.did == did.to_string()).then_some(Signed::Commit { block, rev })
}

/// The account's state behind an error's name.
fn refused(name: &str) -> Option<Signed> {
    let inactive = |status: &str| {
        Some(Signed::Inactive(Upstream { active: false, status: Some(Arc::from(status)) }))
    };
    match name {
        NOT_FOUND => Some(Signed::NotFound),
        "RepoDeactivated" => inactive("deactivated"),
        "RepoTakendown" => inactive("takendown"),
        "RepoSuspended" => inactive("suspended"),
        _ => None,
    }
}

fn latest(body: &[u8]) -> Option<Cid> {
    let answer = serde_json::from_slice::<Value>(body).ok()?;
    answer.get("cid")?.as_str()?.parse().ok()
}

/// A value in a query.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

const NOT_FOUND: &str = "RepoNotFound";
/// A record that nearly every account has; of one that has none, the proof of that is as good.
const COLLECTION: &str = "app.bsky.actor.profile";
const RKEY: &str = "self";

/// For one request, with its body.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// A PDS has no reason to send us elsewhere; one that moved to another name might, once.
const REDIRECTS_MAX: u8 = 1;
/// A status, a commit's name: some hundred bytes.
const JSON_BYTES_MAX: usize = 16 * 1024;
/// A way down a tree of a billion records has 16 nodes of some kilobytes each.
const PROOF_BYTES_MAX: usize = 128 * 1024;
/// The block of a commit has 300 bytes; a `#sync` may have 10,000.
const BLOCK_BYTES_MAX: usize = 16 * 1024;
/// The commit is among the first blocks of a repo, if not the first.
const HEAD_BYTES_MAX: usize = 1024 * 1024;
/// A `#sync` with its header holds no larger one.
const COMMIT_BYTES_MAX: usize = 9_800;
const ERROR_CHARS_MAX: usize = 64;
const WHY_CHARS_MAX: usize = 200;

/// So many requests in a row without an answer: the host is away.
const UNANSWERED_MAX: u32 = 3;

/// How long a host that asks to wait, but not how long, is left alone each time.
const WAITS: [Duration; 3] =
    [Duration::from_secs(10), Duration::from_secs(60), Duration::from_secs(300)];
/// A longer wait is none of a pass's: it goes on another time.
const WAIT_MAX: Duration = Duration::from_mins(5);
/// Where others wait for the place.
const WAIT_CROWDED_MAX: Duration = Duration::from_secs(10);
/// `Retry-After: 0` is no invitation.
const WAIT_MIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use protocol::keys::SigningKey;

    use super::*;

    #[test]
    fn a_value_in_a_query_is_encoded() {
        let check = |text: &str, expected: &str| assert_eq!(encoded(text), expected);
        check("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa");
        check("did:web:localhost%3A80", "did:web:localhost%253A80");
        check("1700000000::did:plc:x&limit=1 é", "1700000000::did:plc:x%26limit%3D1%20%C3%A9");
    }

    #[test]
    fn only_the_accounts_own_commit_is_taken() {
        let did = Did::parse("did:web:a.example.com").unwrap();
        let key = SigningKey::from_secret(protocol::keys::Curve::K256, &[7; 32]).unwrap();
        let rev = Tid::from_bits(1 << 20).unwrap();
        let data = Cid::of_cbor(b"\xa0");
        let block = protocol::commit::sign(&did, rev, &data, &key);
        let cid = Cid::of_cbor(&block);
        let car = Bytes::from(car::write(&cid, &[(data, b"\xa0"), (cid, &block)]));
        let expected = Signed::Commit { block: block.clone().into(), rev };
        assert_eq!(signed(&car, None, &did), Some(expected.clone()));
        assert_eq!(signed(&car, Some(cid), &did), Some(expected));
        assert_eq!(signed(&car, Some(data), &did), None, "a block that is no commit");
        let other = Did::parse("did:web:b.example.com").unwrap();
        assert_eq!(signed(&car, None, &other), None);
        assert_eq!(signed(&car.slice(..car.len() - 1), None, &did), None);
        let mut lie = block;
        lie[20] ^= 1;
        let lie = Bytes::from(car::write(&cid, &[(cid, &lie)]));
        assert_eq!(signed(&lie, None, &did), None, "bytes that do not hash to their CID");
    }
}
