//! A TCP proxy that cuts connections: in the middle of a request, or between request and answer.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

/// What happens to a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// So many bytes of what the client sends go through, no more.
    Request(usize),
    /// As before, but the server gets everything and its answer is lost after so many bytes.
    Answer { after_request: usize, answer: usize },
}

/// A proxy before a server; ends with the test program.
pub(crate) struct Proxy {
    address: String,
    done: Arc<AtomicUsize>,
}

impl Proxy {
    /// Listens; the n-th connection that sends enough to be cut is cut as the n-th of `cuts`
    /// says, all others go through.
    pub(crate) fn start(server: &str, cuts: Vec<Cut>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let server = server.trim_start_matches("http://").to_owned();
        let done = Arc::new(AtomicUsize::new(0));
        let (cuts, counter): (Arc<[Cut]>, _) = (cuts.into(), done.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (server, cuts, done) = (server.clone(), cuts.clone(), counter.clone());
                thread::spawn(move || serve(&client, &server, &cuts, &done));
            }
        });
        Proxy { address, done }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// How many connections it has cut.
    pub(crate) fn cut_count(&self) -> usize {
        self.done.load(SeqCst)
    }
}

fn serve(client: &TcpStream, server: &str, cuts: &[Cut], done: &AtomicUsize) {
    // A server that is down looks like one behind a proxy that is down.
    let Ok(upstream) = TcpStream::connect(server) else { return };
    let answered = Arc::new(AtomicUsize::new(usize::MAX));
    let back = (upstream.try_clone(), client.try_clone(), answered.clone());
    thread::spawn(move || {
        if let (Ok(upstream), Ok(client), answered) = back {
            forward_answer(upstream, client, &answered);
        }
    });
    let mut buffer = vec![0; 1 << 12];
    let mut sent = 0;
    let (mut reader, mut writer) = (client, &upstream);
    while let Ok(count @ 1..) = reader.read(&mut buffer) {
        let insert = buffer[..count].windows(6).any(|text| text == b"INSERT");
        if insert {
            sent = 0;
        }
        let cut = cuts.get(done.load(SeqCst)).copied();
        match cut {
            Some(Cut::Request(after)) if sent + count > after && (insert || sent > 0) => {
                let _ = writer.write_all(&buffer[..after.saturating_sub(sent).min(count)]);
                done.fetch_add(1, SeqCst);
                break;
            }
            Some(Cut::Answer { after_request, answer })
                if sent + count > after_request && (insert || sent > 0) =>
            {
                answered.store(answer, SeqCst);
                done.fetch_add(1, SeqCst);
            }
            _ => {}
        }
        if insert || sent > 0 {
            sent += count;
        }
        if writer.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = upstream.shutdown(Shutdown::Both);
    let _ = client.shutdown(Shutdown::Both);
}

/// Passes the answer on until `left` bytes of it have gone through.
fn forward_answer(mut upstream: TcpStream, mut client: TcpStream, left: &AtomicUsize) {
    let mut buffer = vec![0; 1 << 12];
    while let Ok(count @ 1..) = upstream.read(&mut buffer) {
        let allowed = left.load(SeqCst);
        let passed = count.min(allowed);
        if client.write_all(&buffer[..passed]).is_err() || passed < count {
            break;
        }
        if allowed != usize::MAX {
            left.fetch_sub(passed, SeqCst);
        }
    }
    let _ = upstream.shutdown(Shutdown::Both);
    let _ = client.shutdown(Shutdown::Both);
}
