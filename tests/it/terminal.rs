//! The caller's terminal and signals: no child gets at the terminal, no foreign text is obeyed by it, and what the caller
//! ignored or blocked changes nothing.

use std::process::{Child, Command};
use std::{collections::BTreeSet, fs};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::races::{left, script, send, wait_for};
use crate::support::profile::{LOOOP, Profile, Ran, wait_until};
use crate::{attach::Outer, shown::on_terminal};

const NOOP: &str = r#"{"move":"noop","why":"nothing"}"#;
const ASK: &str = r#"{"move":"ask","text":"which one?","why":"w"}"#;

/// Tries to read from the terminal and to write to it, and notes as `NAME` what came of that: whether `/dev/tty` can be
/// opened, and whether the process leads a session.
fn probe(profile: &Profile, name: &str) -> String {
    let out = profile.path(&format!("probe-{name}"));
    format!(
        "tty=none; (exec 3<>/dev/tty) 2>/dev/null && tty=open\n\
         printf '\\033]0;stolen\\007\\033[2JFOREIGN-{name}' 2>/dev/null >/dev/tty; (read -r l </dev/tty) 2>/dev/null\n\
         read -r pid _ _ _ group session _ </proc/$$/stat\n\
         echo \"$tty $([ $pid = $session ] && [ $pid = $group ] && echo leads)\" >{0}.new; mv {0}.new {0}",
        out.display()
    )
}

fn probed(profile: &Profile, name: &str) -> String {
    wait_for(profile, &format!("probe-{name}"));
    fs::read_to_string(profile.path(&format!("probe-{name}"))).unwrap()
}

#[test]
fn no_child_of_a_beat_gets_at_the_terminal() {
    let profile = Profile::scripted(&[]);
    profile.without_sandbox(&["sensor", "run", "decide", "verify", "worker"]);
    let run = script(&profile, "run.sh", &probe(&profile, "run"));
    let notify = script(&profile, "notify.sh", &probe(&profile, "notify"));
    let check = script(&profile, "check.sh", &probe(&profile, "check"));
    let decide = format!(
        "{}\ncat >/dev/null; if [ -e asked ]; then echo '{}'; else touch asked; echo '{ASK}'; fi",
        probe(&profile, "decide"),
        json!({ "move": "run", "argv": [&run], "why": "w" })
    );
    let decide = script(&profile, "decide.sh", &format!("cd {}\n{decide}", profile.path("").display()));
    profile.config(json!({
        "decide": "mine", "runners": { "mine": { "decide": [decide] } }, "notify": [notify],
        "policy": { "allow": [{ "argv": [&run] }] }, "verify": { "mine": [check] },
    }));
    profile.sensor("s.sh", &format!("{}\necho '{{\"n\":1}}'", probe(&profile, "sensor")));
    for (beat, names) in [&["sensor", "decide", "notify"][..], &["run"]].into_iter().enumerate() {
        fs::write(profile.data().join("goals/g.md"), format!("beat {beat}\n")).unwrap();
        let outer = Outer::start(&profile, &["tick"], 80, 24);
        for name in names {
            assert_eq!(probed(&profile, name), "none leads\n", "{name}");
        }
        let (code, text) = outer.end();
        assert!(code == 0 && !text.contains("FOREIGN"), "{text}");
    }
    assert_eq!(profile.read_json("snapshots/s.json")["signal"], json!({ "n": 1 }), "it was not stopped");
    let outer = Outer::start(&profile, &["worker", "start", "w1", "--verify", "mine", "--", "true"], 80, 24);
    assert_eq!(outer.end().0, 0);
    assert_eq!(probed(&profile, "check"), "none leads\n");
}

#[test]
fn a_sandboxed_sensor_that_reads_the_terminal_ends_at_once() {
    let profile = Profile::scripted(&[NOOP]);
    profile.sensor(
        "s.sh",
        "tty=none; (exec 3</dev/tty) 2>/dev/null && tty=open\necho \"{\\\"tty\\\":\\\"$tty\\\"}\"",
    );
    let outer = Outer::start(&profile, &["tick"], 80, 24);
    assert_eq!(outer.end().0, 0);
    assert_eq!(profile.read_json("snapshots/s.json")["signal"], json!({ "tty": "none" }));
}

