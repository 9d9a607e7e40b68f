//! A scripted model server: the real agent CLI runs in tests with no key and no internet.
//!
//! It speaks as much of Anthropic's Messages and of OpenAI's chat completions and responses as such a CLI uses, streamed
//! or not, over HTTP on the loopback. Each request gets the next reply of the script, and the last reply repeats. A
//! connection serves one request.

mod forms;

use forms::Form;
use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What the server does with one request.
#[derive(Clone)]
pub struct Reply {
    act: Act,
    usage: Value,
    headers: String,
    is_cut: bool,
}

#[derive(Clone)]
enum Act {
    /// The content blocks of a message, and why it stopped.
    Message(Value, &'static str),
    Status(u16, String),
    Html,
    Drop,
    Hang,
}

impl Reply {
    /// The model says `text`.
    pub fn text(text: &str) -> Reply {
        Reply::new(Act::Message(json!({"type": "text", "text": text}), "end_turn"))
    }

    /// The model says `text`, and its output limit ends the answer there.
    pub fn truncated(text: &str) -> Reply {
        Reply::new(Act::Message(json!({"type": "text", "text": text}), "max_tokens"))
    }

    /// The model calls one of the CLI's tools.
    pub fn tool(name: &str, input: Value) -> Reply {
        let block = json!({"type": "tool_use", "name": name, "input": input});
        Reply::new(Act::Message(block, "tool_use"))
    }

    /// The endpoint fails with an HTTP status and this body.
    pub fn status(code: u16, body: &str) -> Reply {
        Reply::new(Act::Status(code, body.to_owned()))
    }

    /// The request is read and never answered, until the client or the server goes away.
    pub fn hang() -> Reply {
        Reply::new(Act::Hang)
    }

    /// A page for humans with status 200, as a gateway with a login sends it.
    pub fn html() -> Reply {
        Reply::new(Act::Html)
    }

    /// The request is read and the connection closed.
    pub fn drop_connection() -> Reply {
        Reply::new(Act::Drop)
    }

    /// The same, but a stream breaks off in its middle.
    pub fn cut(mut self) -> Reply {
        self.is_cut = true;
        self
    }

    /// The same with one more header.
    pub fn header(mut self, name: &str, value: &str) -> Reply {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// The tokens that a message reports. As in the real API, `input` leaves out what came from the cache.
    pub fn usage(mut self, input: u64, output: u64, cache_read: u64, cache_write: u64) -> Reply {
        self.usage = json!({
            "input_tokens": input, "output_tokens": output,
            "cache_read_input_tokens": cache_read, "cache_creation_input_tokens": cache_write,
        });
        self
    }

    fn new(act: Act) -> Reply {
        Reply { act, usage: Value::Null, headers: String::new(), is_cut: false }.usage(100, 20, 0, 0)
    }
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Path and query.
    pub path: String,
    /// The body, or null where it was not JSON.
    pub body: Value,
    /// Length of the body.
    pub bytes: usize,
    /// All header lines.
    pub headers: String,
}

/// A running server. It ends, with all its connections, when it is dropped.
pub struct ModelServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    replies: Vec<Reply>,
    side: Option<(String, Reply)>,
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    requests: Vec<Recorded>,
    answered: usize,
    connections: Vec<TcpStream>,
    stopped: bool,
}

impl ModelServer {
    /// Listens on a free port and answers from a thread of its own.
    pub fn start(replies: Vec<Reply>) -> ModelServer {
        ModelServer::begin(replies, None)
    }

    /// The same, but a request that holds these words is answered beside the script, and not noted: a CLI may ask for
    /// a title of its own.
    pub fn start_beside(replies: Vec<Reply>, words: &str, reply: Reply) -> ModelServer {
        ModelServer::begin(replies, Some((words.to_owned(), reply)))
    }

    fn begin(replies: Vec<Reply>, side: Option<(String, Reply)>) -> ModelServer {
        assert!(!replies.is_empty(), "a script needs a reply");
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { replies, side, state: Mutex::default(), arrived: Condvar::new() });
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.accept(&listener)
        });
        ModelServer { address, shared, thread: Some(thread) }
    }

    /// What a client takes as the base address, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.lock().requests.clone()
    }

    /// Waits until `count` requests came in, or panics: a test waits for this, not for time to pass.
    pub fn wait_for_requests(&self, count: usize) {
        let missing = |state: &mut State| state.requests.len() < count;
        let deadline = Duration::from_secs(30);
        let (state, late) =
            self.shared.arrived.wait_timeout_while(self.shared.lock(), deadline, missing).unwrap();
        assert!(!late.timed_out(), "{} of {count} requests after {deadline:?}", state.requests.len());
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.stopped = true;
            for connection in &state.connections {
                ignore(connection.shutdown(Shutdown::Both));
            }
        }
        // The thread may be waiting for a client: be one.
        ignore(TcpStream::connect(self.address).map(drop));
        if let Some(thread) = self.thread.take() {
            ignore(thread.join());
        }
    }
}

/// The client may go away at any time, and a test that fails must not fail a second time while it is cleaned up.
fn ignore<E>(_: Result<(), E>) {}

