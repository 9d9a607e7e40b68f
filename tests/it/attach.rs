//! Attach: the real program in a real pseudo-terminal, against a scripted supervisor.

mod fake;

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use looop::rules::worker::protocol::{Hello, WireReply, WireRequest, encode_json};
use looop::rules::worker::{Flag, Phase};
use portable_pty::{Child, CommandBuilder, MasterPty, PtyPair, PtySize, native_pty_system};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::profile::{LOOOP, Profile, wait_until};
use crate::support::terminal::TmuxFixture;
pub use fake::{Fake, hold};

/// A user's terminal with the program in it.
pub struct Outer {
    pair: PtyPair,
    child: Box<dyn Child + Send + Sync>,
    typing: Box<dyn Write + Send>,
    bytes: Arc<Mutex<Vec<u8>>>,
    before: String,
    size: (u16, u16),
}

fn termios(master: &dyn MasterPty) -> String {
    let is = master.get_termios().unwrap();
    let flags = (is.input_flags, is.output_flags, is.control_flags, is.local_flags);
    // The kernel knows nineteen; what else a C library has room for is never set.
    format!("{flags:?} {:?}", &is.control_chars[..19])
}

impl Outer {
    pub fn start(profile: &Profile, args: &[&str], cols: u16, rows: u16) -> Outer {
        let size = PtySize { rows, cols, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        let before = termios(&*pair.master);
        let mut command = CommandBuilder::new(LOOOP);
        command.args(args);
        command.cwd(profile.path("home"));
        command.env_clear();
        for (key, value) in profile.command(args).get_envs() {
            command.env(key, value.unwrap_or_default());
        }
        command.env("TERM", "xterm-256color");
        let child = pair.slave.spawn_command(command).unwrap();
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, seen) = (pair.master.try_clone_reader().unwrap(), bytes.clone());
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                seen.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        let typing = pair.master.take_writer().unwrap();
        Outer { pair, child, typing, bytes, before, size: (cols, rows) }
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    /// What the user sees.
    pub fn screen(&self) -> vt100::Screen {
        let cell = |n: u16| std::num::NonZeroU16::new(n.max(2)).unwrap();
        let mut terminal = vt100::Parser::new(cell(self.size.1), cell(self.size.0), 0);
        terminal.process(&self.bytes());
        terminal.screen().clone()
    }

    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        wait_until(text, || self.screen().contents().contains(text));
    }

    pub fn type_in(&mut self, bytes: &[u8]) {
        self.typing.write_all(bytes).unwrap();
        self.typing.flush().unwrap();
    }

    pub fn detach(mut self) {
        self.type_in(b"\x1c\x1c");
        self.end();
    }

    /// Waits for the end: the exit code and the last screen, after a check that the terminal is as it was.
    #[track_caller]
    pub fn end(mut self) -> (u32, String) {
        let mut code = None;
        wait_until("the program to end", || {
            code = self.child.try_wait().unwrap().map(|status| status.exit_code());
            code.is_some()
        });
        let code = code.unwrap();
        // All that was written stands in the terminal's queue until it is read; a line comes last.
        wait_until("the last line", || self.bytes().ends_with(b"\n"));
        assert_eq!(termios(&*self.pair.master), self.before, "the line discipline is as it was");
        let screen = self.screen();
        assert!(!screen.alternate_screen() && !screen.hide_cursor() && !screen.bracketed_paste());
        assert!(!screen.application_cursor() && !screen.application_keypad());
        assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
        assert_eq!(screen.mouse_protocol_encoding(), vt100::MouseProtocolEncoding::Default);
        (code, screen.contents())
    }
}

/// Modes that must all be gone afterwards.
const MODES: &[u8] = b"\x1b[?1049h\x1b[?1h\x1b=\x1b[?2004h\x1b[?1003;1006h\x1b[?25l\x1b[31mhello worker";

