//! A name server in memory: addresses and texts that change, faults on demand, a count of
//! questions. UDP only.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::Context;
use protocol::did::Did;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// A running name server. It ends when this is dropped.
pub struct Dns {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    server: JoinHandle<()>,
}

/// What goes wrong with a question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// The answer comes this late.
    Delay(Duration),
    /// No answer comes.
    Silence,
    /// `SERVFAIL`.
    Fails,
    /// `NXDOMAIN`, although there is a record.
    NoSuchName,
}

#[derive(Default)]
struct Zone {
    addresses: HashMap<String, Vec<Ipv4Addr>>,
    texts: HashMap<String, Vec<String>>,
    /// Every name with a record, and those it stands below.
    names: HashSet<String>,
    fault: Fault,
    /// Ends of the only names that `fault` is for; `None`: all.
    faulty: Option<String>,
    questions: HashMap<String, u64>,
}

/// A question, read.
struct Question {
    name: String,
    kind: u16,
    /// The bytes of name, type and class, to be repeated in the answer.
    bytes: Vec<u8>,
}

impl Dns {
    /// Starts one without records on a free port.
    pub async fn start() -> anyhow::Result<Self> {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).await.context("bind the name server")?;
        let address = socket.local_addr().context("name its address")?;
        let zone = Arc::new(Mutex::new(Zone::default()));
        let server = tokio::spawn(serve(Arc::new(socket), Arc::clone(&zone)));
        Ok(Self { address, zone, server })
    }

    /// `127.0.0.1:PORT`, for `--dns-server`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Puts the addresses of a name.
    pub fn put_addresses(&self, name: &str, addresses: &[Ipv4Addr]) {
        let mut zone = self.zone();
        zone.name(name);
        zone.addresses.insert(name.to_ascii_lowercase(), addresses.to_vec());
    }

    /// Puts the texts of a name, each a record of one string.
    pub fn put_texts(&self, name: &str, texts: &[String]) {
        let mut zone = self.zone();
        zone.name(name);
        zone.texts.insert(name.to_ascii_lowercase(), texts.to_vec());
    }

    /// Says whose a handle is.
    pub fn put_handle(&self, handle: &str, did: &Did) {
        self.put_texts(&format!("_atproto.{handle}"), &[format!("did={did}")]);
    }

    /// Sets what goes wrong, for names that end so or for all.
    pub fn set_fault(&self, fault: Fault, end: Option<&str>) {
        let mut zone = self.zone();
        zone.fault = fault;
        zone.faulty = end.map(str::to_ascii_lowercase);
    }

    /// How often a name was asked for, faults included.
    pub fn questions(&self, name: &str) -> u64 {
        self.zone().questions.get(name).copied().unwrap_or(0)
    }

    fn zone(&self) -> MutexGuard<'_, Zone> {
        lock(&self.zone)
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Zone {
    fn name(&mut self, name: &str) {
        let name = name.to_ascii_lowercase();
        for (at, _) in name.match_indices('.') {
            self.names.insert(name[at + 1..].to_owned());
        }
        self.names.insert(name);
    }

    fn fault_of(&self, name: &str) -> Fault {
        match &self.faulty {
            Some(end) if !name.ends_with(end.as_str()) => Fault::None,
            _ => self.fault,
        }
    }

    /// The answers' types and data, or that there is no such name.
    fn look_up(&self, question: &Question) -> Option<Vec<(u16, Vec<u8>)>> {
        let Question { name, kind, .. } = question;
        let address = |address: &Ipv4Addr| (TYPE_A, address.octets().to_vec());
        let text = |text: &String| (TYPE_TXT, text_data(text));
        match *kind {
            TYPE_A if self.addresses.contains_key(name) => {
                Some(self.addresses[name].iter().map(address).collect())
            }
            TYPE_TXT if self.texts.contains_key(name) => {
                Some(self.texts[name].iter().map(text).collect())
            }
            _ => self.names.contains(name).then(Vec::new),
        }
    }
}

