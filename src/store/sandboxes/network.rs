//! Name resolution inside a sandbox: its endpoint, and a name server that it can reach.

use std::fs;
use std::path::{Path, PathBuf};

use crate::rules::sandbox::{Access, Endpoint, Net, SandboxSubject};
use crate::sandbox::RESOLVER;
use crate::store::file::{self, Durability};

/// The system's list of host names, and its list of name servers.
const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Forwards the endpoint of the sandbox's runner. If the endpoint has a host name, the sandbox resolves it to its own
/// loopback, where the relay listens.
pub(super) fn forward(
    access: &mut Access,
    kind: SandboxSubject,
    endpoint: Option<&Endpoint>,
    cache: &Path,
) -> Result<(), String> {
    let is_model = access.net == Net::Off;
    let Some(endpoint) = endpoint else {
        let unknown = format!(
            "sandbox.network.{kind} is \"model\", but the address of its runner's model is unknown; set `runners.NAME.base_url` in the config, also where a variable of the program names it"
        );
        return if is_model { Err(unknown) } else { Ok(()) };
    };
    if is_model && endpoint.address().is_none() {
        let text = format!("127.0.0.1 localhost {0}\n::1 localhost {0}\n", endpoint.host);
        let placed = place(&cache.join(format!("hosts-{}", endpoint.host)), &text)?;
        access.read_only_binds.push((placed, real(HOSTS)?));
    }
    if is_model || endpoint.is_loopback() {
        access.forward.push(endpoint.clone());
    }
    Ok(())
}

/// Name servers for a sandbox with the internet, when this machine's are on its loopback: `[source, target]`.
pub(super) fn resolver(cache: &Path) -> Result<Option<(PathBuf, PathBuf)>, String> {
    let Ok(text) = fs::read_to_string(RESOLV_CONF) else { return Ok(None) };
    let Some(inside) = resolver_text(&text) else { return Ok(None) };
    Ok(Some((place(&cache.join("resolv.conf"), &inside)?, real(RESOLV_CONF)?)))
}

/// Returns the same file with a name server that is reachable; `None` if every name server already is.
fn resolver_text(text: &str) -> Option<String> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let address = (words.next() == Some("nameserver")).then(|| words.next()).flatten()?;
        Some(address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback()))
    };
    text.lines().any(|line| server(line) == Some(true)).then(|| {
        let rest = text.lines().filter(|line| server(line).is_none()).map(|line| format!("{line}\n"));
        format!("nameserver {RESOLVER}\n{}", rest.collect::<String>())
    })
}

fn real(path: &str) -> Result<PathBuf, String> {
    fs::canonicalize(path).map_err(|error| format!("could not find `{path}`: {error}"))
}

/// Writes a file of the cache, unless it already has this content.
fn place(file: &Path, text: &str) -> Result<PathBuf, String> {
    if fs::read(file).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(file.to_owned());
    }
    let made = file.parent().map_or(Ok(()), file::make_dir);
    made.and_then(|()| file::write(file, text.as_bytes(), 0o644, Durability::Atomic))
        .map_err(|error| format!("{error:#}"))?;
    Ok(file.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_server_on_the_loopback_is_replaced_by_a_reachable_one() {
        for local in ["127.0.0.53", "127.0.0.1", "::1", "127.0.0.11"] {
            let text = format!("# made by x\nnameserver {local}\nsearch lan\noptions edns0\n");
            let inside = resolver_text(&text).unwrap();
            assert_eq!(inside, format!("nameserver {RESOLVER}\n# made by x\nsearch lan\noptions edns0\n"));
        }
        assert_eq!(resolver_text("nameserver 192.0.2.1\nsearch lan\n"), None);
        assert_eq!(resolver_text("#nameserver 127.0.0.1\n"), None);
    }

    #[test]
    fn a_model_is_forwarded_and_its_name_resolves_to_the_relay() {
        let dir = tempfile::tempdir().unwrap();
        let url = |url: &str| Endpoint::of_url(url).unwrap();
        let mut access = Access { net: Net::Off, ..Access::default() };
        let named = url("https://model.example:444/v1");
        forward(&mut access, SandboxSubject::Worker, Some(&named), dir.path()).unwrap();
        assert_eq!(access.forward, std::slice::from_ref(&named));
        let hosts = fs::read_to_string(&access.read_only_binds[0].0).unwrap();
        assert!(hosts.contains("127.0.0.1 localhost model.example\n"), "{hosts}");
        // With internet access, only an address on this machine's loopback needs forwarding.
        let mut access = Access { net: Net::Internet, ..Access::default() };
        forward(&mut access, SandboxSubject::Worker, Some(&named), dir.path()).unwrap();
        assert_eq!((access.forward.len(), access.read_only_binds.len()), (0, 0));
        let local = url("http://127.0.0.1:11434");
        forward(&mut access, SandboxSubject::Worker, Some(&local), dir.path()).unwrap();
        assert_eq!(access.forward, [local]);
        let mut access = Access { net: Net::Off, ..Access::default() };
        let why = forward(&mut access, SandboxSubject::Worker, None, dir.path()).unwrap_err();
        assert!(why.contains("sandbox.network.worker") && why.contains("base_url"), "{why}");
    }
}
