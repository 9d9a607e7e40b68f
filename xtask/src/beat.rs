//! Times of a beat against floors measured in the same run: `cargo xtask bench beat [--quick]`.
//!
//! Each figure is a median. A ratio sets looop against a program that does only the unavoidable part, run in
//! turn with it, so that the machine's mood hits both. The run fails when a target is missed. `--quick` takes fewer
//! rounds and is for machines that are busy: it fails only at a third over a ratio's target and at four times a plain
//! time's, but says of each figure that is over its target.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

struct Run<'a> {
    looop: &'a Path,
    rounds: usize,
    /// How far over its target a ratio may be, and a plain time.
    slack: (f64, f64),
    missed: usize,
}

/// Measures all of it; returns how many targets were missed.
pub fn run(looop: &Path, quick: bool) -> usize {
    let (rounds, slack) = if quick { (7, (1.33, 4.0)) } else { (31, (1.0, 1.0)) };
    let mut run = Run { looop, rounds, slack, missed: 0 };
    println!("cargo xtask bench beat{}", if quick { " --quick" } else { "" });
    println!("{:<64} {:>10} {:>10}  target", "what", "measured", "floor");
    // First: a commit makes some twenty files, and a file system without a journal looks at each place of a file that
    // was removed within the last minutes before it makes one. The profiles of the other rows have thousands.
    changed_tick(&mut run, false);
    changed_tick(&mut run, true);
    empty_tick(&mut run);
    for sensors in [100, 500] {
        unchanged_tick(&mut run, sensors, false);
        unchanged_tick(&mut run, sensors, true);
    }
    status(&mut run);
    prompt_prefix(&mut run);
    run.missed
}

impl Run<'_> {
    /// Prints a row; a figure over its target, slack included, is a miss.
    fn row(&mut self, what: &str, measured: &str, floor: &str, figure: f64, target: f64, unit: &str) {
        let slack = if unit == " ms" { self.slack.1 } else { self.slack.0 };
        let met = figure <= target * slack;
        self.missed += usize::from(!met);
        let verdict = match met {
            true if figure <= target => "met",
            true => "over its target, within what --quick allows",
            false => "MISSED",
        };
        println!("{what:<64} {measured:>10} {floor:>10}  {figure:.2}{unit} of {target}{unit}: {verdict}");
    }
}

/// A profile whose runner always says noop, in a directory that goes away with it.
struct Profile<'a> {
    looop: &'a Path,
    dir: tempfile::TempDir,
    is_sandboxed: bool,
}

