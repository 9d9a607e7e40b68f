//! One HTTP request on its own thread, so that the caller can react to an interruption while it waits.

use std::io::Read;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use ureq::Agent;
use ureq::http::{Request, Response, Uri};

use crate::rules::beat::failing::Class;

/// The timeout for opening a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// How often an interruption is checked during a wait.
const LOOK: Duration = Duration::from_millis(50);
/// The most pieces of a body that wait to be read.
const QUEUE: usize = 16;

/// A request.
pub struct HttpRequest {
    pub url: String,
    /// Header names and values.
    pub headers: Vec<(&'static str, String)>,
    /// The body; none for a GET.
    pub body: Option<Vec<u8>>,
    /// The timeout of the whole request.
    pub deadline: Duration,
    /// The longest time without data.
    pub idle: Duration,
}

/// An event of a response, in this order: a head, pieces of the body, an end. An error may come at any point.
pub enum HttpEvent {
    /// The status and the headers `retry-after` (unparsed) and `content-type`.
    Head {
        /// The HTTP status.
        status: u16,
        retry_after: Option<String>,
        content_type: String,
    },
    /// The next bytes.
    Piece(Vec<u8>),
    /// The body is complete.
    End,
    /// The request failed.
    Broken(Class, String),
}

/// Sends a request. The thread ends with the response, at the timeout, or when the receiver is dropped.
pub fn send(request: HttpRequest) -> Receiver<HttpEvent> {
    let (sender, receiver) = sync_channel(QUEUE);
    std::thread::spawn(move || {
        if let Err(error) = talk(request, &sender) {
            let (class, why) = words(&error);
            // If the receiver is gone, the error concerns no one.
            drop(sender.send(HttpEvent::Broken(class, why)));
        }
    });
    receiver
}

/// Waits for the next event. Meanwhile `look` is called repeatedly; its error ends the wait.
pub fn next<E>(
    events: &Receiver<HttpEvent>,
    look: &mut dyn FnMut() -> Result<(), E>,
) -> Result<HttpEvent, E> {
    loop {
        match events.recv_timeout(LOOK) {
            Ok(event) => return Ok(event),
            Err(RecvTimeoutError::Disconnected) => {
                return Ok(HttpEvent::Broken(Class::Transient, "the connection was lost".to_owned()));
            }
            Err(RecvTimeoutError::Timeout) => look()?,
        }
    }
}

fn talk(request: HttpRequest, to: &SyncSender<HttpEvent>) -> Result<(), ureq::Error> {
    let agent = agent(&request);
    let mut builder = Request::builder().uri(&request.url);
    for (name, value) in request.headers {
        builder = builder.header(name, value);
    }
    let response = match request.body {
        None => agent.run(builder.body(())?)?,
        Some(body) => agent.run(builder.method("POST").body(body)?)?,
    };
    if to.send(head(&response)).is_err() {
        return Ok(());
    }
    let mut reader = response.into_body().into_reader();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let event = match reader.read(&mut buffer)? {
            0 => HttpEvent::End,
            bytes => HttpEvent::Piece(buffer[..bytes].to_vec()),
        };
        let is_end = matches!(event, HttpEvent::End);
        if to.send(event).is_err() || is_end {
            return Ok(());
        }
    }
}

fn agent(request: &HttpRequest) -> Agent {
    let uri = request.url.parse::<Uri>().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
    // It fails if an earlier request has installed it already.
    drop(rustls::crypto::ring::default_provider().install_default());
    let config = Agent::config_builder()
        .http_status_as_error(false)
        // The key belongs to this host only.
        .max_redirects(0)
        .timeout_global(Some(request.deadline))
        .timeout_connect(Some(CONNECT.min(request.deadline)))
        .timeout_per_read(Some(request.idle))
        .user_agent(concat!("looop/", env!("CARGO_PKG_VERSION")))
        .tls_config(
            ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::PlatformVerifier).build(),
        );
    let is_here = matches!(host, "localhost" | "127.0.0.1" | "[::1]" | "::1");
    let config = if is_here { config.proxy(None) } else { config };
    config.build().new_agent()
}

fn head<B>(response: &Response<B>) -> HttpEvent {
    let header =
        |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    HttpEvent::Head {
        status: response.status().as_u16(),
        retry_after: header("retry-after"),
        content_type: header("content-type").unwrap_or_default().to_lowercase(),
    }
}

/// The class and the text of a connection error.
fn words(error: &ureq::Error) -> (Class, String) {
    let text = error.to_string();
    let is_tls = matches!(error, ureq::Error::Tls(_) | ureq::Error::Rustls(_))
        || text.contains("certificate")
        || text.contains("InvalidContentType");
    match error {
        _ if is_tls => (Class::Crashed, format!("TLS failed: {text}")),
        ureq::Error::Timeout(ureq::Timeout::Global) => (Class::Timeout, "the request timed out".to_owned()),
        ureq::Error::Timeout(_) => (Class::Transient, format!("no data came for too long: {text}")),
        ureq::Error::BadUri(_) | ureq::Error::InvalidProxyUrl => (Class::Crashed, text),
        _ => (Class::Transient, format!("the connection failed: {text}")),
    }
}
