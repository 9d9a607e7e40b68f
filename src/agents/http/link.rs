//! HTTP requests on threads of their own, so that the caller can react to an interruption while it waits.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use ureq::http::{Request, Response, Uri};
use ureq::{Agent, Body};

use crate::rules::beat::failing::Class;

/// The timeout for opening a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// How often an interruption is checked during a wait.
const LOOK: Duration = Duration::from_millis(50);
/// The timeout of [`status`].
const STATUS_WAIT: Duration = Duration::from_secs(5);

/// A request.
pub(super) struct HttpRequest {
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

/// The class and the cause of a request that failed.
pub(super) type Broken = (Class, String);

/// The status of a GET of `url`, within five seconds, or why there is none. Meanwhile `poll` is called repeatedly; its
/// error ends the wait.
///
/// # Errors
/// That of `poll`.
pub fn status<E>(url: &str, poll: &dyn Fn() -> Result<(), E>) -> Result<Result<u16, String>, E> {
    let (url, deadline, idle) = (url.to_owned(), STATUS_WAIT, STATUS_WAIT);
    let request = HttpRequest { url, headers: Vec::new(), body: None, deadline, idle };
    let asked = wait_for(|| Ok(send(request)?.status().as_u16()), poll)?;
    Ok(asked.map_err(|(_, why)| why))
}

/// Does the work of a request on a thread of its own. Meanwhile `poll` is called repeatedly; its error ends the wait.
pub(super) fn wait_for<T: Send + 'static, E>(
    work: impl FnOnce() -> Result<T, Broken> + Send + 'static,
    poll: &dyn Fn() -> Result<(), E>,
) -> Result<Result<T, Broken>, E> {
    let (sender, receiver) = sync_channel(1);
    // If the receiver is gone, the result concerns no one.
    std::thread::spawn(move || drop(sender.send(work())));
    loop {
        match receiver.recv_timeout(LOOK) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Disconnected) => {
                return Ok(Err((Class::Transient, "the connection was lost".to_owned())));
            }
            Err(RecvTimeoutError::Timeout) => poll()?,
        }
    }
}

/// Sends a request and returns its response, whose body is still to be read.
pub(super) fn send(request: HttpRequest) -> Result<Response<Body>, Broken> {
    let agent = agent(&request);
    let mut builder = Request::builder().uri(&request.url);
    for (name, value) in request.headers {
        builder = builder.header(name, value);
    }
    let sent = match request.body {
        None => builder.body(()).map_err(ureq::Error::from).and_then(|get| agent.run(get)),
        Some(body) => {
            builder.method("POST").body(body).map_err(ureq::Error::from).and_then(|post| agent.run(post))
        }
    };
    sent.map_err(|error| broken(&error))
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

/// The class and the text of a connection error.
pub(super) fn broken(error: &ureq::Error) -> Broken {
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
