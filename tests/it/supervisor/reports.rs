//! Deliverables and texts: whole or not at all, never replaced, never lost on the way.

use std::{fs, io::Write};

use looop::rules::worker::protocol::{FrameKind, WireReply, WireRequest, encode};

use super::{TmuxFixture, reply, say};
use crate::support::profile::wait_until;

/// What lies in the worker's directory and belongs to no finished report.
fn temps(terminal: &TmuxFixture) -> usize {
    let names = fs::read_dir(terminal.dir()).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with(".report")).count()
}

#[test]
#[ignore = "slow"]
fn a_report_is_whole_or_not_there() {
    let script = r#"
        head -c 11000000 /dev/zero | looop report big 2>big; echo $? >>big
        echo x | looop report a/b 2>slash; echo $? >>slash
        echo x | looop report ../b 2>>slash; echo $? >>slash
        echo one | looop report same; echo two | looop report same 2>same; echo $? >>same
        head -c 10000000 /dev/zero | looop report most; echo $? >most
        (echo early; sleep 11; echo late) | looop report slow; touch done; sleep 600"#;
    let terminal = TmuxFixture::start(&[], script);
    terminal.wait_file("done");
    for (file, words) in
        [("big", "at most 10 MiB"), ("slash", "error"), ("same", "`reports/w1/same` already exists")]
    {
        let printed = terminal.text(file);
        assert!(printed.contains(words) && printed.ends_with("1\n"), "{file}: {printed}");
    }
    let at = |name: &str| terminal.profile.data().join("reports/w1").join(name);
    let mut names: Vec<_> = fs::read_dir(at("")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["most", "same", "slow"]);
    assert_eq!(fs::read_to_string(at("same")).unwrap(), "one\n");
    assert_eq!(fs::read_to_string(at("slow")).unwrap(), "early\nlate\n");
    assert_eq!(at("most").metadata().unwrap().len(), 10_000_000);
    assert_eq!(temps(&terminal), 0);
}

#[test]
fn two_reports_of_one_name_at_once_do_not_mix_and_one_that_is_given_up_leaves_nothing() {
    let terminal = TmuxFixture::start(&[], "sleep 600");
    let begin = || {
        let mut stream = terminal.connect("worker.sock");
        say(&mut stream, WireRequest::Report { name: "r".to_owned() });
        stream
    };
    let (mut one, mut two, mut dying) = (begin(), begin(), begin());
    for _ in 0..3 {
        one.write_all(&encode(FrameKind::Data, b"one ")).unwrap();
        two.write_all(&encode(FrameKind::Data, b"two ")).unwrap();
        dying.write_all(&encode(FrameKind::Data, b"half")).unwrap();
    }
    wait_until("all three are under way", || temps(&terminal) == 3);
    drop(dying);
    wait_until("the given up one is gone", || temps(&terminal) == 2);
    one.write_all(&encode(FrameKind::Data, b"")).unwrap();
    assert_eq!(reply(&mut one), WireReply::Ok("reports/w1/r".to_owned()));
    two.write_all(&encode(FrameKind::Data, b"")).unwrap();
    assert!(matches!(reply(&mut two), WireReply::Error(why) if why.contains("already exists")));
    assert_eq!(terminal.profile.read("reports/w1/r"), "one one one ");
    wait_until("nothing is left", || temps(&terminal) == 0);
}

#[test]
fn what_a_worker_is_sent_it_reads_once_and_whole() {
    let script = r#"
        while [ ! -e go ]; do sleep 0.02; done
        looop inbox >first; echo $? >>first; looop inbox >second; echo $? >>second; touch done; sleep 600"#;
    let terminal = TmuxFixture::start(&[], script);
    // Each of these bytes is six on the wire.
    for _ in 0..3 {
        terminal.profile.looop(&["tell", "w1", &"\u{1}".repeat(8000)]).ok();
    }
    fs::write(terminal.file("go"), "").unwrap();
    terminal.wait_file("done");
    assert_eq!(terminal.text("first").matches('\u{1}').count(), 24_000, "{:.300}", terminal.text("first"));
    assert!(terminal.text("first").ends_with("\n0\n"));
    assert_eq!(terminal.text("second"), "0\n");
}

