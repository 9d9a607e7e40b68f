//! One request to an endpoint on a thread of its own, so that the caller hears an interruption while it waits.

use std::io::Read;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use ureq::Agent;
use ureq::http::{Response, Uri};

use crate::model::failing::Class;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How many pieces of a body wait to be read.
const QUEUE: usize = 16;

/// What a request is sent with.
pub struct Request {
    /// Where to.
    pub url: String,
    /// Header names and values.
    pub headers: Vec<(&'static str, String)>,
    /// The body; none: a GET.
    pub body: Option<Vec<u8>>,
    /// The deadline of all of it.
    pub deadline: Duration,
    /// How long nothing may come.
    pub idle: Duration,
}

/// What comes back, in this order: a head, pieces of the body, an end. Or trouble at any point.
pub enum Event {
    /// Status, `retry-after` in its own words, `content-type`.
    Head {
        /// The HTTP status.
        status: u16,
        /// What the header says.
        retry_after: Option<String>,
        /// What the header says.
        content_type: String,
    },
    /// The next bytes.
    Piece(Vec<u8>),
    /// The body ended as it should.
    End,
    /// It broke off.
    Broken(Class, String),
}

/// Sends a request. The thread ends with the answer, at the deadline, or when nobody listens any more.
pub fn send(request: Request) -> Receiver<Event> {
    let (sender, receiver) = sync_channel(QUEUE);
    std::thread::spawn(move || {
        if let Err(error) = talk(request, &sender) {
            let (class, why) = words(&error);
            // Who has gone needs no news.
            drop(sender.send(Event::Broken(class, why)));
        }
    });
    receiver
}

fn talk(request: Request, to: &SyncSender<Event>) -> Result<(), ureq::Error> {
    let agent = agent(&request);
    let response = match request.body {
        None => {
            let mut get = agent.get(&request.url);
            for (name, value) in request.headers {
                get = get.header(name, value);
            }
            get.call()?
        }
        Some(body) => {
            let mut post = agent.post(&request.url);
            for (name, value) in request.headers {
                post = post.header(name, value);
            }
            post.send(&body[..])?
        }
    };
    if to.send(head(&response)).is_err() {
        return Ok(());
    }
    let mut reader = response.into_body().into_reader();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let event = match reader.read(&mut buffer)? {
            0 => Event::End,
            bytes => Event::Piece(buffer[..bytes].to_vec()),
        };
        let is_end = matches!(event, Event::End);
        if to.send(event).is_err() || is_end {
            return Ok(());
        }
    }
}

fn agent(request: &Request) -> Agent {
    let uri = request.url.parse::<Uri>().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
    // It fails where it was done before, for an earlier request.
    drop(rustls::crypto::ring::default_provider().install_default());
    let config = Agent::config_builder()
        .http_status_as_error(false)
        // A key is meant for this host alone.
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

fn head<B>(response: &Response<B>) -> Event {
    let header =
        |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    Event::Head {
        status: response.status().as_u16(),
        retry_after: header("retry-after"),
        content_type: header("content-type").unwrap_or_default().to_lowercase(),
    }
}

/// The class of an error of the connection, and its words.
fn words(error: &ureq::Error) -> (Class, String) {
    let text = error.to_string();
    let is_tls = matches!(error, ureq::Error::Tls(_) | ureq::Error::Rustls(_))
        || text.contains("certificate")
        || text.contains("InvalidContentType");
    match error {
        _ if is_tls => (Class::Crashed, format!("TLS failed: {text}")),
        ureq::Error::Timeout(ureq::Timeout::Global) => (Class::Timeout, "its time was up".to_owned()),
        ureq::Error::Timeout(_) => (Class::Transient, format!("nothing came for too long: {text}")),
        ureq::Error::BadUri(_) | ureq::Error::InvalidProxyUrl => (Class::Crashed, text),
        _ => (Class::Transient, format!("the connection failed: {text}")),
    }
}