fn attached(cols: u16, rows: u16) -> (Profile, Fake, Outer) {
    let profile = Profile::empty();
    let mut fake = Fake::start(&profile, cols, rows.saturating_sub(1).max(1), None);
    fake.print(MODES);
    let outer = Outer::start(&profile, &["attach", "w1"], cols, rows);
    outer.wait_for("hello worker");
    wait_until("the connection", || fake.got.lock().unwrap().hello.is_some());
    (profile, fake, outer)
}

#[test]
fn detaching_gives_the_terminal_back_in_every_encoding() {
    for keys in [&b"\x1c\x1c"[..], b"\x1b[92;5u\x1b[92;5u", b"\x1b[27;5;92~\x1c"] {
        let (_profile, fake, mut outer) = attached(60, 10);
        outer.wait_for(" w1 · running · Ctrl-\\ Ctrl-\\ detaches");
        outer.type_in(&keys[..keys.len() / 2]);
        outer.type_in(&keys[keys.len() / 2..]);
        let (code, text) = outer.end();
        assert_eq!((code, text.trim()), (0, "detached from w1; it is still running"));
        wait_until("the supervisor sees it", || fake.got.lock().unwrap().gone);
        let got = fake.got.lock().unwrap();
        assert_eq!(got.keys, b"", "none of it was for the worker");
        let attach = WireRequest::Attach { cols: 60, rows: 9, view: false };
        assert_eq!(got.hello, Some(Hello { looop: 1, request: attach }), "the last row is looop's");
    }
}

#[test]
fn a_supervisor_that_vanishes_gives_the_terminal_back_and_is_reported() {
    let (_profile, mut fake, outer) = attached(100, 10);
    fake.vanish();
    let (code, text) = outer.end();
    assert_eq!(code, 1);
    assert!(text.starts_with("error: lost w1: its supervisor ended unexpectedly\nhint: "), "{text}");
}

#[test]
fn a_signal_gives_the_terminal_back() {
    for signal in [Signal::TERM, Signal::HUP] {
        let (_profile, _fake, outer) = attached(60, 10);
        let pid = Pid::from_raw(outer.child.process_id().unwrap().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
        assert_eq!(outer.end().0, 0);
    }
}

#[test]
fn every_byte_typed_reaches_the_worker() {
    let (_profile, fake, mut outer) = attached(60, 10);
    let all: Vec<u8> = (0..=255_u8).chain([0x1b]).collect();
    for byte in &all {
        outer.type_in(&[*byte]);
    }
    wait_until("all keys", || fake.got.lock().unwrap().keys.len() == all.len());
    assert_eq!(fake.got.lock().unwrap().keys, all);
    outer.detach();
}

#[test]
fn a_paste_of_ten_megabytes_arrives_whole_and_is_never_held_in_memory() {
    let (_profile, fake, mut outer) = attached(60, 10);
    let mut seed = 7_u64;
    let mut paste = b"\x1b[200~".to_vec();
    paste.extend((0..10_000_000).map(|_| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 56) as u8
    }));
    paste.extend(b"\x1b[201~");
    fake.quiet(true);
    let pid = outer.child.process_id().unwrap();
    let (mut typing, text) = (std::mem::replace(&mut outer.typing, Box::new(Vec::new())), paste.clone());
    let typist = std::thread::spawn(move || {
        typing.write_all(&text).unwrap();
        typing
    });
    // The worker takes nothing: the sender must wait, and the program in between must not grow.
    let rss = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let start = std::time::Instant::now();
    wait_until("the paste to stand", || start.elapsed().as_millis() > 500);
    assert!(!typist.is_finished() && rss() < 60_000, "{} kB", rss());
    fake.quiet(false);
    wait_until("all of it", || fake.got.lock().unwrap().keys.len() >= paste.len());
    assert!(fake.got.lock().unwrap().keys == paste, "byte for byte");
    outer.typing = typist.join().unwrap();
    outer.detach();
}

