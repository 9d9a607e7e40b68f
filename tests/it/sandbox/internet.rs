//! The internet and the model of a sandbox, on a machine that the test makes: a network namespace that stands for the machine,
//! and another one for the outside. No packet leaves the real machine.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::json;

use crate::support::pi::skipped;
use crate::support::profile::{LOOOP, NOOP, Profile, Ran};

/// The services of the machine: on its loopback, by TCP and UDP and by an abstract socket, a name server there, and a model.
const MACHINE: &str = r#"
import os, socket, sys, threading
place = sys.argv[1]
def tcp(host, port, word, family=socket.AF_INET):
    s = socket.socket(family); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind((host, port)); s.listen()
    def serve():
        while True:
            c, _ = s.accept(); c.sendall(word); c.close()
    threading.Thread(target=serve, daemon=True).start()
def udp(family, host, port, file):
    s = socket.socket(family, socket.SOCK_DGRAM); s.bind((host, port))
    def serve():
        while True:
            data, _ = s.recvfrom(512); open(os.path.join(place, file), "ab").write(data)
    threading.Thread(target=serve, daemon=True).start()
def names():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.53", 53))
    while True:
        q, peer = s.recvfrom(512)
        end = 12
        while q[end]: end += q[end] + 1
        kind = int.from_bytes(q[end + 1:end + 3], "big")
        head = q[:2] + b"\x81\x80\x00\x01" + (b"\x00\x01" if kind == 1 else b"\x00\x00") + b"\x00\x00\x00\x00" + q[12:end + 5]
        answer = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04" + bytes([10, 77, 0, 2]) if kind == 1 else b""
        s.sendto(head + answer, peer)
tcp("127.0.0.1", 9001, b"loopback"); tcp("::1", 9001, b"loopback", socket.AF_INET6)
tcp("127.0.0.1", 9100, b"model")
udp(socket.AF_INET, "127.0.0.1", 9002, "udp4"); udp(socket.AF_INET6, "::1", 9002, "udp6")
a = socket.socket(socket.AF_UNIX); a.bind("\0looop-test-machine"); a.listen()
threading.Thread(target=names, daemon=True).start()
open(os.path.join(place, "machine-up"), "w").close()
threading.Event().wait()
"#;

/// A server of the outside.
const OUTSIDE: &str = r#"
import os, socket, sys
s = socket.socket(); s.bind(("10.77.0.2", 8080)); s.listen()
open(os.path.join(sys.argv[1], "outside-up"), "w").close()
while True:
    c, _ = s.accept(); c.sendall(b"outside"); c.close()
"#;

/// What a worker tries; it prints each thing that it reached.
const TRIES: &str = r#"
import socket
def reach(name, host, port, family=socket.AF_INET):
    s = socket.socket(family); s.settimeout(3)
    try:
        s.connect((host, port)); word = s.recv(64).decode()
        print("@%s:%s@" % (name, word))
    except OSError as e: print(name, e)
def send(family, host):
    try: socket.socket(family, socket.SOCK_DGRAM).sendto(b"x", (host, 9002))
    except OSError as e: print("udp", host, e)
reach("outside", "10.77.0.2", 8080)
try: reach("name", socket.gethostbyname("outside.example"), 8080)
except OSError as e: print("name", e)
reach("v4", "127.0.0.1", 9001)
reach("v6", "::1", 9001, socket.AF_INET6)
reach("gateway", "10.77.0.2", 9001)
reach("own", "10.77.0.1", 9001)
reach("model", "127.0.0.1", 9100)
for family, host in [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET, "10.77.0.2"), (socket.AF_INET, "10.77.0.1")]:
    send(family, host)
try: socket.socket(socket.AF_UNIX).connect("\0looop-test-machine"); print("@abstract:yes@")
except OSError as e: print("abstract", e)
print("@tried@")
"#;

