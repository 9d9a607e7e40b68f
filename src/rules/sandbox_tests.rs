//! Tests of sandbox levels: which machine isolates which network, and what the spec of a sandbox reports.

use super::*;

/// The engine of a machine: none, bubblewrap, or bubblewrap with pasta.
fn engine(bwrap: bool, pasta: bool) -> Option<Engine> {
    bwrap.then(|| Engine {
        bubblewrap: "/usr/bin/bwrap".into(),
        pasta: pasta.then(|| "/usr/bin/pasta".into()),
    })
}

fn capabilities(bwrap: bool, pasta: bool, landlock: u8, filter: bool) -> Capabilities {
    let missing = vec!["no bwrap".to_owned()];
    Capabilities { engine: engine(bwrap, pasta), landlock, filter, missing, ..Capabilities::default() }
}

fn asks(mode: SandboxMode, net: NetworkAccess) -> SandboxRequest {
    SandboxRequest { mode, net }
}

/// The level of a worker by the rules in the documentation, written independently of the code.
fn documented(bwrap: bool, pasta: bool, landlock: u8, filter: bool, net: &NetworkAccess) -> Option<Level> {
    let enforced = match net {
        NetworkAccess::Auto => pasta,
        NetworkAccess::On => false,
        NetworkAccess::Off | NetworkAccess::Model => true,
        NetworkAccess::Internet => pasta,
        NetworkAccess::Ports(_) => pasta && landlock >= 4 && filter,
    };
    let can_never = match net {
        NetworkAccess::Ports(_) => landlock < 4 || !filter,
        NetworkAccess::Off => !bwrap && (landlock == 0 || !filter),
        _ => false,
    };
    match (bwrap, enforced) {
        _ if can_never => None,
        (true, true) => Some(Level::Full),
        (true, false) => Some(Level::Partial),
        (false, _) if landlock > 0 => Some(Level::Partial),
        _ => Some(Level::None),
    }
}

#[test]
fn the_level_of_a_worker_on_each_machine_and_for_each_network() {
    let networks = [
        NetworkAccess::Auto,
        NetworkAccess::On,
        NetworkAccess::Internet,
        NetworkAccess::Model,
        NetworkAccess::Off,
        NetworkAccess::Ports(vec![443]),
    ];
    let both = [true, false];
    let mut rows = 0;
    for (bwrap, pasta) in [(true, true), (true, false), (false, false)] {
        for (landlock, filter) in (0..=7).flat_map(|version| both.map(|filter| (version, filter))) {
            for net in &networks {
                let machine = capabilities(bwrap, pasta, landlock, filter);
                let row = format!("{machine:?}, {net:?}");
                let expected = documented(bwrap, pasta, landlock, filter, net);
                let auto = machine.grant(SandboxSubject::Worker, &asks(SandboxMode::Auto, net.clone()));
                assert_eq!(auto.as_ref().ok().map(|grant| grant.level), expected, "{row}");
                let full = machine.grant(SandboxSubject::Worker, &asks(SandboxMode::Full, net.clone()));
                let is_full = expected.filter(|level| *level == Level::Full);
                assert_eq!(full.as_ref().ok().map(|grant| grant.level), is_full, "{row}: {full:?}");
                if let Err(why) = full {
                    assert!(why.contains("sandbox.") && why.contains(" asks for "), "{row}: {why}");
                }
                // A spec records the level that was granted.
                if let Ok(grant) = auto.clone() {
                    let access = Access { net: grant.net, ..Access::default() };
                    let sandbox = Sandbox::new(machine.engine.clone().filter(|_| grant.has_files), access);
                    let recorded = if grant.level == Level::None { Level::None } else { sandbox.level() };
                    assert_eq!(recorded, grant.level, "{row}");
                }
                rows += 1;
            }
        }
    }
    assert_eq!(rows, 3 * 8 * 2 * 6);
}