#[test]
fn a_change_of_size_is_sent_and_drawn() {
    let (_profile, mut fake, mut outer) = attached(60, 10);
    let size = PtySize { rows: 20, cols: 100, pixel_width: 0, pixel_height: 0 };
    outer.pair.master.resize(size).unwrap();
    outer.size = (100, 20);
    wait_until("the size", || fake.got.lock().unwrap().sizes == [(100, 19)]);
    fake.resize(100, 19);
    fake.print(b"\x1b[19;91Hbottom end");
    outer.wait_for("bottom end");
    assert_eq!(outer.screen().rows(0, 100).nth(18).unwrap().trim(), "bottom end");
    outer.detach();
}

#[test]
fn what_a_worker_forges_never_reaches_the_terminal() {
    let (_profile, mut fake, mut outer) = attached(80, 24);
    fake.state(|state| {
        let text = "\x1b]52;c;Zm9yZ2Vk\x07 #(touch x) \u{202e}evil".to_owned();
        state.flag = Some(Flag { text, at_ms: 0, nth: 1, guess: false });
        state.phase = Phase::Waiting;
    });
    fake.print(
        b"\x1b]52;c;Zm9yZ2Vk\x07\x1b]2;#(touch x)\x07\x1bP+q544e\x1b\\\x1b_Gforged\x1b\\\x1b^forged\x1b\\\x1b[>4;2m\x1b[=1u\
        \x1b[?u\x1b[>1u\x1b[6n\x1b[c\x1b[>c\x1b[5i\x1b[8;1;1t\x1b[?1004h\x1b]8;;http://forged\x07link\x1b]8;;\x07\xe2\x80\xae\x1b[H\x1b[2Jend of it",
    );
    outer.wait_for("end of it");
    outer.wait_for("waiting");
    outer.type_in(b"\x1c\x1c");
    let bytes = outer.bytes.clone();
    outer.end();
    let bytes = bytes.lock().unwrap().clone();
    let has = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    let never = "\x1b]52 \x1bP \x1b_ \x1b^ \x1b[> \x1b[= \x1b[?u \x1b[c \x1b[5i \x1b[8;1;1t ?1004 \x1b]8 \u{202e} \x1b]2;# \
                 Zm9yZ2Vk\x07 \x1bX";
    for part in never.split(' ') {
        assert!(!has(part.as_bytes()), "{}", part.escape_debug());
    }
    let strings = bytes.windows(2).filter(|pair| *pair == b"\x1b]").count();
    assert!(strings == 1 && has(b"\x1b]2;looop: w1\x07"), "one title, looop's own");
}

#[test]
fn any_size_of_terminal_works() {
    for (cols, rows) in [(1, 1), (2, 2), (3, 3), (500, 200)] {
        let profile = Profile::empty();
        let (width, height) = (cols, if rows >= 3 { rows - 1 } else { rows });
        let mut fake = Fake::start(&profile, width, height, None);
        fake.print("\u{4e2d}\u{6587}\u{2764}\u{fe0f}long text that wraps\r\n\x1b[9999;9999HZ".as_bytes());
        let mut outer = Outer::start(&profile, &["attach"], cols, rows);
        wait_until("the last cell", || outer.bytes().contains(&b'Z'));
        outer.type_in(b"x\x1c\x1c");
        assert_eq!(outer.end().0, 0, "{cols}x{rows}");
        wait_until("the key", || fake.got.lock().unwrap().keys == b"x");
    }
}

#[test]
fn a_worker_that_ends_leaves_its_last_screen_to_read() {
    let (_profile, mut fake, mut outer) = attached(60, 10);
    fake.print(b"\r\nthe last word");
    fake.state(|state| state.phase = Phase::Done);
    fake.vanish();
    outer.wait_for(" w1 · done · q leaves");
    outer.wait_for("the last word");
    outer.type_in(b"typed a moment too late\r");
    outer.type_in(b"q");
    let (code, text) = outer.end();
    assert_eq!((code, text.trim()), (0, "w1 is done"));
}

