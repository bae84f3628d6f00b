//! A consumer's socket: writes that never wait longer than they must, and a deadline for a peer
//! that takes nothing.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use protocol::ws::{Header, Opcode};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::control::{Incoming, Note};

/// The connection. Served by the runtime that it was made or [attached](Detached::attach) in.
pub(super) struct Link {
    socket: TcpStream,
    incoming: Incoming,
    /// How long the peer may take nothing at all.
    stall_max: Duration,
    /// Until when it must have taken a byte. Set while the socket is full.
    deadline: Option<Instant>,
    /// Something was written since somebody asked.
    wrote: bool,
}

/// A connection between two runtimes.
pub(super) struct Detached {
    socket: std::net::TcpStream,
    incoming: Incoming,
    stall_max: Duration,
    deadline: Option<Instant>,
}

/// Why a write did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The connection is gone.
    Gone,
    /// The peer accepted no byte for the whole deadline.
    Stalled,
}

impl Link {
    pub(super) fn new(socket: TcpStream, read_ahead: &Bytes, stall_max: Duration) -> Self {
        let incoming = Incoming::new(read_ahead);
        Self { socket, incoming, stall_max, deadline: None, wrote: false }
    }

    /// Takes it out of its runtime.
    pub(super) fn detach(self) -> io::Result<Detached> {
        let Self { socket, incoming, stall_max, deadline, .. } = self;
        Ok(Detached { socket: socket.into_std()?, incoming, stall_max, deadline })
    }

    /// Writes as much as the socket takes at once; how much that is.
    pub(super) fn write_now(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        let mut written = 0;
        while written < bytes.len() {
            match self.socket.try_write(&bytes[written..]) {
                Ok(count @ 1..) => written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Ok(0) | Err(_) => return Err(Broken::Gone),
            }
        }
        if written > 0 {
            self.wrote = true;
            self.deadline = None;
        }
        Ok(written)
    }

    /// Waits until the socket takes more.
    pub(super) async fn writable(&mut self) -> Result<(), Broken> {
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + self.stall_max);
        match timeout_at(deadline, self.socket.writable()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Broken::Gone),
            Err(_) => Err(Broken::Stalled),
        }
    }

    /// Writes all of it.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let mut written = self.write_now(bytes)?;
        while written < bytes.len() {
            self.writable().await?;
            written += self.write_now(&bytes[written..])?;
        }
        Ok(())
    }

    /// Writes one small message of our own.
    pub(super) async fn send(&mut self, opcode: Opcode, payload: &[u8]) -> Result<(), Broken> {
        self.write(&message(opcode, payload)).await
    }

    /// Waits until the peer says something, or is gone.
    pub(super) async fn readable(&self) {
        // What is wrong with the socket is found by reading from it.
        drop(self.socket.readable().await);
    }

    /// What the peer has said.
    pub(super) fn receive(&mut self) -> Vec<Note> {
        self.incoming.receive(&self.socket)
    }

    /// Whether nothing was written since the last such question.
    pub(super) fn was_silent(&mut self) -> bool {
        !std::mem::take(&mut self.wrote)
    }

    /// Ends the connection without a word: the peer must not take half a frame for a whole one.
    pub(super) fn reset_at_end(&self) {
        // A failure to set it leaves an ordinary close, which the peer sees as an error as well.
        drop(self.socket.set_zero_linger());
    }

    /// Ends our side, and waits a moment for the peer's close frame or its end.
    pub(super) async fn finish(&mut self, patience: Duration) {
        let is_last = |note: &Note| !matches!(note, Note::Pong(_));
        let answer = async {
            if self.socket.shutdown().await.is_ok() {
                while !self.receive().iter().any(is_last) {
                    self.readable().await;
                }
            }
        };
        drop(timeout(patience, answer).await);
    }
}

impl Detached {
    /// Puts it into the runtime that this is called in.
    pub(super) fn attach(self) -> io::Result<Link> {
        let Self { socket, incoming, stall_max, deadline } = self;
        let socket = TcpStream::from_std(socket)?;
        Ok(Link { socket, incoming, stall_max, deadline, wrote: true })
    }
}

fn message(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(payload.len() + 4);
    Header { fin: true, opcode, mask: None, len: payload.len() as u64 }.write(&mut message);
    message.extend_from_slice(payload);
    message
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;

    /// Writes until the socket takes nothing more, and the system has nowhere to put it.
    async fn fill(link: &mut Link) {
        let moment = Duration::from_millis(100);
        loop {
            while link.write_now(&[7; 64 << 10]).expect("connected") > 0 {}
            if timeout(moment, link.writable()).await.is_err() {
                return;
            }
        }
    }

    #[tokio::test]
    async fn i10_the_deadline_begins_when_the_socket_is_full_and_ends_with_a_byte() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (peer, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut peer, (socket, _)) = (peer.expect("connected"), accepted.expect("connected"));
        let mut link = Link::new(socket, &Bytes::new(), Duration::from_secs(3600));
        assert_eq!(link.deadline, None);
        // Nothing is taken: waiting again, or in another runtime, gains no time.
        let deadline = loop {
            fill(&mut link).await;
            let deadline = link.deadline;
            assert!(deadline.is_some());
            link = link.detach().and_then(Detached::attach).expect("a socket");
            if timeout(Duration::from_millis(10), link.writable()).await.is_err() {
                assert_eq!(link.deadline, deadline);
                break deadline;
            }
        };
        let mut bytes = vec![0; 64 << 10];
        while link.write_now(&[7]) == Ok(0) {
            tokio::select! {
                ready = link.socket.writable() => ready.expect("connected"),
                read = peer.read(&mut bytes) => assert!(read.expect("connected") > 0),
            }
        }
        assert_eq!(link.deadline, None);
        fill(&mut link).await;
        assert!(link.deadline > deadline);
    }
}