impl Shared {
    /// A test that panicked with the lock in hand left nothing half done here.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn accept(&self, listener: &TcpListener) {
        // The scope ends when each connection has: nothing of a server outlives its drop.
        thread::scope(|scope| {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut state = self.lock();
                if state.stopped {
                    return;
                }
                state.connections.extend(stream.try_clone());
                drop(state);
                scope.spawn(move || {
                    ignore(self.serve(&stream));
                    // The clone kept for `drop` would hold the connection open.
                    ignore(stream.shutdown(Shutdown::Both));
                });
            }
        });
    }

    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        let Some((method, recorded)) = read_request(stream)? else { return Ok(()) };
        let form = Form::of(&recorded.path).filter(|_| method == "POST");
        let reply = self.record(recorded.clone(), form.is_some());
        let (Some(reply), Some(form)) = (reply, form) else {
            return respond(stream, 404, "application/json", "", r#"{"type":"error"}"#);
        };
        let answer = |code, kind, body: &str| respond(stream, code, kind, &reply.headers, body);
        match &reply.act {
            Act::Message(block, stop) if recorded.body["stream"] == true => {
                let events = form.events(&recorded.body["model"], block, stop, &reply.usage);
                match reply.is_cut {
                    true => cut_off(stream, &events),
                    false => answer(200, "text/event-stream", &events),
                }
            }
            Act::Message(block, stop) => {
                let whole = form.whole(&recorded.body["model"], block, stop, &reply.usage);
                answer(200, "application/json", &whole.to_string())
            }
            Act::Status(code, body) => answer(*code, "application/json", body),
            Act::Html => answer(200, "text/html", "<html><body>please log in</body></html>"),
            Act::Drop => Ok(()),
            Act::Hang => io::copy(&mut &*stream, &mut io::sink()).map(drop),
        }
    }

    /// Notes the request, and takes the next reply if it is a call of the model.
    fn record(&self, recorded: Recorded, is_call: bool) -> Option<Reply> {
        if let Some((words, reply)) = &self.side
            && recorded.body.to_string().contains(words)
        {
            return is_call.then(|| reply.clone());
        }
        let mut state = self.lock();
        state.requests.push(recorded);
        self.arrived.notify_all();
        if !is_call {
            return None;
        }
        let next = state.answered.min(self.replies.len() - 1);
        state.answered += 1;
        let mut reply = self.replies[next].clone();
        if let Act::Message(block, "tool_use") = &mut reply.act {
            // A CLI tells its calls apart by their ids.
            block["id"] = format!("toolu_{}", state.answered).into();
        }
        Some(reply)
    }
}

/// `None` where the client closed without a word.
fn read_request(stream: &TcpStream) -> io::Result<Option<(String, Recorded)>> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
    let (mut length, mut headers) = (0, String::new());
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.split_once(':') else { break };
        headers.push_str(&header);
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Ok(Some((method, Recorded { path, body: json, bytes: length, headers })))
}

fn respond(mut stream: &TcpStream, code: u16, kind: &str, headers: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {code} scripted\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n{headers}connection: close\r\n\r\n{body}"
    )
}

/// Sends the first half of a stream in an orderly way and never the rest.
fn cut_off(mut stream: &TcpStream, events: &str) -> io::Result<()> {
    let half = events[..events.len() / 2].rfind("\n\n").map_or(0, |end| end + 2);
    let (part, length) = (&events[..half], half);
    write!(
        stream,
        "HTTP/1.1 200 scripted\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n{length:x}\r\n{part}\r\n0\r\n\r\n"
    )
}

/// One request with a client that knows nothing: what comes back, whole.
fn post(server: &ModelServer, path: &str, body: &Value) -> String {
    let mut client = send(server, path, body);
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

fn send(server: &ModelServer, path: &str, body: &Value) -> TcpStream {
    let mut client = TcpStream::connect(server.address).unwrap();
    let body = body.to_string();
    write!(client, "POST {path} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    client
}

#[test]
fn replies_go_out_in_order_and_the_last_repeats() {
    let script = vec![Reply::status(429, r#"{"slow":"down"}"#), Reply::text("häh?").usage(1, 2, 3, 4)];
    let server = ModelServer::start(script);
    let call = |body| post(&server, "/v1/messages?beta=true", &body);

    let refused = call(json!({"n": 1}));
    assert!(refused.starts_with("HTTP/1.1 429 ") && refused.ends_with(r#"{"slow":"down"}"#), "{refused}");

    let whole = call(json!({"n": 2, "model": "m"}));
    let (_, whole) = whole.split_once("\r\n\r\n").unwrap();
    let whole: Value = serde_json::from_str(whole).unwrap();
    assert_eq!(whole["content"][0]["text"], "häh?");
    assert_eq!(whole["usage"]["cache_read_input_tokens"], 3);

    let streamed = call(json!({"n": 3, "stream": true}));
    assert!(streamed.contains("event: message_start\n") && streamed.ends_with("}\n\n"), "{streamed}");

    let elsewhere = post(&server, "/v1/models", &json!({}));
    assert!(elsewhere.starts_with("HTTP/1.1 404 "), "{elsewhere}");

    let seen: Vec<Value> = server.requests().iter().map(|request| request.body["n"].clone()).collect();
    assert_eq!(seen, [json!(1), json!(2), json!(3), Value::Null]);
    assert_eq!(server.requests()[0].path, "/v1/messages?beta=true");
    assert_eq!(server.requests()[0].bytes, r#"{"n":1}"#.len());
}

#[test]
fn a_hanging_reply_ends_with_the_server() {
    let server = ModelServer::start(vec![Reply::hang()]);
    let mut client = send(&server, "/v1/messages", &json!({}));
    server.wait_for_requests(1);
    drop(server);
    let mut answer = Vec::new();
    // The end may come as an orderly close or as a reset; what counts is that it comes, and without an answer.
    ignore(client.read_to_end(&mut answer).map(drop));
    assert!(answer.is_empty());
}
