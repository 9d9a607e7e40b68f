//! Deliverables and texts: whole or not at all, never replaced, never lost on the way.

use std::fs;
use std::io::Write;

use looop::model::wire::{FrameKind, Reply, Request, encode};

use super::{Desk, reply, say};
use crate::support::profile::wait_until;

/// What lies in the worker's directory and belongs to no finished report.
fn temps(desk: &Desk) -> usize {
    let names = fs::read_dir(desk.dir()).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with(".report")).count()
}

#[test]
fn a_report_is_whole_or_not_there() {
    let script = r#"
        head -c 11000000 /dev/zero | looop report big 2>big; echo $? >>big
        echo x | looop report a/b 2>slash; echo $? >>slash
        echo x | looop report ../b 2>>slash; echo $? >>slash
        echo one | looop report same; echo two | looop report same 2>same; echo $? >>same
        head -c 10000000 /dev/zero | looop report most; echo $? >most
        (echo early; sleep 11; echo late) | looop report slow; touch done; sleep 600"#;
    let desk = Desk::start(&[], script);
    desk.wait_file("done");
    for (file, words) in
        [("big", "at most 10 MiB"), ("slash", "error"), ("same", "`reports/w1/same` is there already")]
    {
        let said = desk.text(file);
        assert!(said.contains(words) && said.ends_with("1\n"), "{file}: {said}");
    }
    let at = |name: &str| desk.profile.data().join("reports/w1").join(name);
    let mut names: Vec<_> = fs::read_dir(at("")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["most", "same", "slow"]);
    assert_eq!(fs::read_to_string(at("same")).unwrap(), "one\n");
    assert_eq!(fs::read_to_string(at("slow")).unwrap(), "early\nlate\n");
    assert_eq!(at("most").metadata().unwrap().len(), 10_000_000);
    assert_eq!(temps(&desk), 0);
}

#[test]
fn two_reports_of_one_name_at_once_do_not_mix_and_one_that_is_given_up_leaves_nothing() {
    let desk = Desk::start(&[], "sleep 600");
    let begin = || {
        let mut stream = desk.connect("worker.sock");
        say(&mut stream, Request::Report { name: "r".to_owned() });
        stream
    };
    let (mut one, mut two, mut dying) = (begin(), begin(), begin());
    for _ in 0..3 {
        one.write_all(&encode(FrameKind::Data, b"one ")).unwrap();
        two.write_all(&encode(FrameKind::Data, b"two ")).unwrap();
        dying.write_all(&encode(FrameKind::Data, b"half")).unwrap();
    }
    wait_until("all three are under way", || temps(&desk) == 3);
    drop(dying);
    wait_until("the given up one is gone", || temps(&desk) == 2);
    one.write_all(&encode(FrameKind::Data, b"")).unwrap();
    assert_eq!(reply(&mut one), Reply::Ok("reports/w1/r".to_owned()));
    two.write_all(&encode(FrameKind::Data, b"")).unwrap();
    assert!(matches!(reply(&mut two), Reply::Error(why) if why.contains("is there already")));
    assert_eq!(desk.profile.read("reports/w1/r"), "one one one ");
    wait_until("nothing is left", || temps(&desk) == 0);
}

#[test]
fn what_a_worker_is_told_it_reads_once_and_whole() {
    let script = r#"
        while [ ! -e go ]; do sleep 0.02; done
        looop told >first; echo $? >>first; looop told >second; echo $? >>second; touch done; sleep 600"#;
    let desk = Desk::start(&[], script);
    // Each of these bytes is six on the wire.
    for _ in 0..3 {
        desk.profile.looop(&["tell", "w1", &"\u{1}".repeat(8000)]).ok();
    }
    fs::write(desk.file("go"), "").unwrap();
    desk.wait_file("done");
    assert_eq!(desk.text("first").matches('\u{1}').count(), 24_000, "{:.300}", desk.text("first"));
    assert!(desk.text("first").ends_with("\n0\n"));
    assert_eq!(desk.text("second"), "0\n");
}
