//! Clients that say nonsense, nothing, or too much, or that come in crowds.

use std::io::{Read, Write};
use std::{fs, os::unix::fs::PermissionsExt};

use looop::rules::worker::protocol::{
    self, FrameKind, Resize, ViewerState, WireReply, WireRequest, WorkerQuestion,
};

use super::{TmuxFixture, hello, reply, say};
use crate::support::profile::{Profile, wait_until};
use crate::{support::pi::skipped, support::rows::kill};

#[test]
fn garbage_and_lengths_that_cannot_be_are_answered_and_hung_up_on() {
    let terminal = TmuxFixture::start(&[], "sleep 600");
    for socket in ["attach.sock", "worker.sock"] {
        for (bytes, words) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], "cannot begin"),
            (&b"J\xff\xff\xff\xff"[..], "longer than"),
            (&b"J\x02\0\0\0[]"[..], "not a greeting"),
            (&b"D\x01\0\0\0x"[..], "does not belong here"),
            (&protocol::encode(FrameKind::Json, br#"{"looop":1,"request":{"dance":{}}}"#), "dance"),
            (&protocol::encode(FrameKind::Json, "[".repeat(60_000).as_bytes()), "not a greeting"),
        ] {
            let mut stream = terminal.connect(socket);
            stream.write_all(bytes).unwrap();
            let printed = reply(&mut stream);
            assert!(matches!(&printed, WireReply::Error(why) if why.contains(words)), "{words}: {printed:?}");
            assert_eq!(stream.read(&mut [0; 10]).unwrap_or(0), 0, "it hangs up");
        }
        // One that leaves before its answer comes.
        for _ in 0..50 {
            let mut gone = terminal.connect(socket);
            gone.write_all(b"garbage").unwrap();
        }
    }
    assert_eq!(terminal.row()["state"], "running");
}

#[test]
fn each_side_may_ask_only_for_what_is_its_own() {
    let terminal = TmuxFixture::start(&[], "sleep 600");
    for (socket, request, words) in [
        ("worker.sock", WireRequest::Kill, "for the user"),
        ("worker.sock", WireRequest::Attach { cols: 9, rows: 9, view: false }, "for the user"),
        ("attach.sock", WireRequest::Inbox, "for the worker itself"),
        ("attach.sock", WireRequest::Report { name: "x".to_owned() }, "for the worker itself"),
    ] {
        let mut stream = terminal.connect(socket);
        say(&mut stream, request);
        let printed = reply(&mut stream);
        assert!(matches!(&printed, WireReply::Error(why) if why.contains(words)), "{words}: {printed:?}");
    }
    assert_eq!(terminal.row()["state"], "running");
}

#[test]
#[ignore = "slow"]
fn half_a_frame_delays_no_other_client_and_is_dropped() {
    let terminal = TmuxFixture::start(&[], "sleep 600");
    let mut half = terminal.connect("attach.sock");
    half.write_all(b"J\x50\0\0\0{\"looop\"").unwrap();
    let mut other = terminal.connect("attach.sock");
    say(&mut other, WireRequest::Wake);
    assert_eq!(reply(&mut other), WireReply::Ok(String::new()));
    assert_eq!(half.read(&mut [0; 10]).unwrap(), 0, "it is hung up on in the end");
}

#[test]
fn another_version_says_which_side_is_newer() {
    let terminal = TmuxFixture::start(&[], "sleep 600");
    for version in [0, protocol::VERSION + 1] {
        let mut stream = terminal.connect("attach.sock");
        stream.write_all(&hello(version, WireRequest::Kill)).unwrap();
        assert_eq!(reply(&mut stream), WireReply::Version(protocol::VERSION));
    }
    assert_eq!(terminal.row()["state"], "running", "nothing of another version is done");
    // Now the supervisor is the other one: somebody answers in its place.
    terminal.signal("-STOP");
    let socket = terminal.dir().join("attach.sock");
    std::fs::remove_file(&socket).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for (version, words) in [(0, "this looop is newer"), (protocol::VERSION + 1, "supervisor is newer")] {
        let answer = std::thread::spawn({
            let listener = listener.try_clone().unwrap();
            move || {
                listener.accept().unwrap().0.write_all(&protocol::encode_json(&WireReply::Version(version)))
            }
        });
        let ran = terminal.profile.looop(&["unflag", "w1"]);
        assert!(ran.code == 1 && ran.stderr.contains(words), "{version}: {ran:?}");
        answer.join().unwrap().unwrap();
    }
    terminal.signal("-CONT");
}

