//! Asking an `http://` address whether it is well. No more than its status is read.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The status that a GET of an `http://` address is answered with.
///
/// # Errors
/// Says why there is none.
pub fn get(url: &str) -> Result<u16, String> {
    let rest = url.strip_prefix("http://").ok_or("only http:// addresses can be asked")?;
    let (host, path) =
        rest.split_once('/').map_or((rest, String::new()), |(host, path)| (host, path.to_owned()));
    let with_port = if host.rsplit(']').next().is_some_and(|end| end.contains(':')) {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let address =
        with_port.to_socket_addrs().map_err(|error| error.to_string())?.next().ok_or("it has no address")?;
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        write!(stream, "GET /{path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
        let mut head = [0_u8; 64];
        let mut length = 0;
        while length < 12 {
            match stream.read(&mut head[length..])? {
                0 => break,
                more => length += more,
            }
        }
        Ok(String::from_utf8_lossy(&head[..length]).into_owned())
    };
    let head = ask().map_err(|error| error.to_string())?;
    let status = head.strip_prefix("HTTP/").and_then(|rest| rest.split(' ').nth(1)?.get(..3)?.parse().ok());
    status.ok_or_else(|| "it does not speak HTTP".to_owned())
}
