//! Texts from outside: replies, sensors' output, the config, leanfiles, asks and looop's own records.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use looop::config::{self, Env};
use looop::fix::leanfile::{self, source::LeanfileSource};
use looop::os::process::{ChildResult, ProcessExit};
use looop::rules::beat::ask::{AnswerFile, QuestionFile};
use looop::rules::beat::decision::{Action, MAX_BODY_BYTES, MAX_TEXT_BYTES, Move, parse_reply};
use looop::rules::beat::entry::{self, MoveOutcome};
use looop::rules::beat::policy::{self, PolicyDecision, PolicyFacts};
use looop::rules::beat::settings::{Limits, PolicyRules};
use looop::rules::beat::{diff, gate, observed::Observed, schedule::Schedule, state::LoopState};
use looop::rules::lease::{Alive, Here, Lease};
use looop::rules::text::{is_hidden, quote_argv};
use looop::rules::world::sensor::{SensorHeader, stamp_untrusted};
use looop::rules::world::{SensorReading, Trust};
use looop::rules::{cost::charge::Charge, secret::Secrets, time::Now};
use looop::tick::observe;
use serde::{Serialize, de::DeserializeOwned};

const NOW: Now = Now::fixed(1_795_218_410_413, 3600);
/// A value that must never be written down.
const SECRET: &str = "planted-secret-7f3a9c";

/// A reply holds one move or none: it reads back as it is, and nothing in it makes it free, forges a line of the journal
/// or hides on a screen.
pub fn reply(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(decided) = parse_reply(&text) else { return };
    let flat = decided.to_json();
    assert_eq!(Move::from_json(&flat).as_ref(), Ok(&decided));
    let twice = parse_reply(&format!("{text}\n{flat}"));
    assert!(twice.is_err() || text.contains(&flat.to_string()), "two moves are taken for one");
    assert_eq!(parse_reply(&flat.to_string()), Ok(decided.clone()));
    assert!(!decided.why.trim().is_empty() && decided.why.len() <= MAX_TEXT_BYTES);
    let caps = match &decided.action {
        Action::WriteGoal { body, .. } | Action::WritePlaybook { body } => (body.len(), MAX_BODY_BYTES),
        Action::WriteSensor { script, .. } => (script.len(), MAX_BODY_BYTES),
        Action::StartWorker { brief, .. } => (brief.len(), MAX_BODY_BYTES),
        Action::Ask { text, .. } | Action::TellWorker { text, .. } => (text.len(), MAX_TEXT_BYTES),
        _ => (0, 0),
    };
    assert!(caps.0 <= caps.1, "{caps:?}");
    is_never_free(&decided);
    let refused = MoveOutcome::Refused { why: text.chars().take(300).collect() };
    let line = entry::line(NOW, "b1", &decided, &refused);
    assert_eq!(line.lines().count(), 1, "{line:?}");
    assert_eq!(entry::parse(&line).map(|entry| entry.beat), Some("b1".to_owned()), "{line:?}");
    assert!(!line.chars().any(is_hidden), "{line:?}");
    if let Action::Run(run) = &decided.action {
        assert!(!quote_argv(&run.full_argv()).chars().any(is_hidden));
    }
}

/// Without a rule of the user, what cannot be undone is never free.
fn is_never_free(decided: &Move) {
    let data_dir = Path::new("/home/ada/.local/state/looop");
    let facts = PolicyFacts {
        rules: &PolicyRules::default(),
        tainted: false,
        data_dir,
        place: Some(data_dir),
        protected: &[PathBuf::from("/home/ada/.config/looop.json")],
        resolve: Path::to_path_buf,
        was_truncated: false,
        sandbox: false,
        proposed: false,
        repo_listed: false,
        first_paid: false,
        free_check: false,
    };
    let acts = matches!(decided.action.tag(), "run" | "write_sensor" | "write_playbook" | "start_worker");
    assert!(!acts || policy::judge(decided, &facts) != PolicyDecision::Free, "{decided:?}");
}

/// Whatever a sensor prints is a reading: one item, without a secret, that reads back with the digest it had.
pub fn sensor(bytes: &[u8]) {
    static SECRETS: OnceLock<Secrets> = OnceLock::new();
    let secrets =
        SECRETS.get_or_init(|| Secrets::of(&[("PLANTED_TOKEN".to_owned(), SECRET.to_owned())], &|_| false));
    let end = |stdout: &[u8], stderr: &[u8], exit: ProcessExit| ChildResult {
        exit,
        stdout: stdout.to_vec(),
        stderr: stderr.to_vec(),
        took_ms: 7,
    };
    for ended in [end(bytes, b"", ProcessExit::Code(0)), end(b"", bytes, ProcessExit::Code(3))] {
        let is_failed = ended.exit != ProcessExit::Code(0);
        let reading = observe::interpret(ended, Trust::Untrusted, secrets);
        assert!(!(is_failed && reading.ok) && reading.trust == Trust::Untrusted);
        let text = serde_json::to_string(&reading).expect("a reading has a form");
        assert!(!text.contains(SECRET), "{text}");
        let back: SensorReading = serde_json::from_str(&text).expect("a reading reads back");
        assert_eq!(back.digest(), reading.digest(), "{text}");
        if is_failed {
            let other =
                observe::interpret(end(b"", b"other words", ProcessExit::Code(3)), Trust::Untrusted, secrets);
            assert_eq!(other.digest(), reading.digest(), "what varies must not wake the loop");
        }
    }
    let text = String::from_utf8_lossy(bytes);
    if let Ok(stamped) = stamp_untrusted(&text)
        && let Ok(header) = SensorHeader::parse(stamped.as_bytes())
    {
        assert_eq!(header.trust, Trust::Untrusted, "{stamped:?}");
    }
}

