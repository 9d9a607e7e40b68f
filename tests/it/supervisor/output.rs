//! Output that means to do something to whoever looks at it, or to the supervisor that answers it.

use std::fs;

use super::TmuxFixture;
use crate::support::profile::wait_until;

#[test]
fn what_only_a_terminal_understands_reaches_no_humans_terminal() {
    let bytes = b"\x1b]52;c;ZXZpbA==\x07\x1bP+q544e\x1b\\\x1b]0;#(touch hacked)\x07\x1b]2;#{T:evil}\x1b\\\x1b[>1u\
        \x1b[?1049h\x1b[2J\x1b[Hap-0123456789 approval\r\n  move     run\r\n  Make this move? [y/N] \x1b[5n\x9b5n\xff";
    let terminal = TmuxFixture::start(
        &[],
        "stty raw -echo; while [ ! -e bytes ]; do sleep 0.02; done; cat bytes; touch done; sleep 600",
    );
    fs::write(terminal.dir().join("clone/made"), bytes).unwrap();
    fs::rename(terminal.file("made"), terminal.file("bytes")).unwrap();
    terminal.wait_file("done");
    wait_until("all of it is written down", || {
        terminal.dir().join("transcript.raw").metadata().unwrap().len() >= bytes.len() as u64
    });
    assert_eq!(fs::read(terminal.dir().join("transcript.raw")).unwrap(), bytes);
    terminal.profile.looop(&["flag", "w1", "\x1b]52;c;ZXZpbA==\x07\u{202e}gnp"]).ok();
    for verb in [&["screen", "w1"][..], &["logs", "w1"], &["ls"], &["status"], &["wait", "--timeout", "1s"]] {
        let shown = terminal.profile.looop(verb);
        let raw = shown.stdout.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
        assert!(raw.is_none() && shown.stdout.lines().count() > 0, "{verb:?}: {raw:?} in {:?}", shown.stdout);
    }
    assert!(!terminal.profile.path("hacked").exists() && !terminal.file("hacked").exists());
    let asks = terminal.profile.looop(&["asks", "--json"]).ok().json();
    assert_eq!(asks["asks"].as_array().unwrap().len(), 0, "what is painted is no approval");
}

#[test]
#[ignore = "slow"]
fn terminal_queries_with_unread_answers_take_bounded_memory() {
    let script = r"touch ready; while [ ! -e go ]; do sleep 0.02; done
        i=0; while [ $i -lt 2000 ]; do printf '\033[c\033[6n\033[c\033[6n\033[c\033[6n\033[c\033[6n'; i=$((i+1)); done
        head -c 4000000 /dev/zero | sed 's/\x00/\x1b[c/g'; touch done; sleep 600";
    let terminal = TmuxFixture::start(&[], script);
    terminal.wait_file("ready");
    let before = terminal.memory();
    fs::write(terminal.file("go"), "").unwrap();
    terminal.wait_file("done");
    let after = terminal.memory();
    assert!(after < before + 1024, "{before} kB, then {after} kB");
    assert_eq!(terminal.profile.looop(&["kill", "w1"]).ok().stdout, "w1: killed\n");
}

/// Idle says nothing of a call for a user, so it does not hide one that comes in the same breath.
#[test]
fn a_call_for_a_user_is_heard_though_more_output_follows_at_once() {
    let terminal = TmuxFixture::start(
        &[],
        r"printf '\033]7501;state=blocked\033\\\033]7501;state=idle\033\\'; sleep 600",
    );
    terminal.wait_state("waiting");
    assert_eq!(terminal.row()["flag"]["text"], "it waits in its terminal");
}

#[test]
#[ignore = "slow"]
fn a_program_that_calls_for_a_user_without_end_starts_no_crowd() {
    let script = r"i=0; while [ $i -lt 400 ]; do printf '\033]7501;state=blocked:kind=k%d\033\\' $i; looop flag $i.; i=$((i+1)); done
        touch done; sleep 600";
    let terminal = TmuxFixture::start(&[], script);
    let me = format!("\0{}\0", "__sync-windows");
    let mut most = 0;
    wait_until("it has called", || {
        let children = format!("/proc/{0}/task/{0}/children", terminal.supervisor());
        let children = fs::read_to_string(children).unwrap_or_default();
        let lines =
            children.split_whitespace().filter_map(|pid| fs::read(format!("/proc/{pid}/cmdline")).ok());
        most = most.max(lines.filter(|line| String::from_utf8_lossy(line).contains(&me)).count());
        terminal.file("done").exists()
    });
    assert!(most <= 4, "{most} helpers at once");
    assert_eq!(terminal.row()["flag"]["text"], "399.");
}