impl<'a> Profile<'a> {
    /// One without boxes: what is beside it in the table has none either.
    fn new(run: &Run<'a>) -> Profile<'a> {
        Profile::with(run, false)
    }

    fn with(run: &Run<'a>, is_sandboxed: bool) -> Profile<'a> {
        let profile = Profile { looop: run.looop, dir: tempfile::tempdir().unwrap(), is_sandboxed };
        // `true` after reading nothing is the fastest thing that can answer: what is left is looop.
        profile.reply(r#"{"move":"noop","why":"w"}"#);
        profile.run(&["init"]);
        for file in ["goals/setup.md", "goals/playbook-daily.md", "sensors/today.sh"] {
            fs::remove_file(profile.data().join(file)).unwrap();
        }
        profile
    }

    fn reply(&self, text: &str) {
        let reply = self.dir.path().join("reply");
        fs::write(&reply, text).unwrap();
        let level = if self.is_sandboxed { "auto" } else { "none" };
        let config = serde_json::json!({
            "sandbox": { "decide": level, "sensor": level },
            "path": PATH, "decide": "cat", "limits": { "decides_per_hour": 100_000 },
            "runners": { "cat": { "decide": ["cat", reply] } },
        });
        fs::write(self.dir.path().join("looop.json"), config.to_string()).unwrap();
        fs::set_permissions(self.dir.path().join("looop.json"), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.looop);
        let dir = self.dir.path();
        command.args(args).env_clear().env("PATH", PATH).env("HOME", dir).stdin(Stdio::null());
        command.env("LOOOP_DATA_DIR", self.data()).env("LOOOP_CONFIG", dir.join("looop.json"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) {
        assert!(self.command(args).status().unwrap().success(), "looop {args:?}");
    }

    /// Lines of the journal.
    fn moves(&self) -> usize {
        fs::read_to_string(self.data().join("journal.md")).map_or(0, |text| text.lines().count())
    }

    fn sensors(&self, count: usize) {
        for i in 0..count {
            write_script(&self.data().join(format!("sensors/s{i}.sh")), "echo '{\"n\":1}'");
        }
    }
}

fn write_script(path: &Path, line: &str) {
    fs::write(path, format!("#!/bin/sh\n{line}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn time(mut command: Command) -> Duration {
    let start = Instant::now();
    assert!(command.status().unwrap().success(), "{command:?}");
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

fn ms(value: f64) -> String {
    format!("{value:.2} ms")
}

fn empty_tick(run: &mut Run) {
    let profile = Profile::new(run);
    profile.run(&["tick"]);
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..run.rounds * 3 {
        ours.push(time(profile.command(&["tick"])));
        floor.push(time(Command::new("/bin/true")));
    }
    let (ours, floor) = (median(ours), median(floor));
    run.row(
        "unchanged tick, 0 sensors, whole process (floor: /bin/true)",
        &ms(ours),
        &ms(floor),
        ours,
        10.0,
        " ms",
    );
}

fn unchanged_tick(run: &mut Run, sensors: usize, is_sandboxed: bool) {
    let profile = Profile::with(run, is_sandboxed);
    profile.sensors(sensors);
    profile.run(&["tick"]);
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    let list = format!("ls {}/sensors/*.sh | xargs -P$(nproc) -n1 sh", profile.data().display());
    for _ in 0..run.rounds {
        ours.push(time(profile.command(&["tick"])));
        let mut xargs = Command::new("sh");
        xargs.args(["-c", &list]).stdout(Stdio::null());
        floor.push(time(xargs));
    }
    let (ours, floor) = (median(ours), median(floor));
    let suffix = if is_sandboxed { " in sandboxes" } else { "" };
    let what = format!("unchanged tick, {sensors} sensors{suffix} (floor: xargs -P$(nproc) -n1 sh)");
    run.row(&what, &ms(ours), &ms(floor), ours / floor, 1.15, "x");
}

/// A deciding beat over what it cannot avoid: an idle beat, its runner, and as many fsyncs as it makes.
fn changed_tick(run: &mut Run, is_sandboxed: bool) {
    let profile = Profile::with(run, is_sandboxed);
    let (mut ours, mut idle, mut runner, mut syncs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..run.rounds {
        let body =
            format!("{{\"move\":\"write_goal\",\"id\":\"g\",\"body\":\"round {round}\",\"why\":\"w\"}}");
        profile.reply(&body);
        fs::write(profile.data().join("goals/work.md"), format!("the world of round {round}\n")).unwrap();
        let before = profile.moves();
        ours.push(time(profile.command(&["tick"])));
        assert_eq!(profile.moves(), before + 1, "what is timed is a deciding beat");
        profile.reply(r#"{"move":"noop","why":"w"}"#);
        profile.run(&["tick"]);
        idle.push(time(profile.command(&["tick"])));
        runner.push(time(runner_alone(&profile.dir.path().join("reply"), is_sandboxed)));
        syncs.push(fsync(profile.dir.path()));
    }
    let (ours, idle, runner, sync) = (median(ours), median(idle), median(runner), median(syncs));
    let floor = idle + runner + sync * FSYNCS as f64;
    let suffix = if is_sandboxed { " in a sandbox" } else { "" };
    let what = format!("changed tick over an idle one, its runner{suffix} and its {FSYNCS} fsyncs");
    if is_sandboxed {
        // A whole box mounts more than bubblewrap alone does in the floor: there is no target for that.
        println!("{what:<64} {:>10} {:>10}  {:.2} ms, measured only", ms(ours), ms(floor), ours - floor);
    } else {
        run.row(&what, &ms(ours), &ms(floor), ours - floor, 15.0, " ms");
    }
}

/// The runner of a beat without looop; in a box as bubblewrap alone makes it, where there is one.
fn runner_alone(reply: &Path, is_sandboxed: bool) -> Command {
    const BOX: &str = "--unshare-user --unshare-pid --unshare-ipc --ro-bind / / --dev /dev --proc /proc cat";
    let has_bwrap =
        is_sandboxed && Command::new("bwrap").arg("--version").stdout(Stdio::null()).status().is_ok();
    let mut command = Command::new(if has_bwrap { "bwrap" } else { "cat" });
    if has_bwrap {
        command.args(BOX.split(' '));
    }
    command.arg(reply).stdout(Stdio::null());
    command
}

/// What a `write_goal` beat makes; a test counts them with strace.
const FSYNCS: usize = 10;

/// The median fsync of a small file's write and of its directory: each replace makes one of both.
fn fsync(dir: &Path) -> Duration {
    use std::io::Write;
    let start = Instant::now();
    let mut file = fs::File::create(dir.join("sync.tmp")).unwrap();
    file.write_all(&[b'x'; 2000]).unwrap();
    file.sync_all().unwrap();
    fs::rename(dir.join("sync.tmp"), dir.join("sync")).unwrap();
    fs::File::open(dir).unwrap().sync_all().unwrap();
    start.elapsed() / 2
}

fn status(run: &mut Run) {
    let profile = Profile::new(run);
    profile.run(&["tick"]);
    let line = "2026-11-21 09:15:03 +01:00 noop — done — nothing to do [abc]\n";
    fs::write(profile.data().join("journal.md"), line.repeat(100_000)).unwrap();
    let mut times = Vec::new();
    for _ in 0..run.rounds * 3 {
        times.push(time(profile.command(&["status", "--json"])));
    }
    let ours = median(times);
    run.row("status --json over 100,000 journal lines", &ms(ours), "", ours, 5.0, " ms");
}

/// The share of the prompt's bytes that stay the same when one sensor changes, as a provider's cache sees it.
fn prompt_prefix(run: &mut Run) {
    let profile = Profile::new(run);
    for i in 0..20 {
        fs::write(
            profile.data().join(format!("goals/g{i:02}.md")),
            format!("---\ngoal: {i}\n---\n{}", "words of a goal\n".repeat(64)),
        )
        .unwrap();
    }
    let value = profile.dir.path().join("value");
    for i in 0..20 {
        write_script(
            &profile.data().join(format!("sensors/s{i:02}.sh")),
            &format!("cat {}", value.display()),
        );
    }
    let prompt = |text: &str| {
        fs::write(&value, text).unwrap();
        let output = profile.command(&["tick", "--dry-run"]).stdout(Stdio::piped()).output().unwrap();
        assert!(output.status.success());
        output.stdout
    };
    let first = prompt(r#"{"signal":{"n":1},"detail":{"note":"some words of detail"}}"#);
    let second = prompt(r#"{"signal":{"n":2},"detail":{"note":"some words of detail"}}"#);
    let same = first.iter().zip(&second).take_while(|(a, b)| a == b).count();
    let changed = 100.0 - same as f64 * 100.0 / first.len() as f64;
    let what = "prompt: bytes from the first change on, 20 goals, 20 sensors";
    run.row(what, &format!("{} B", first.len() - same), &format!("{} B", first.len()), changed, 20.0, " %");
}
