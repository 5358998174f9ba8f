//! A TCP proxy that cuts a connection after so many bytes towards the server.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

/// Forwards connections until the bytes are used up, then cuts them, then refuses.
pub(crate) struct Proxy {
    pub(crate) url: String,
    left: Arc<AtomicU64>,
}

impl Proxy {
    /// Starts a proxy before `server` (`http://host:port`) that forwards everything.
    pub(crate) fn before(server: &str) -> Proxy {
        let server: SocketAddr = server.trim_start_matches("http://").parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let left = Arc::new(AtomicU64::new(u64::MAX));
        let shared = left.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.load(Ordering::SeqCst) == 0 {
                    continue;
                }
                let server = TcpStream::connect(server).unwrap();
                let (mut answers, to_client) =
                    (server.try_clone().unwrap(), client.try_clone().unwrap());
                let left = shared.clone();
                thread::spawn(move || forward(client, server, &left));
                thread::spawn(move || {
                    let mut to_client = to_client;
                    let _ = std::io::copy(&mut answers, &mut to_client);
                    let _ = to_client.shutdown(Shutdown::Both);
                });
            }
        });
        Proxy { url, left }
    }

    /// Lets so many more bytes through to the server.
    pub(crate) fn cut_after(&self, bytes: u64) {
        self.left.store(bytes, Ordering::SeqCst);
    }
}

fn forward(mut client: TcpStream, mut server: TcpStream, left: &AtomicU64) {
    let mut buffer = [0; 1024];
    while let Ok(count) = client.read(&mut buffer) {
        if count == 0 {
            break;
        }
        let allowed = left.load(Ordering::SeqCst).min(count as u64);
        if server.write_all(&buffer[..allowed as usize]).is_err() {
            break;
        }
        let before = left.load(Ordering::SeqCst);
        left.store(if before == u64::MAX { before } else { before - allowed }, Ordering::SeqCst);
        if allowed < count as u64 {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
    let _ = client.shutdown(Shutdown::Both);
}
