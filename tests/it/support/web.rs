//! A small web server on the loopback: the real clients of sensors get answers of recorded shape from it, or none.
//!
//! It reads a request as a proxy does too (`GET http://host/path`), so `gh` with `HTTP_PROXY` reaches it as well.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// What the server does with every request from now on.
#[derive(Clone)]
pub enum Answer {
    /// A status and a body.
    Page(u16, String),
    /// Nothing, until the client goes away.
    Hang,
    /// A good beginning, and then bytes without end.
    Endless,
}

struct Shared {
    answer: Mutex<Answer>,
    seen: Mutex<Vec<String>>,
    sent: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

/// A running server. It ends, with its connections, when it is dropped.
pub struct Web {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Web {
    /// A server that answers so.
    pub fn start(answer: Answer) -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, seen, open) = (Mutex::new(answer), Mutex::default(), Mutex::default());
        let shared = Arc::new(Shared { answer, seen, open, sent: AtomicUsize::new(0) });
        let own = shared.clone();
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                if matches!(*own.answer.lock().unwrap(), Answer::Page(0, _)) {
                    return;
                }
                own.open.lock().unwrap().push(stream.try_clone().unwrap());
                let own = own.clone();
                // A client that went away is the client's business.
                thread::spawn(move || serve(stream, &own).unwrap_or_default());
            }
        });
        Web { address, shared, thread: Some(thread) }
    }

    /// The address, as `http://127.0.0.1:1234`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on it answers so.
    pub fn answer(&self, answer: Answer) {
        *self.shared.answer.lock().unwrap() = answer;
    }

    /// How much of answers without end was taken, in bytes.
    pub fn sent(&self) -> usize {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// The requests so far: method, target and headers as they came in, in small letters.
    pub fn seen(&self) -> Vec<String> {
        self.shared.seen.lock().unwrap().clone()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.answer(Answer::Page(0, String::new()));
        for stream in self.shared.open.lock().unwrap().drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
        drop(TcpStream::connect(self.address));
        self.thread.take().map(JoinHandle::join).unwrap().unwrap();
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        let line = line.to_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        head.push_str(&line);
    }
    reader.by_ref().take(length).read_to_end(&mut Vec::new())?;
    shared.seen.lock().unwrap().push(head);
    let answer = shared.answer.lock().unwrap().clone();
    match answer {
        // A kubectl that looks for the version that suits the server reads all of what it gets to that.
        Answer::Endless
            if shared.seen.lock().unwrap().last().is_some_and(|head| head.contains("/version")) =>
        {
            stream.write_all(b"HTTP/1.1 404 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        }
        Answer::Page(status, body) => {
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes())?;
            stream.write_all(body.as_bytes())?;
            stream.shutdown(Shutdown::Write)
        }
        Answer::Hang => reader.read_to_end(&mut Vec::new()).map(drop),
        Answer::Endless => {
            stream.write_all(
                b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n[\"",
            )?;
            while stream.write_all(&[b'x'; 65536]).is_ok() {
                shared.sent.fetch_add(65536, Ordering::Relaxed);
            }
            Ok(())
        }
    }
}
