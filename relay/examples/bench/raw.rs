//! What the relay's work would cost if nothing but the system calls were left of it.

use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use loadtest::report::Spread;
use rustix::time::{ClockId, clock_gettime};

/// One write of `bytes` to each of so many sockets, every `interval`: CPU of the writer for each.
pub(crate) fn writes(sockets: usize, bytes: usize, interval: Duration) -> anyhow::Result<Duration> {
    let (mut writers, reader) = sinks(sockets)?;
    let batch = vec![7; bytes];
    for writer in &mut writers {
        writer.write_all(&batch)?;
    }
    let before = thread_cpu();
    let began = Instant::now();
    let mut rounds = 0_u32;
    while began.elapsed() < WRITES_LENGTH {
        let due = interval * (rounds + 1);
        for writer in &mut writers {
            writer.write_all(&batch)?;
        }
        rounds += 1;
        std::thread::park_timeout(due.saturating_sub(began.elapsed()));
    }
    let cpu = thread_cpu() - before;
    drop(writers);
    join(reader)?;
    Ok(cpu / rounds / u32::try_from(sockets)?)
}

/// `pread` and `write` of a file of these bytes to a socket whose other end reads as fast: wall
/// time.
pub(crate) fn replay(folder: &Path, bytes: u64) -> anyhow::Result<Duration> {
    let path = folder.join("flat");
    let mut buffer = vec![7; READ_BYTES];
    let mut file = File::create(&path).context("make a flat file")?;
    let reads = bytes.div_ceil(READ_BYTES as u64);
    for _ in 0..reads {
        file.write_all(&buffer)?;
    }
    let file = File::open(&path)?;
    let (mut writers, reader) = sinks(1)?;
    let began = Instant::now();
    for read in 0..reads {
        file.read_exact_at(&mut buffer, read * READ_BYTES as u64)?;
        writers[0].write_all(&buffer)?;
    }
    drop(writers);
    join(reader)?;
    let wall = began.elapsed();
    std::fs::remove_file(&path)?;
    Ok(wall)
}

/// One write and sync of 6 kB, the relay's batch at a low rate, every 3 ms.
pub(crate) fn fsync(folder: &Path) -> anyhow::Result<Spread> {
    let path = folder.join("synced");
    let mut file = File::create(&path)?;
    let mut samples = Vec::new();
    for _ in 0..FSYNCS {
        file.write_all(&[7; 6_000])?;
        let began = Instant::now();
        file.sync_data()?;
        samples.push(began.elapsed());
    }
    std::fs::remove_file(&path)?;
    Ok(Spread::of_millis(samples))
}

/// CPU time of this thread.
pub(crate) fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
}

type Reader = std::thread::JoinHandle<anyhow::Result<()>>;

/// Sockets, and the thread that reads what is written to them until they are closed.
fn sinks(count: usize) -> anyhow::Result<(Vec<TcpStream>, Reader)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let (mut writers, mut readers) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let writer = TcpStream::connect(address)?;
        writer.set_nodelay(true)?;
        writers.push(writer);
        readers.push(listener.accept()?.0);
    }
    let read = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let tasks = tokio::task::LocalSet::new();
        tasks.block_on(&runtime, async {
            let buffer = std::rc::Rc::new(std::cell::RefCell::new(vec![0; READ_BYTES]));
            let mut all = Vec::new();
            for reader in readers {
                reader.set_nonblocking(true)?;
                let socket = tokio::net::TcpStream::from_std(reader)?;
                let buffer = std::rc::Rc::clone(&buffer);
                all.push(tasks.spawn_local(async move {
                    loop {
                        socket.readable().await?;
                        match socket.try_read(&mut buffer.borrow_mut()) {
                            Ok(0) => return std::io::Result::Ok(()),
                            Ok(_) => {}
                            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                            Err(error) => return Err(error),
                        }
                    }
                }));
            }
            for reader in all {
                reader.await??;
            }
            anyhow::Ok(())
        })
    };
    Ok((writers, std::thread::spawn(read)))
}

fn join(reader: Reader) -> anyhow::Result<()> {
    reader.join().map_err(|_| anyhow::anyhow!("a reader panicked"))?
}

const WRITES_LENGTH: Duration = Duration::from_secs(3);
const READ_BYTES: usize = 512 << 10;
const FSYNCS: usize = 300;