/// A config is read strictly: with a key that nobody knows it is refused, and what is read is within its bounds.
pub fn config(bytes: &[u8]) {
    static ENV: OnceLock<Env> = OnceLock::new();
    let env = ENV.get_or_init(|| Env::read().expect("an environment"));
    let text = String::from_utf8_lossy(bytes);
    let path = PathBuf::from("/home/ada/.config/looop.json");
    match config::parse(env, path.clone(), Some(&text)) {
        Ok(config) => {
            assert!(config.interval_ms >= 1000);
            let limits = &config.settings.limits;
            let spans = [
                limits.sensor_timeout_ms,
                limits.decide_timeout_ms,
                limits.run_timeout_ms,
                limits.approval_ttl_ms,
            ];
            assert!(spans.iter().all(|ms| (1..=366 * 86_400_000).contains(ms)), "{limits:?}");
            assert!(config.settings.budget.day_micros.is_none_or(|micros| micros <= 1_000_000_000_000_000));
            let odd = text.trim_start().replacen('{', "{\"surprise_key\": 1,", 1).replacen("1,}", "1}", 1);
            assert!(config::parse(env, path, Some(&odd)).is_err(), "an unknown key is passed over: {odd}");
        }
        Err(error) => assert!(!format!("{error:#}").trim().is_empty()),
    }
}

/// A leanfile that is read has tasks that can be told apart, and read over itself it is the same.
pub fn leanfile(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let (path, base) = (Path::new("fix.toml").to_owned(), Path::new("/home/ada/src/app"));
    let own = LeanfileSource { place: path.clone(), path, text, ..LeanfileSource::default() };
    let Ok(read) = leanfile::combined(std::slice::from_ref(&own), base) else { return };
    for (at, task) in read.leanfile.tasks.iter().enumerate() {
        assert!(!task.prompt.trim().is_empty() && !task.name.trim().is_empty());
        assert!(read.leanfile.tasks[..at].iter().all(|other| other.name != task.name));
    }
    let twice = leanfile::combined(&[own.clone(), own], base).expect("it was read once");
    assert_eq!(format!("{:?}", twice.leanfile), format!("{:?}", read.leanfile));
}

/// An ask or an answer reads back as it is, an approval fits nothing but an approval, and nothing of it hides on a screen.
pub fn asks(bytes: &[u8]) {
    reads_back::<AnswerFile>(bytes);
    let Some(ask) = reads_back::<QuestionFile>(bytes) else { return };
    for unix_ms in [i64::MIN, 0, i64::MAX] {
        ask.state(None, NOW.at(unix_ms));
    }
    let Some(approval) = &ask.approval else { return };
    let scope = &approval.scope;
    let bound = approval.bound_hash(ask.id.as_str(), 1).unwrap();
    assert_ne!(bound, approval.bound_hash(ask.id.as_str(), 2).unwrap());
    assert_ne!(bound, approval.bound_hash("another", 1).unwrap());
    let other =
        looop::rules::beat::scope::ApprovalScope { action: format!("{} ", scope.action), ..scope.clone() };
    assert_ne!(other.digest(), scope.digest());
    let rows = looop::rules::beat::card::approval(&ask, approval, NOW.at(0));
    let shown: Vec<String> = rows.iter().flat_map(|row| row.lines(Some(40))).collect();
    assert!(!shown.iter().any(|text| text.chars().any(is_hidden)), "{shown:?}");
}

/// Each line as any of looop's own records: it is refused or reads back, and no number in it is too odd for the rules.
pub fn records(bytes: &[u8]) {
    for line in bytes.split(|byte| *byte == b'\n').take(20) {
        reads_back::<Charge>(line);
        if let Some(timer) = reads_back::<Schedule>(line) {
            for (fired, now) in
                [(None, 0), (Some(i64::MIN), i64::MAX), (Some(i64::MAX), i64::MIN), (Some(0), NOW.unix_ms)]
            {
                timer.next_ms(fired, NOW.at(now));
                timer.is_spent(fired, NOW.at(now));
            }
        }
        if let Some(lease) = reads_back::<Lease>(line) {
            for mono_ms in [i64::MIN, 0, i64::MAX] {
                let here = Here { host: lease.host.clone(), boot: lease.boot.clone(), mono_ms, unix_ms: 0 };
                lease.status(&here, Alive::Unknown);
            }
        }
        if let Some(beat) = reads_back::<LoopState>(line) {
            stands(&beat);
        }
    }
    let text = String::from_utf8_lossy(bytes);
    for entry in text.lines().filter_map(entry::parse) {
        let found = entry::find(&text, &entry.beat).expect("a line that parses is found");
        assert_eq!(entry::parse(found).map(|found| found.beat), Some(entry.beat));
    }
}

/// A memory with odd numbers is called absurd, or the rules can go on with it.
fn stands(beat: &LoopState) {
    if beat.problem().is_some() {
        return;
    }
    assert!(beat.next_ms(NOW) > beat.last_ms && beat.next_ms(NOW) >= NOW.unix_ms);
    let mut observed = Observed::default();
    observed.items = observed.world.items();
    observed.changed = diff::items(&beat.baseline, &observed.items);
    observed.user_files = observed.world.user_files_digest();
    gate::judge(beat, &observed, None, &Limits::default(), NOW);
    gate::next_beat_due_ms(beat, &Limits::default(), NOW);
}

/// What can be read is written and read again as the same.
fn reads_back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(bytes).ok()?;
    let text = serde_json::to_string(&value).expect("what was read has a form");
    assert_eq!(serde_json::from_str::<T>(&text).ok().as_ref(), Some(&value), "{text}");
    Some(value)
}
