//! The network of sandboxes: all of it, none, or some ports, in full and in partial ones; and the loopback of a check.

use std::net::{TcpListener, UdpSocket};

use serde_json::json;

use crate::support::pi::skipped;
use crate::support::profile::{NOOP, Profile, has_bwrap};

/// What a child finds of the machine's network: one TCP port, another one, and whether a datagram arrived.
type Found = [bool; 3];

struct Machine {
    tcp: [TcpListener; 2],
    udp: UdpSocket,
}

impl Machine {
    fn new() -> Machine {
        let tcp = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.set_nonblocking(true).unwrap();
        Machine { tcp, udp }
    }

    fn port(&self, which: usize) -> u16 {
        self.tcp[which].local_addr().unwrap().port()
    }

    /// The shell line that tries all of it.
    fn line(&self) -> String {
        let [one, two] = [0, 1].map(|which| self.port(which));
        let udp = self.udp.local_addr().unwrap().port();
        format!(
            "for p in {one} {two}; do (exec 3<>/dev/tcp/127.0.0.1/$p) 2>/dev/null && echo \"@$p:yes\"; done; \
             (echo x >/dev/udp/127.0.0.1/{udp}) 2>/dev/null; echo tried"
        )
    }

    fn found(&self, printed: &str) -> Found {
        assert!(printed.contains("tried"), "{printed}");
        let tcp = [0, 1].map(|which| printed.contains(&format!("@{}:yes", self.port(which))));
        [tcp[0], tcp[1], self.udp.recv(&mut [0; 8]).is_ok()]
    }
}

#[test]
#[ignore = "slow"]
fn a_box_has_the_network_that_the_config_says() {
    if !has_bwrap() {
        return skipped("missing: bwrap");
    }
    for level in ["auto", "partial", "full"] {
        let machine = Machine::new();
        let is_full = level == "full";
        for (net, expected) in [
            (json!("on"), [true; 3]),
            (json!("off"), [false; 3]),
            // A port in a full sandbox is one of the internet: this machine's own services are not there.
            (json!([machine.port(0)]), [!is_full && level != "auto", false, false]),
            (json!("internet"), [level == "partial", level == "partial", level == "partial"]),
        ] {
            if is_full && net == "on" {
                continue;
            }
            let profile = Profile::scripted(&[NOOP]);
            profile.config_more(json!({
                "sandbox": { "worker": level, "verify": "full", "network": { "worker": net } },
                "verify": { "tries": ["bash", "-c", machine.line()] },
            }));
            let args = ["worker", "start", "w1", "--verify", "tries", "--", "bash", "-c"];
            profile.looop(&[&args[..], &[&machine.line()]].concat()).ok();
            let row = profile.wait_worker("w1", &["exited", "done", "failed"]);
            let printed = profile.looop(&["logs", "--raw", "w1"]).ok().stdout;
            assert_eq!(machine.found(&printed), expected, "{level} {net}: {printed}");
            // Whatever the worker has, the check of its work has none.
            let tail = row["verify"]["tail"].as_str().unwrap();
            assert_eq!(machine.found(tail), [false; 3], "{level} {net}: {tail}");
        }
    }
}

#[test]
fn a_check_in_a_full_box_has_a_loopback_of_its_own() {
    if !has_bwrap() || !std::path::Path::new("/usr/bin/python3").exists() {
        return skipped("missing: bwrap or python3");
    }
    let serves = "import socket\ns = socket.create_server(('127.0.0.1', 0))\nc = socket.create_connection(s.getsockname())\nprint('served')";
    let profile = Profile::scripted(&[NOOP]);
    profile.config_more(json!({ "verify": { "serves": ["/usr/bin/python3", "-c", serves] } }));
    profile.looop(&["worker", "start", "w1", "--verify", "serves", "--", "true"]).ok();
    let row = profile.wait_worker("w1", &["exited", "done", "failed"]);
    assert_eq!(row["state"], "done", "{row}");
}

#[test]
fn the_docs_say_what_reaches_the_loopback_of_this_machine() {
    for (page, words) in [
        ("trust", "**This machine's loopback**, for what has the network `on`"),
        ("sandbox", "A worker with `\"on\"` reaches every service of this machine's loopback"),
    ] {
        let path = format!("{}/docs/{page}.md", env!("CARGO_MANIFEST_DIR"));
        assert!(std::fs::read_to_string(path).unwrap().contains(words), "{page}: {words}");
    }
}