async fn serve(socket: Arc<UdpSocket>, zone: Arc<Mutex<Zone>>) {
    let mut message = [0u8; MESSAGE_BYTES_MAX];
    loop {
        let (bytes, from) = match socket.recv_from(&mut message).await {
            Ok(received) => received,
            Err(error) => {
                tracing::error!(%error, "simulated name server ended");
                return;
            }
        };
        let message = &message[..bytes];
        let Some(question) = read(message) else { continue };
        let id = [message[0], message[1]];
        let (fault, found) = {
            let mut zone = lock(&zone);
            *zone.questions.entry(question.name.clone()).or_default() += 1;
            (zone.fault_of(&question.name), zone.look_up(&question))
        };
        let answer = match fault {
            Fault::Silence => continue,
            Fault::Fails => write(id, &question, CODE_FAILED, &[]),
            Fault::NoSuchName => write(id, &question, CODE_NO_SUCH_NAME, &[]),
            Fault::None | Fault::Delay(_) => match found {
                Some(records) => write(id, &question, CODE_FINE, &records),
                None => write(id, &question, CODE_NO_SUCH_NAME, &[]),
            },
        };
        let delay = match fault {
            Fault::Delay(delay) => delay,
            _ => Duration::ZERO,
        };
        let socket = Arc::clone(&socket);
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            if let Err(error) = socket.send_to(&answer, from).await {
                tracing::debug!(%error, "simulated name server could not answer");
            }
        });
    }
}

/// A question (RFC 1035 section 4.1): the first one of a message; `None` if there is none.
fn read(message: &[u8]) -> Option<Question> {
    let header = message.get(..HEADER_BYTES)?;
    let (is_answer, questions) =
        (header[2] & 0x80 != 0, u16::from_be_bytes([header[4], header[5]]));
    if is_answer || questions == 0 {
        return None;
    }
    let (mut at, mut labels) = (HEADER_BYTES, Vec::new());
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        let label = message.get(at..at + length)?;
        labels.push(std::str::from_utf8(label).ok()?.to_ascii_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]);
    let bytes = message.get(HEADER_BYTES..at + 4)?.to_vec();
    Some(Question { name: labels.join("."), kind, bytes })
}

fn write(id: [u8; 2], question: &Question, code: u8, records: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let count = u16::try_from(records.len()).expect("a test has few records");
    let mut out = Vec::with_capacity(MESSAGE_BYTES_MAX);
    out.extend_from_slice(&id);
    // An answer, authoritative, recursion desired and available.
    out.extend_from_slice(&[0x85, 0x80 | code, 0, 1]);
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&question.bytes);
    for (kind, data) in records {
        // The name is the one at the header's end; nobody keeps an answer of ours.
        out.extend_from_slice(&[0xc0, 12]);
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&[0, 1, 0, 0, 0, 0]);
        let length = u16::try_from(data.len()).expect("a test's records are short");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(data);
    }
    out
}

/// A text in strings of at most 255 bytes.
fn text_data(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for part in text.as_bytes().chunks(255) {
        out.push(u8::try_from(part.len()).expect("at most 255"));
        out.extend_from_slice(part);
    }
    out
}

fn lock(zone: &Mutex<Zone>) -> MutexGuard<'_, Zone> {
    zone.lock().expect("nothing panics while it holds the zone")
}

const MESSAGE_BYTES_MAX: usize = 1_232;
const HEADER_BYTES: usize = 12;
const TYPE_A: u16 = 1;
const TYPE_TXT: u16 = 16;
const CODE_FINE: u8 = 0;
const CODE_FAILED: u8 = 2;
const CODE_NO_SUCH_NAME: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_question_is_not_answered() {
        let question =
            [&[7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], &b"\x01A\x04test\x00\x00\x10\x00\x01"[..]];
        let question = question.concat();
        let read_well = read(&question).unwrap();
        assert_eq!((read_well.name.as_str(), read_well.kind), ("a.test", TYPE_TXT));
        (0..question.len()).for_each(|cut| assert!(read(&question[..cut]).is_none(), "{cut}"));
        let mut answer = question;
        answer[2] = 0x85;
        assert!(read(&answer).is_none());
    }
}