/// What stands at the path of the socket and answers as a supervisor does, but runs as another user.
#[test]
fn a_supervisor_of_another_user_is_not_spoken_to() {
    if !rustix::process::geteuid().is_root() {
        return skipped("only root can be another user");
    }
    let terminal = TmuxFixture::start(&[], "sleep 600");
    terminal.profile.looop(&["flag", "w1", "mind"]).ok();
    let away = tempfile::tempdir().unwrap();
    fs::set_permissions(away.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let (path, answer) = (away.path().join("sock"), away.path().join("answer"));
    fs::write(&answer, protocol::encode_json(&WireReply::Ok("yes".to_owned()))).unwrap();
    let code = "use IO::Socket::UNIX; my $l = IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 9) or die; \
        chmod 0777, $ARGV[0]; local $/; open(F, $ARGV[1]); my $say = <F>; \
        while (my $c = $l->accept) { print $c $say; close $c }";
    let mut other = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "perl", "-e", code])
        .args([&path, &answer])
        .spawn()
        .unwrap();
    wait_until("it to listen", || {
        fs::metadata(&path).is_ok_and(|meta| meta.permissions().mode() & 0o777 == 0o777)
    });
    let socket = terminal.dir().join("attach.sock");
    fs::rename(&socket, terminal.dir().join("own.sock")).unwrap();
    std::os::unix::fs::symlink(&path, &socket).unwrap();
    let ran = terminal.profile.looop(&["unflag", "w1"]);
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(ran.code == 1 && ran.stderr.contains("ermission"), "{ran:?}");
    fs::rename(terminal.dir().join("own.sock"), &socket).unwrap();
    assert_eq!(terminal.row()["flag"]["text"], "mind");
}

#[test]
#[ignore = "slow"]
fn a_crowd_of_the_workers_clients_does_not_keep_the_user_out() {
    let terminal = TmuxFixture::start(&[], "sleep 600");
    let ask = WireRequest::Ask(WorkerQuestion { text: "which?".to_owned(), ..WorkerQuestion::default() });
    let mut crowd = Vec::new();
    for _ in 0..100 {
        let mut stream = terminal.connect("worker.sock");
        say(&mut stream, ask.clone());
        crowd.push(stream);
    }
    terminal.ask();
    let before = std::time::Instant::now();
    terminal.profile.looop(&["flag", "w1", "mind"]).ok();
    assert!(before.elapsed().as_secs() < 5, "the human had to wait for the crowd");
    assert_eq!(terminal.profile.looop(&["kill", "w1"]).ok().stdout, "w1: killed\n");
}

#[test]
fn two_hundred_clients_at_once_are_all_served() {
    let terminal = TmuxFixture::start(&[], "sleep 600");
    let before = terminal.memory();
    let clients: Vec<_> = (0..200)
        .map(|_| {
            let socket = terminal.dir().join("attach.sock");
            std::thread::spawn(move || {
                let mut stream =
                    looop::os::socket::connect(&socket, std::time::Duration::from_secs(10)).unwrap();
                say(&mut stream, WireRequest::Wake);
                reply(&mut stream)
            })
        })
        .collect();
    for client in clients {
        assert_eq!(client.join().unwrap(), WireReply::Ok(String::new()));
    }
    let after = terminal.memory();
    assert!(after < before + 1024, "{before} kB, then {after} kB");
}

/// The next news that a viewer gets.
fn news(stream: &mut impl Read, decoder: &mut protocol::Decoder) -> ViewerState {
    loop {
        if let Some(frame) = decoder.next_frame().unwrap() {
            return serde_json::from_slice(&frame.payload).unwrap();
        }
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "it hung up");
        decoder.push(&buffer[..count]);
    }
}