#[test]
#[ignore = "slow"]
fn all_reports_of_a_worker_together_have_a_limit() {
    let script = r#"
        for n in 1 2 3 4; do head -c 9900000 /dev/zero | looop report big$n 2>printed || break; done
        echo "$n" >stopped; echo tiny | looop report tiny; echo $? >tiny
        for n in $(seq 1 100); do echo $n | looop report small$n >/dev/null 2>many || break; done
        touch done; sleep 600"#;
    let terminal = TmuxFixture::start(&[], script);
    terminal.wait_file("done");
    assert_eq!(terminal.text("stopped"), "4\n");
    let printed = terminal.text("printed");
    assert!(printed.contains("all reports of a worker are at most 32 MiB together"), "{printed}");
    assert_eq!(terminal.text("tiny"), "0\n", "what still fits is taken");
    let many = terminal.text("many");
    assert!(many.contains("a worker hands in at most 100 reports"), "{many}");
    let names = fs::read_dir(terminal.profile.data().join("reports/w1")).unwrap().count();
    assert_eq!((names, temps(&terminal)), (100, 0), "what is refused leaves nothing");
}

#[test]
#[ignore = "slow"]
fn reports_under_way_count_for_the_limit_together() {
    let terminal = TmuxFixture::start(&[], "sleep 600");
    let part = vec![b'x'; looop::rules::worker::protocol::MAX_PAYLOAD];
    let mut refused = 0;
    let begin = |n: usize| {
        let mut stream = terminal.connect("worker.sock");
        say(&mut stream, WireRequest::Report { name: format!("r{n}") });
        stream
    };
    let mut streams: Vec<_> = (0..4).map(begin).collect();
    // In turn, so that no connection is silent for long.
    for _ in 0..150 {
        let before = streams.len();
        streams.retain_mut(|stream| stream.write_all(&encode(FrameKind::Data, &part)).is_ok());
        refused += before - streams.len();
    }
    for stream in &mut streams {
        let end = stream.write_all(&encode(FrameKind::Data, b""));
        let printed = end.is_ok().then(|| reply(stream));
        refused +=
            usize::from(matches!(printed, Some(WireReply::Error(why)) if why.contains("32 MiB together")));
    }
    assert!(refused >= 1, "four reports of 9.4 MiB are more than 32 MiB");
}

#[test]
fn a_long_report_is_redacted_while_it_comes() {
    let mut profile = crate::support::profile::Profile::scripted(&[super::NOOP]);
    for n in 0..40 {
        profile.var(&format!("V{n}_TOKEN"), &format!("planted-secret-{n:03}"));
    }
    let terminal = TmuxFixture::with(profile, &[], "sleep 600");
    let idle = terminal.memory();
    let line = b"a line of a report with the planted-secret-017 in the middle of it\n";
    let part = line.repeat(looop::rules::worker::protocol::MAX_PAYLOAD / line.len());
    let mut stream = terminal.connect("worker.sock");
    say(&mut stream, WireRequest::Report { name: "long".to_owned() });
    let parts = (10 << 20) / part.len();
    for _ in 0..parts {
        stream.write_all(&encode(FrameKind::Data, &part)).unwrap();
    }
    // The last part has been taken when it is written out; what is left is a rename.
    let length = || fs::metadata(terminal.dir().join(".report-1.tmp")).map_or(0, |meta| meta.len());
    wait_until("all of it is written", || length() + 200 > (parts * part.len()) as u64);
    let began = std::time::Instant::now();
    stream.write_all(&encode(FrameKind::Data, b"")).unwrap();
    assert_eq!(reply(&mut stream), WireReply::Ok("reports/w1/long".to_owned()));
    assert!(began.elapsed().as_secs() < 2, "the end of a report reads nothing again: {:?}", began.elapsed());
    let text = terminal.profile.read("reports/w1/long");
    assert_eq!(text.matches("‹redacted:V17_TOKEN›").count(), parts * (part.len() / line.len()));
    assert!(!text.contains("planted-secret"));
    let grown = terminal.memory().saturating_sub(idle);
    assert!(grown < 400, "{grown} kB more for a report of 10 MiB");
}