#[test]
fn each_kind_has_the_network_that_it_needs_by_default() {
    let machine = capabilities(true, true, 7, true);
    let rows = [
        (SandboxSubject::Decide, Net::On, Level::Partial, true),
        (SandboxSubject::Sensor, Net::On, Level::Partial, false),
        (SandboxSubject::Run, Net::On, Level::Partial, true),
        (SandboxSubject::Verify, Net::Off, Level::Full, true),
        (SandboxSubject::Worker, Net::Internet, Level::Full, true),
        (SandboxSubject::Fix, Net::Internet, Level::Full, true),
    ];
    for (kind, net, level, has_files) in rows {
        let grant = machine.grant(kind, &SandboxRequest::default()).unwrap();
        assert_eq!((&grant.net, grant.level, grant.has_files), (&net, level, has_files), "{kind:?}");
        // `full` is a guarantee, and the network default follows it.
        let with = |mode| machine.grant(kind, &asks(mode, NetworkAccess::Auto)).unwrap();
        assert_eq!(with(SandboxMode::Full).level, Level::Full, "{kind:?}");
        let partial = with(SandboxMode::Partial);
        assert_eq!((partial.level, partial.has_files), (Level::Partial, false), "{kind:?}");
        assert_eq!(with(SandboxMode::None).level, Level::None, "{kind:?}");
    }
}

#[test]
fn full_with_the_machines_network_is_refused_with_a_hint() {
    let full = asks(SandboxMode::Full, NetworkAccess::On);
    let why = capabilities(true, true, 7, true).grant(SandboxSubject::Run, &full).unwrap_err();
    assert!(why.contains("sandbox.run") && why.contains("\"internet\""), "{why}");
    let why = capabilities(false, false, 7, true).grant(SandboxSubject::Run, &full).unwrap_err();
    assert!(why.contains("no bwrap"), "{why}");
}

#[test]
fn a_check_runs_without_network_isolation_unless_a_guarantee_was_requested() {
    let machine = capabilities(false, false, 1, false);
    assert!(machine.grant(SandboxSubject::Worker, &asks(SandboxMode::Auto, NetworkAccess::Off)).is_err());
    assert!(machine.grant(SandboxSubject::Verify, &asks(SandboxMode::Auto, NetworkAccess::Off)).is_ok());
    assert!(machine.grant(SandboxSubject::Verify, &asks(SandboxMode::Partial, NetworkAccess::Off)).is_err());
}

#[test]
fn an_endpoint_is_read_from_an_url() {
    let rows = [
        ("http://127.0.0.1:11434/v1", Some(("127.0.0.1", 11434, true))),
        ("https://api.example.com", Some(("api.example.com", 443, false))),
        ("http://LOCALHOST/x?y", Some(("localhost", 80, true))),
        ("https://[::1]:8443/", Some(("::1", 8443, true))),
        ("https://name:word@host.example:1/a@b", Some(("host.example", 1, false))),
        ("ftp://a", None),
        ("http://", None),
        ("http://a:0/", None),
        ("http://a:99999/", None),
        ("http://a b/", None),
        ("http://a\n127.0.0.1 b/", None),
    ];
    for (url, expected) in rows {
        let found = Endpoint::of_url(url);
        let found = found.as_ref().map(|at| (at.host.as_str(), at.port, at.is_loopback()));
        assert_eq!(found, expected, "{url}");
    }
}

#[test]
fn sandbox_specs_of_earlier_versions_are_read() {
    for engine in [r#"{"bubblewrap":"/usr/bin/bwrap"}"#, r#"{"unshare":"/usr/bin/unshare"}"#] {
        let text = format!(r#"{{"engine":{engine},"walls":{{"read":["/usr"],"net":"off"}}}}"#);
        let sandbox: Sandbox = serde_json::from_str(&text).unwrap();
        assert_eq!((sandbox.level(), sandbox.landlock), (Level::Full, u8::MAX), "{text}");
    }
    let text = r#"{"engine":null,"walls":{"whole":true,"moved":[["/a","/b"]],"layered":[["/c","/d"]],
        "hide":["/e"],"placed":[["/f","/g"]]}}"#;
    let access = serde_json::from_str::<Sandbox>(text).unwrap().access;
    let pair = |one: &str, other: &str| vec![(PathBuf::from(one), PathBuf::from(other))];
    assert!(access.allow_all && access.masks == [PathBuf::from("/e")]);
    assert_eq!((access.binds, access.overlays), (pair("/a", "/b"), pair("/c", "/d")));
    assert_eq!(access.read_only_binds, pair("/f", "/g"));
    let text = r#"{"engine":null,"landlock":6,"filter":true,"layers":true,"missing":[],"fixes":[]}"#;
    assert!(serde_json::from_str::<Capabilities>(text).unwrap().overlays);
}