/// Makes the machine and the outside, and runs looop there as a user. `P` is the profile's directory, `U` the user's number.
const STAGE: &str = r#"
set -e
ip link set lo up
unshare -n sleep 300 & outside=$!
trap 'kill $outside $servers 2>/dev/null' EXIT
until [ "$(readlink /proc/$outside/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do :; done
ip link add veth0 type veth peer name veth1 netns $outside
ip addr add 10.77.0.1/24 dev veth0; ip link set veth0 up
nsenter -t $outside -n ip link set lo up
nsenter -t $outside -n ip addr add 10.77.0.2/24 dev veth1
nsenter -t $outside -n ip link set veth1 up
ip route add default via 10.77.0.2
mount -t tmpfs none /mnt
mknod /mnt/tun c 10 200 2>/dev/null && chmod 666 /mnt/tun && mount --bind /mnt/tun /dev/net/tun
echo 'nameserver 127.0.0.53' >/mnt/resolv.conf; chmod 644 /mnt/resolv.conf
mount --bind /mnt/resolv.conf "$(readlink -f /etc/resolv.conf)"
/usr/bin/python3 "$P/machine.py" "$P" & servers=$!
nsenter -t $outside -n /usr/bin/python3 "$P/outside.py" "$P" & servers="$servers $!"
until [ -e "$P/machine-up" ] && [ -e "$P/outside-up" ]; do kill -0 $outside; sleep 0.02; done
chown -R "$U:$U" "$P"
as() { if [ "$U" = 0 ]; then "$@"; else setpriv --reuid "$U" --regid "$U" --clear-groups "$@"; fi; }
if [ -n "$V" ]; then
    # What was found here holds in this mount namespace alone.
    as "$LOOOP" doctor >/dev/null || :
    kept=$(find "$P" -name sandbox.json)
    sed -i "s/\"landlock\": *[0-9]*/\"landlock\": $V/" "$kept"; grep -q "\"landlock\": *$V" "$kept"
fi
as "$LOOOP" worker start w1 -- /usr/bin/python3 -c "$TRIES"
until as "$LOOOP" ls --all --json | grep -q '"exit":{'; do sleep 0.05; done
as "$LOOOP" ls --all --json; as "$LOOOP" logs --raw w1
"#;

/// Checks what a worker with this network reaches from a full sandbox.
#[track_caller]
fn reaches(network: &str, model: &str, user: u32, landlock: Option<u8>, expected: &[&str]) {
    let tools =
        [("pasta", "--help"), ("bwrap", "--version"), ("ip", "-V"), ("nsenter", "-V"), ("setpriv", "-V")];
    let is_there = |(tool, flag): &(&str, &str)| Command::new(tool).arg(flag).output().is_ok();
    if !tools.iter().all(is_there)
        || !rustix::process::geteuid().is_root()
        || !Path::new("/dev/net/tun").exists()
    {
        return skipped("not root, or missing: pasta, bwrap, ip, nsenter, setpriv or /dev/net/tun");
    }
    let profile = Profile::scripted(&[NOOP]);
    profile.config_more(json!({
        "sandbox": { "network": { "worker": network } },
        "runners": { "scripted": profile.scripted_runner(), "python3": { "base_url": model } },
    }));
    fs::write(profile.path("machine.py"), MACHINE).unwrap();
    fs::write(profile.path("outside.py"), OUTSIDE).unwrap();
    let mut command = profile.other_command("unshare", &["-n", "-m", "sh", "-c", STAGE]);
    command.env("P", profile.path("").to_str().unwrap().trim_end_matches('/'));
    let version = landlock.map_or(String::new(), |version| version.to_string());
    command.env("V", version).env("U", user.to_string()).env("LOOOP", LOOOP).env("TRIES", TRIES);
    let ran: Ran = command.output().unwrap().into();
    let printed = ran.ok().stdout;
    assert!(printed.contains("@tried@"), "{printed}");
    for file in ["udp4", "udp6"] {
        assert!(!profile.path(file).exists(), "a datagram came to the loopback: {file}: {printed}");
    }
    assert!(printed.contains(r#""sandbox":"full""#), "{network} as {user}: {printed}");
    let words = printed.split('@').filter(|word| word.contains(':') && !word.contains([' ', '\n', '{']));
    let words = Vec::from_iter(BTreeSet::from_iter(words));
    assert_eq!(words, expected, "{network} as {user}");
}

/// A user of this machine that has no special rights.
const USER: u32 = 65_533;

#[test]
#[ignore = "slow"]
fn the_internet_of_a_sandbox_is_the_outside_and_its_names_and_not_the_loopback_of_the_machine() {
    reaches("internet", "http://10.77.0.2:1", 0, None, &["name:outside", "outside:outside"]);
}

#[test]
#[ignore = "slow"]
fn a_plain_user_has_the_same_internet() {
    reaches("internet", "http://10.77.0.2:1", USER, None, &["name:outside", "outside:outside"]);
}

#[test]
#[ignore = "slow"]
fn the_internet_is_the_same_without_landlock() {
    reaches("internet", "http://10.77.0.2:1", USER, Some(0), &["name:outside", "outside:outside"]);
}

#[test]
#[ignore = "slow"]
fn a_model_on_the_loopback_is_reached_besides_the_internet() {
    let expected = ["model:model", "name:outside", "outside:outside"];
    reaches("auto", "http://127.0.0.1:9100/v1", USER, None, &expected);
}

#[test]
fn a_sandbox_with_a_model_reaches_that_and_nothing_else() {
    reaches("model", "http://127.0.0.1:9100/v1", 0, None, &["model:model"]);
    reaches("model", "http://10.77.0.2:8080", USER, None, &["outside:outside"]);
}

#[test]
fn a_model_by_its_name_is_reached_and_no_other_name_is_known() {
    // Its name leads to the relay, which looks it up outside.
    reaches("model", "http://outside.example:8080", USER, Some(0), &["name:outside"]);
}