#[test]
fn a_worker_that_has_ended_can_still_be_looked_at() {
    let profile = Profile::empty();
    let mut fake = Fake::start(&profile, 60, 9, None);
    fake.print(MODES);
    fake.state(|state| {
        state.phase = Phase::Failed;
        state.why = Some("it ran for too long".to_owned());
    });
    fake.vanish();
    std::fs::remove_file(fake.dir.attach_socket()).unwrap();
    let mut outer = Outer::start(&profile, &["attach", "w1"], 60, 10);
    outer.wait_for("hello worker");
    outer.wait_for(" w1 · failed: it ran for too long · q leaves");
    outer.type_in(b"\x1c\x1c");
    assert_eq!(outer.end(), (0, "w1 is failed".to_owned()));
}

#[test]
fn who_only_looks_types_nothing_and_has_no_size() {
    let profile = Profile::empty();
    let mut fake = Fake::start(&profile, 40, 8, None);
    fake.print(b"hello viewer");
    let mut outer = Outer::start(&profile, &["attach", "--view", "w1"], 60, 10);
    outer.wait_for("hello viewer");
    outer.wait_for("view only");
    outer.type_in(b"typed");
    let size = PtySize { rows: 20, cols: 100, pixel_width: 0, pixel_height: 0 };
    outer.pair.master.resize(size).unwrap();
    outer.size = (100, 20);
    wait_until("drawn anew", || outer.screen().rows(0, 100).nth(19).unwrap().contains("view only"));
    outer.type_in(b"\x1c\x1c");
    assert_eq!(outer.end().0, 0);
    let got = fake.got.lock().unwrap();
    assert_eq!(got.hello.as_ref().unwrap().request, WireRequest::Attach { cols: 60, rows: 9, view: true });
    assert!(got.keys.is_empty() && got.sizes.is_empty());
}

#[test]
fn another_version_says_which_side_is_newer() {
    for (theirs, who) in [(0, "older"), (99, "newer")] {
        let profile = Profile::empty();
        let _fake = Fake::start(&profile, 60, 9, Some(encode_json(&WireReply::Version(theirs))));
        let outer = Outer::start(&profile, &["attach", "w1"], 150, 10);
        let (code, text) = outer.end();
        let expected = format!(
            "error: could not attach to w1: its supervisor is {who} than this looop ({theirs}, not 1)"
        );
        assert!(code == 1 && text.starts_with(&expected), "{text}");
    }
}

#[test]
#[ignore = "slow"]
fn a_flood_ends_with_the_latest_state_and_few_frames() {
    let (_profile, mut fake, outer) = attached(80, 24);
    let line = "0123456789abcdef ".repeat(60) + "\r\n";
    let before = outer.bytes().len();
    for n in 0..4000 {
        fake.print(format!("{n} {line}").as_bytes());
    }
    fake.print(b"the very last");
    outer.wait_for("the very last");
    let drawn = outer.bytes().len() - before;
    assert!(drawn < 4_000_000, "{drawn} bytes drawn of 4 MB");
    outer.detach();
}

#[test]
fn a_question_is_answered_on_a_screen_of_looops_own() {
    let (profile, mut fake, mut outer) = attached(80, 24);
    let ask = serde_json::json!({
        "id": "q1", "kind": "question", "worker": "w1", "text": "Which colour?", "options": ["red", "blue"],
        "beat": "b", "created_ms": 0,
    });
    std::fs::create_dir_all(profile.data().join("asks")).unwrap();
    std::fs::write(profile.data().join("asks/q1.json"), ask.to_string()).unwrap();
    outer.type_in(b"\x1ca");
    outer.wait_for("the worker asks nothing, and no move waits");
    fake.state(|state| state.ask = Some(looop::rules::name::Name::parse("q1").unwrap()));
    outer.wait_for("it asks: Ctrl-\\ a answers");
    outer.type_in(b"\x1ca");
    outer.wait_for("2) blue");
    assert!(!outer.screen().alternate_screen(), "not on what the worker draws");
    outer.type_in(b"2\n");
    outer.wait_for("hello worker");
    let answer = std::fs::read_to_string(profile.data().join("asks/q1.answer.json")).unwrap();
    assert!(answer.contains("\"blue\""), "{answer}");
    outer.detach();
}