/// A profile whose sensor runs for ever, with a child that does so too.
fn hanging() -> Profile {
    let profile = Profile::scripted(&[NOOP]);
    profile.without_sandbox(&["sensor"]);
    // Not the first pulse of the profile, which waits for Enter.
    fs::write(profile.data().join("pulse.json"), r#"{"at_ms":1}"#).unwrap();
    let here = profile.path("").display().to_string();
    profile.sensor(
        "s.sh",
        &format!("tail -f {here}looop.json >/dev/null &\ntouch {here}began\ntail -f {here}looop.json"),
    );
    profile
}

#[test]
fn ctrl_c_ends_a_beat_and_its_children_in_their_own_sessions() {
    // Of the pulse the beat itself is such a child.
    for args in [&["tick"][..], &[]] {
        let profile = hanging();
        let mut outer = Outer::start(&profile, args, 80, 24);
        wait_for(&profile, "began");
        outer.type_in(b"\x03");
        outer.end();
        wait_until("its children to end", || left(&profile).is_empty());
    }
}

#[test]
fn a_hung_up_terminal_ends_a_beat_and_its_children() {
    for args in [&["tick"][..], &[]] {
        let profile = hanging();
        let mut child = profile.spawn(args);
        wait_for(&profile, "began");
        send(&child, Signal::HUP);
        child.wait().unwrap();
        wait_until("its children to end", || left(&profile).is_empty());
    }
}

/// Perl that ignores or blocks these signals, and becomes the command that follows.
fn caller(profile: &Profile, how: &str, args: &[&str]) -> Command {
    let code = format!("use POSIX; {how}; exec @ARGV or die");
    profile.other_command("perl", &[&["-e", &code, LOOOP], args].concat())
}

const IGNORE: &str = "$SIG{CHLD} = 'IGNORE'";
const BLOCK: &str = "sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGCHLD))";
const IGNORE_ALL: &str = "$SIG{$_} = 'IGNORE' for qw(HUP INT QUIT PIPE ALRM TERM USR1 USR2 CHLD TSTP TTIN TTOU); \
                          my $all = POSIX::SigSet->new; $all->fillset; sigprocmask(SIG_BLOCK, $all)";

#[track_caller]
fn ends(mut child: Child) -> Ran {
    wait_until("the command to end", || child.try_wait().unwrap().is_some());
    child.wait_with_output().unwrap().into()
}

fn start(mut command: Command) -> Child {
    use std::process::Stdio;
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
#[ignore = "slow"]
fn a_caller_that_ignores_or_blocks_signals_changes_nothing() {
    for how in [IGNORE, BLOCK, IGNORE_ALL] {
        // In the sandbox of this machine, and out of it.
        for without_sandbox in [&[][..], &["sensor", "decide", "run", "worker"]] {
            let run = json!({ "move": "run", "argv": ["echo", "done"], "why": "w" }).to_string();
            let profile = Profile::scripted(&[&run]);
            profile.without_sandbox(without_sandbox);
            profile.config_more(json!({ "policy": { "allow": [{ "argv": ["echo", "done"] }] } }));
            profile.sensor("s.sh", "set -- $(grep -E 'Sig(Blk|Ign)' /proc/self/status)\necho \"{\\\"blocked\\\":\\\"$2\\\",\\\"ignored\\\":\\\"$4\\\"}\"");
            ends(start(caller(&profile, how, &["tick"]))).ok();
            // glibc starts a child with its two internal signals, 32 and 33, ignored. No program uses them.
            let (none, internal) = ("0000000000000000", "0000000180000000");
            let signal = profile.read_json("snapshots/s.json")["signal"].clone();
            assert_eq!(signal["blocked"], none);
            assert!([none, internal].contains(&signal["ignored"].as_str().unwrap()), "{signal}");
            assert!(
                profile.read("journal.md").contains("echo done"),
                "{how}: {}",
                profile.read("journal.md")
            );
            ends(start(caller(&profile, how, &["worker", "start", "w1", "--", "true"]))).ok();
            let row = || profile.looop(&["ls", "--json"]).ok().json()["workers"][0].clone();
            wait_until("the worker's end to be seen", || row()["state"] == "exited");
        }
    }
}

#[test]
#[ignore = "slow"]
fn an_ignored_sigterm_ends_the_pulse_and_an_ignored_sighup_does_not() {
    let profile = Profile::scripted(&[NOOP]);
    let mut pulse = start(caller(&profile, IGNORE_ALL, &[]));
    wait_until("its first beat", || profile.asked() == 1);
    send(&pulse, Signal::HUP);
    profile.goal("later", "goal: later\n");
    wait_until("a beat after the signal of `nohup`", || profile.asked() == 2);
    assert!(pulse.try_wait().unwrap().is_none());
    send(&pulse, Signal::TERM);
    assert_eq!(ends(pulse).code, 0);
}

/// Everything that a terminal obeys: C0, DEL, C1 as a character, marks of direction, separators.
const EVIL: &str = "a\u{9b}31mb\u{202e}c\u{7f}d\u{1b}]0;t\u{7}e\u{2066}f\u{2028}g\u{200f}h\u{61c}i\u{85}j\rk";

/// What a terminal may get: no control character but line ends, tabs, and looop's own colours.
fn foreign(text: &str) -> Vec<char> {
    let mut plain = text.replace("\r\n", "\n");
    for code in [0, 1, 2, 31, 32, 33] {
        plain = plain.replace(&format!("\x1b[{code}m"), "");
    }
    let is_mark = |c: char| "\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}".contains(c);
    let is_order = |c: char| ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c);
    let bad =
        plain.chars().filter(|c| (c.is_control() && !"\n\t".contains(*c)) || is_mark(*c) || is_order(*c));
    bad.collect()
}

/// A profile in which all that looop did not write itself is hostile to a terminal.
fn hostile() -> Profile {
    let profile = Profile::scripted(&[
        &json!({ "move": "ask", "text": EVIL, "options": [EVIL], "why": EVIL }).to_string(),
    ]);
    profile.without_sandbox(&["worker", "sensor"]);
    profile.goal("evil", &format!("goal: {EVIL}\n"));
    fs::write(profile.data().join("PLAYBOOK.md"), format!("{EVIL}\n")).unwrap();
    let signal = profile.path("signal.json");
    fs::write(&signal, json!({ "signal": EVIL, "detail": EVIL }).to_string()).unwrap();
    profile.sensor("s.sh", &format!("# {EVIL}\ncat {}; printf '\\233\\033]0;t\\007' >&2", signal.display()));
    profile.sensor("bytes.sh", "printf '\\233\\377\\033[2J'; printf '\\233 \\033[2J' >&2; exit 1");
    profile.sensor("x.sh", &format!("printf '%s' '{EVIL}'"));
    let script = profile.data().join("sensors/x.sh");
    fs::write(&script, [&fs::read(&script).unwrap()[..], b"\n# \x9b31m\xff\n"].concat()).unwrap();
    profile.looop(&["tick"]).ok();
    fs::write(profile.path("screen"), EVIL).unwrap();
    let show = format!("cat {}; {LOOOP} flag \"$(cat {0})\"; read -r l", profile.path("screen").display());
    profile.looop(&["worker", "start", "w1", "--", "sh", "-c", &show]).ok();
    let row = || profile.looop(&["ls", "--json"]).ok().json()["workers"][0].clone();
    wait_until("the flag", || row()["flag"].is_object());
    profile
}

#[test]
#[ignore = "slow"]
fn no_foreign_text_is_obeyed_by_a_terminal() {
    let profile = hostile();
    let beats = profile.looop(&["log", "--json"]).ok().json();
    let beat = beats["lines"][0]["beat"].as_str().unwrap().to_owned();
    let evil = format!("$'{}'", EVIL.bytes().map(|byte| format!("\\x{byte:02x}")).collect::<String>());
    let calls = "status|why|log|asks|asks --all|ls|ls --all|worker show w1|logs w1|screen w1|lease list|goal list|\
                 goal show evil|sensor list|sensor show x|sensor show bytes|sensor test s|sensor test bytes|sensor test x|\
                 playbook show|tick --dry-run|schedule list|doctor|cost all --by beat|logs w1 --cast|goal diff evil|\
                 map --query total --root .";
    let more = [format!("log {beat}"), format!("log {beat} --prompt"), format!("log {beat} --reply")];
    // Errors repeat what was asked for.
    let errors =
        "goal show|sensor test|log|schema|logs|answer||--frob|help|kill|fix -c|attempt show".split('|');
    let errors = errors.map(|verb| format!("{verb} {evil}"));
    let mut shown = BTreeSet::new();
    for call in calls.split('|').map(str::to_owned).chain(more).chain(errors) {
        let Some(ran) = on_terminal(&profile, 200, &call) else { return };
        assert_eq!(foreign(&ran.stdout), Vec::<char>::new(), "{call}: {:?}", ran.stdout);
        assert!(call != "sensor show x" || ran.stdout.contains("# \\x9b31m\\xff"), "no text: {ran:?}");
        if ran.stdout.contains("\\u{9b}") || ran.stdout.contains("\\u009b") || ran.stdout.contains("\\x9b") {
            shown.insert(call);
        }
    }
    assert!(shown.len() > 20, "the text was there to be spelled out: {shown:?}");
    for call in ["goal show evil", "tick --dry-run", "sensor test s", "playbook show"] {
        assert!(shown.contains(call), "{call}: {shown:?}");
    }
}

#[test]
fn json_on_a_terminal_is_spelled_differently_and_means_the_same() {
    let profile = hostile();
    for call in ["status", "asks", "ls", "log", "goal list", "sensor list", "why"] {
        let line = format!("{call} --json");
        let Some(ran) = on_terminal(&profile, 200, &line) else { return };
        assert_eq!(foreign(&ran.stdout), Vec::<char>::new(), "{call}: {:?}", ran.stdout);
        let json = ran
            .stdout
            .lines()
            .find(|line| line.starts_with('{'))
            .unwrap_or_else(|| panic!("{call}: {ran:?}"));
        let value: Value =
            serde_json::from_str(json).unwrap_or_else(|error| panic!("{call}: {error}: {json}"));
        if ["asks", "log"].contains(&call) {
            assert!(call == "log" || json.contains("\\u009b") && json.contains("\\u202e"), "{call}: {json}");
            let words: Vec<&str> = call.split(' ').chain(["--json"]).collect();
            assert_eq!(value, profile.looop(&words).ok().json(), "{call}");
        }
    }
}

#[test]
fn a_list_that_is_redrawn_escapes_foreign_text() {
    let profile = Profile::scripted(&[NOOP]);
    let spec = profile.data().join("workers/w1/spec.json");
    fs::create_dir_all(spec.parent().unwrap()).unwrap();
    fs::write(spec, json!({ EVIL: 1 }).to_string()).unwrap();
    let mut terminal = Outer::start(&profile, &["ls", "--watch"], 200, 24);
    terminal.wait_for("warning: ");
    terminal.type_in(b"\x03");
    wait_until("the warning", || String::from_utf8_lossy(&terminal.bytes()).contains("\\u{9b}"));
    let shown = String::from_utf8_lossy(&terminal.bytes()).replace("\x1b[H\x1b[J", "");
    assert_eq!(foreign(&shown.replace("^C", "")), Vec::<char>::new(), "{shown:?}");
}

#[test]
fn a_pipe_gets_all_bytes_as_they_are() {
    let profile = hostile();
    assert!(profile.looop(&["goal", "show", "evil"]).ok().stdout.contains(EVIL));
    assert!(profile.looop(&["sensor", "show", "x"]).ok().stdout.contains(EVIL));
    assert!(profile.looop(&["asks", "--json"]).ok().stdout.contains('\u{9b}'));
    // By --raw a person asks for what the worker sent to its terminal.
    let Some(ran) = on_terminal(&profile, 200, "logs w1 --raw") else { return };
    assert!(ran.stdout.contains("\u{1b}]0;t\u{7}"), "{ran:?}");
}

#[test]
fn a_panic_is_printed_as_an_error_of_looop() {
    let mut profile = Profile::scripted(&[NOOP]);
    // No thread can have a stack of this size, and the standard library panics then.
    profile.var("RUST_MIN_STACK", "1000000000000000");
    profile.looop(&["doctor"]).fails_with(101, &["error: looop has a defect and panicked at"]);
}

#[test]
fn the_beat_of_a_pulse_has_a_session_of_its_own_and_no_terminal() {
    let profile = Profile::scripted(&[NOOP]);
    profile.without_sandbox(&["sensor"]);
    let out = profile.path("beat");
    let look = format!(
        "read -r pid _ _ _ _ session tty _ </proc/$PPID/stat\n\
         echo \"$((pid == session)) $tty\" >{0}.new; mv {0}.new {0}; echo '{{}}'",
        out.display()
    );
    profile.sensor("s.sh", &look);
    let mut terminal = Outer::start(&profile, &[], 120, 30);
    terminal.wait_for("Press Enter to start");
    terminal.type_in(b"\n");
    wait_for(&profile, "beat");
    assert_eq!(fs::read_to_string(out).unwrap(), "1 0\n");
    terminal.type_in(b"\x03");
    terminal.end();
}