#[test]
fn viewers_share_the_smallest_size_and_hear_of_flags() {
    let terminal = TmuxFixture::start(&[], "sleep 600");
    let attach = |cols, rows| {
        let mut stream = terminal.connect("attach.sock");
        say(&mut stream, WireRequest::Attach { cols, rows, view: false });
        stream
    };
    let mut small = attach(40, 50);
    let mut decoder = protocol::Decoder::new(protocol::MAX_REPLY);
    while news(&mut small, &mut decoder).cols != 40 {}
    let mut large = attach(100, 20);
    let mut seen = news(&mut small, &mut decoder);
    while (seen.cols, seen.rows) != (40, 20) {
        seen = news(&mut small, &mut decoder);
    }
    large.write_all(&protocol::encode_json(&Resize { cols: 100, rows: 30 })).unwrap();
    while (seen.cols, seen.rows) != (40, 30) {
        seen = news(&mut small, &mut decoder);
    }
    // The worker prints nothing, so this is all that could tell them.
    terminal.profile.looop(&["flag", "w1", "look"]).ok();
    while seen.flag.is_none() {
        seen = news(&mut small, &mut decoder);
    }
    drop(small);
    let mut decoder = protocol::Decoder::new(protocol::MAX_REPLY);
    while news(&mut large, &mut decoder).cols != 100 {}
}

#[test]
fn a_viewer_that_never_reads_slows_nothing_and_costs_nothing() {
    let script = "stty -opost; touch ready; while [ ! -e go ]; do sleep 0.02; done
        head -c 60000000 /dev/zero; touch done; sleep 600";
    let terminal = TmuxFixture::start(&[], script);
    terminal.wait_file("ready");
    let mut idle = Vec::new();
    for _ in 0..8 {
        let mut stream = terminal.connect("attach.sock");
        say(&mut stream, WireRequest::Attach { cols: 80, rows: 24, view: false });
        idle.push(stream);
    }
    let before = terminal.memory();
    std::fs::write(terminal.file("go"), "").unwrap();
    terminal.wait_file("done");
    wait_until("all of it is written down", || {
        terminal.dir().join("transcript.raw").metadata().unwrap().len() == 60_000_000
    });
    let after = terminal.memory();
    assert!(after < before + 4096, "{before} kB, then {after} kB");
    // The one that goes on reading finds the newest state in the end.
    let mut decoder = protocol::Decoder::new(protocol::MAX_REPLY);
    while news(&mut idle[0], &mut decoder).offset < 60_000_000 {}
}

#[test]
#[ignore = "slow"]
fn a_stale_socket_is_replaced_and_a_long_path_works_for_every_verb() {
    let mut profile = Profile::empty();
    let deep = "a-directory-with-a-long-name/".repeat(8);
    std::fs::create_dir_all(profile.path(&deep)).unwrap();
    let data = profile.path(&deep).join("data");
    profile.var("LOOOP_DATA_DIR", data.to_str().unwrap());
    profile.script(&[super::NOOP]);
    profile.looop(&["init"]).ok();
    let script = r#"
        looop flag "at work"; answer=$(looop ask "go on?"); looop report r.txt <"$LOOOP_BRIEF"
        looop spend --usd 0.1; looop claim thing; looop release thing; looop unflag
        echo "$answer; $(looop inbox)" >out.tmp; mv out.tmp out; sleep 600"#;
    profile.looop(&["worker", "start", "w1", "--", "sh", "-c", script]).ok();
    assert!(data.join("workers/w1/worker.sock").as_os_str().len() > 200);
    let row = || profile.worker("w1");
    wait_until("the question", || row()["ask"].is_string());
    profile.looop(&["tell", "w1", "hello"]).ok();
    profile.looop(&["answer", row()["ask"].as_str().unwrap(), "yes"]).ok();
    let out = data.join("workers/w1/clone/out");
    wait_until("the worker has done all", || out.exists());
    assert_eq!(std::fs::read_to_string(out).unwrap(), "yes; hello\n");
    assert!(data.join("reports/w1/r.txt").exists());
    profile.looop(&["flag", "w1", "by hand"]).ok();
    profile.looop(&["unflag", "w1"]).ok();
    // What a supervisor that was killed leaves stands in nobody's way.
    let state: serde_json::Value =
        serde_json::from_slice(&std::fs::read(data.join("workers/w1/state.json")).unwrap()).unwrap();
    kill("-KILL", state["supervisor"]["pid"].as_u64().unwrap() as u32);
    wait_until("it is lost", || row()["state"] == "lost");
    assert!(data.join("workers/w1/worker.sock").exists());
    let gone = profile.looop(&["flag", "w1", "x"]);
    assert!(gone.code != 0 && gone.stderr.contains("none exists"), "{gone:?}");
    profile.looop(&["worker", "start", "w1", "--", "sleep", "600"]).ok();
    assert_eq!(profile.looop(&["kill", "w1"]).ok().stdout, "w1: killed\n");
}