#[test]
fn a_move_that_waits_gets_its_approval_on_a_screen_of_looops_own() {
    let run =
        serde_json::json!({ "move": "run", "argv": ["touch", "made"], "why": "it is wanted" }).to_string();
    let profile = Profile::scripted(&[&run]);
    assert!(profile.looop(&["tick"]).ok().stdout.contains("waits for ap-"));
    let mut fake = Fake::start(&profile, 80, 23, None);
    fake.print(MODES);
    let mut outer = Outer::start(&profile, &["attach", "w1"], 80, 24);
    outer.wait_for("hello worker");
    outer.type_in(b"\x1ca");
    outer.wait_for("Make this move? [y/N]");
    let shown = outer.screen();
    assert!(!shown.alternate_screen(), "not on what the worker draws");
    assert!(shown.contents().contains("touch made"), "{}", shown.contents());
    outer.type_in(b"\n");
    outer.wait_for("hello worker");
    outer.type_in(b"\x1ca");
    outer.wait_for("Make this move? [y/N]");
    assert!(!profile.data().join("made").exists());
    outer.type_in(b"y\n");
    outer.wait_for("hello worker");
    profile.looop(&["tick"]).shows(&["run touch made — exit 0"]);
    outer.type_in(b"\x1ca");
    outer.wait_for("no move waits");
    outer.detach();
}

#[test]
fn without_a_terminal_there_is_nothing_to_attach() {
    let profile = Profile::empty();
    let _fake = Fake::start(&profile, 60, 9, None);
    profile.looop(&["attach", "w1"]).fails_with(2, &["are not a terminal"]);
    assert_eq!(profile.looop(&["attach", "nobody"]).code, 2);
}

#[test]
fn in_tmux_a_worker_sets_no_title_runs_no_command_and_reaches_no_clipboard() {
    let terminal = TmuxFixture::new("data");
    let mut fake = Fake::start(&terminal.profile, 80, 23, None);
    let touched = terminal.profile.path("touched");
    let forged = format!("#(touch {})", touched.display());
    fake.print(
        format!("\x1b]2;{forged}\x07\x1bk{forged}\x1b\\\x1b]52;c;Zm9yZ2Vk\x07{forged} drawn").as_bytes(),
    );
    let pane = terminal.shell("w");
    let show =
        |format: &str| terminal.tmux(&["display-message", "-p", "-t", &pane, format]).trim().to_owned();
    terminal.tmux(&["set", "-g", "set-clipboard", "on"]);
    terminal.type_line(&pane, "looop attach w1");
    terminal.wait_for(&pane, &format!("{forged} drawn"));
    wait_until("the connection", || fake.got.lock().unwrap().hello.is_some());
    assert_eq!(show("#{pane_title}|#{alternate_on}"), "looop: w1|1");
    assert!(!show("#W").contains("touch"), "{}", show("#W"));
    assert_eq!(terminal.tmux(&["list-buffers"]), "", "nothing was copied");
    terminal.tmux(&["send-keys", "-t", &pane, "h", "i", "Up"]);
    wait_until("the keys", || fake.got.lock().unwrap().keys == b"hi\x1b[A");
    terminal.tmux(&["send-keys", "-t", &pane, "C-\\", "C-\\"]);
    terminal.wait_for(&pane, "detached from w1; it is still running");
    assert_eq!(
        show("#{alternate_on}|#{mouse_any_flag}|#{cursor_flag}|#{keypad_flag}|#{wrap_flag}"),
        "0|0|1|0|1"
    );
    assert_eq!(show("#{pane_title}"), show("#{host}"), "the title is given back");
    assert!(!touched.exists());
}
