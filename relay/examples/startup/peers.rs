//! The hosts of a start: one process that is all of them, whatever name it is asked for.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use loadtest::wire::{Frame, Value};
use protocol::ws::{self, Header, Opcode};
use relay::process;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::ZONE;
use super::child::print;

/// An authority of our own, and what it has signed for all hosts.
pub(crate) struct Certificates {
    pub(crate) authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

/// Makes them in this folder.
pub(crate) fn certificates(folder: &Path) -> anyhow::Result<Certificates> {
    let extensions = folder.join("extensions");
    let text = format!("subjectAltName=DNS:*.{ZONE}\nbasicConstraints=CA:FALSE\n");
    std::fs::write(&extensions, text).context("write the certificate's extensions")?;
    let openssl = |arguments: &str| {
        let done = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(folder)
            .output()
            .context("run openssl")?;
        ensure!(done.status.success(), "openssl {arguments}: {:?}", done);
        Ok(())
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!(
        "req -x509 {key} -keyout authority.key -out authority.pem -days 30 -subj /CN=authority"
    ))?;
    openssl(&format!("req {key} -keyout hosts.key -out hosts.csr -subj /CN={ZONE}"))?;
    openssl(
        "x509 -req -in hosts.csr -CA authority.pem -CAkey authority.key -CAcreateserial \
         -out hosts.pem -days 30 -extfile extensions",
    )?;
    let [authority, certificate, key] =
        ["authority.pem", "hosts.pem", "hosts.key"].map(|name| folder.join(name));
    Ok(Certificates { authority, certificate, key })
}

/// The process; killed when dropped.
pub(crate) struct Peers(Child);

impl Peers {
    /// Starts it and waits until it listens.
    pub(crate) fn start(certificates: &Certificates) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("peers")
            .args([&certificates.certificate, &certificates.key])
            .stdout(Stdio::piped())
            .spawn()
            .context("start the hosts")?;
        let stdout = child.stdout.take().context("take what they print")?;
        let peers = Self(child);
        let line = std::io::BufRead::lines(std::io::BufReader::new(stdout)).next();
        line.context("the hosts ended")??;
        Ok(peers)
    }

    pub(crate) fn resident_bytes(&self) -> anyhow::Result<u64> {
        let usage = process::usage(Some(self.0.id())).context("read the hosts' memory")?;
        Ok(usage.resident_bytes)
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The child's part.
pub(crate) async fn serve(certificate: &Path, key: &Path) -> anyhow::Result<()> {
    let chain: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_file_iter(certificate)?.collect();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain?, PrivateKeyDer::from_pem_file(key)?)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([0, 0, 0, 0], HTTPS).into()).context("take port 443 (root may)")?;
    let listener = socket.listen(BACKLOG)?;
    print("ready\n")?;
    loop {
        let (socket, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // Whoever goes away is not missed.
            drop(connection(socket, acceptor).await);
        });
    }
}

/// A subscription to a quiet host: one frame of a kind that nobody knows, then nothing but pongs.
async fn connection(socket: TcpStream, acceptor: TlsAcceptor) -> anyhow::Result<()> {
    socket.set_nodelay(true)?;
    let mut stream = Box::new(acceptor.accept(socket).await?);
    let mut received = Vec::new();
    while !received.ends_with(b"\r\n\r\n") {
        ensure!(received.len() < REQUEST_BYTES_MAX, "the request is too long");
        ensure!(stream.read_buf(&mut received).await? > 0, "no request");
    }
    let request = String::from_utf8_lossy(&received);
    let header = |name: &str| {
        let mut lines = request.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    let accept = derive_accept_key(header("sec-websocket-key").context("no key")?.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    let cursor = request.split_once("cursor=").and_then(|(_, rest)| rest.split(' ').next());
    let seq = cursor.and_then(|cursor| cursor.parse::<u64>().ok()).unwrap_or(0) + 1;
    let mut out = answer.into_bytes();
    write_frame(&mut out, Opcode::Binary, &event().with_seq(seq));
    stream.write_all(&out).await?;
    stream.flush().await?;
    drop(out);
    received = Vec::new();
    loop {
        ensure!(stream.read_buf(&mut received).await? > 0, "left");
        let mut out = Vec::new();
        while let Some((head, start)) = Header::parse(&received)? {
            let end = start + usize::try_from(head.len)?;
            let (Some(payload), Some(mask)) = (received.get_mut(start..end), head.mask) else {
                break;
            };
            ws::mask(mask, 0, payload);
            if head.opcode == Opcode::Ping {
                write_frame(&mut out, Opcode::Pong, payload);
            }
            received.drain(..end);
        }
        stream.write_all(&out).await?;
        stream.flush().await?;
    }
}

/// As long as many events are.
fn event() -> Frame {
    let filler = Value::Bytes(vec![7; 1_500]);
    Frame::event("#unheardOf", &Value::Map(vec![("seq", Value::Seq), ("filler", filler)]))
}

fn write_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let len = u64::try_from(payload.len()).unwrap_or(u64::MAX);
    Header { fin: true, opcode, mask: None, len }.write(out);
    out.extend_from_slice(payload);
}

const HTTPS: u16 = 443;
/// As many as the system takes.
const BACKLOG: u32 = 4_096;
const REQUEST_BYTES_MAX: usize = 16 * 1024;
