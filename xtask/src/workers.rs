//! Times and memory of workers, in numbers and alone: `cargo xtask bench workers [--quick]`.
//!
//! Each figure is a median, and what has a rival in Debian runs in turn with it. The run fails when a target is
//! missed. `--quick` takes fewer rounds over fewer workers and, for machines that are busy, fails only at four times a
//! target's time, but says of each time that is over its target. It measures the release build, whose supervisors use more memory than
//! those of the `dist` build. Everything that it starts ends with it, also when it fails.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// How many workers live at once, and how many were put away; with `--quick`, so many live at once.
const MANY: usize = 1_000;
const QUICK_LIVE: usize = 200;
/// How long anything may take before it counts as broken.
const WAIT_LIMIT: Duration = Duration::from_secs(30);

struct Run<'a> {
    looop: &'a Path,
    rounds: usize,
    slack: f64,
    /// How many workers live at once.
    live: usize,
    /// The most private memory of a supervisor, in kB.
    memory: f64,
    missed: usize,
}

/// Measures all of it; returns how many targets were missed.
pub fn run(looop: &Path, quick: bool) -> usize {
    let (rounds, slack, live, memory) =
        if quick { (11, 4.0, QUICK_LIVE, 600.0) } else { (41, 1.0, MANY, 400.0) };
    let mut run = Run { looop, rounds, slack, live, memory, missed: 0 };
    println!("cargo xtask bench workers{}", if quick { " --quick" } else { "" });
    println!("{:<64} {:>10}  target", "what", "measured");
    first_byte(&mut run);
    past_workers(&mut run);
    live_workers(&mut run);
    run.missed
}

impl Run<'_> {
    /// Prints a row; a figure over its target is a miss. With `--quick`, a time has some slack.
    fn row(&mut self, what: &str, figure: f64, target: f64, unit: &str) {
        let most = if unit == "ms" { target * self.slack } else { target };
        let met = figure <= most;
        self.missed += usize::from(!met);
        let verdict = match met {
            true if figure <= target => "met",
            true => "over its target, within what --quick allows",
            false => "MISSED",
        };
        println!("{what:<64} {:>10}  {target} {unit}: {verdict}", format!("{figure:.2} {unit}"));
    }

    /// The median time of a command, in milliseconds.
    fn median(&self, mut one: impl FnMut() -> Duration) -> f64 {
        let mut times: Vec<Duration> = (0..self.rounds).map(|_| one()).collect();
        times.sort();
        times[times.len() / 2].as_secs_f64() * 1000.0
    }
}

/// A profile in a directory that goes away with it, together with its workers.
struct Profile<'a> {
    looop: &'a Path,
    dir: tempfile::TempDir,
}

impl<'a> Profile<'a> {
    fn new(run: &Run<'a>) -> Profile<'a> {
        Profile::at(run, tempfile::tempdir().unwrap())
    }

    fn at(run: &Run<'a>, dir: tempfile::TempDir) -> Profile<'a> {
        let profile = Profile { looop: run.looop, dir };
        let reply = profile.path("reply");
        fs::write(&reply, r#"{"move":"noop","why":"w"}"#).unwrap();
        let config = serde_json::json!({
            // The floors beside it start nothing in a box either.
            "sandbox": { "worker": "none", "verify": "none" },
            "path": PATH, "decide": "cat", "limits": { "decides_per_hour": 100_000, "workers": 2 * MANY },
            "runners": { "cat": { "decide": ["cat", reply] } },
        });
        fs::write(profile.path("looop.json"), config.to_string()).unwrap();
        fs::set_permissions(profile.path("looop.json"), fs::Permissions::from_mode(0o600)).unwrap();
        profile.run(&["init"]);
        for file in ["goals/setup.md", "goals/playbook-daily.md", "sensors/today.sh"] {
            fs::remove_file(profile.path("data").join(file)).unwrap();
        }
        profile
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn worker(&self, id: &str) -> PathBuf {
        self.path("data").join("workers").join(id)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.looop);
        command.args(args).env_clear().env("PATH", PATH).env("HOME", self.dir.path());
        command.env("LOOOP_DATA_DIR", self.path("data")).env("LOOOP_CONFIG", self.path("looop.json"));
        command.env("TMUX_TMPDIR", self.dir.path()).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) {
        assert!(self.command(args).status().unwrap().success(), "looop {args:?}");
    }

    fn time(&self, args: &[&str]) -> Duration {
        let start = Instant::now();
        self.run(args);
        start.elapsed()
    }

    fn json(&self, args: &[&str]) -> Value {
        let output = self.command(args).stdout(Stdio::piped()).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The supervisors by what the workers' states name.
    fn supervisors(&self) -> Vec<u32> {
        let entries = fs::read_dir(self.path("data").join("workers")).into_iter().flatten().flatten();
        let states = entries.filter_map(|entry| fs::read(entry.path().join("state.json")).ok());
        let parsed = states.filter_map(|state| serde_json::from_slice::<Value>(&state).ok());
        parsed.filter_map(|state| u32::try_from(state["supervisor"]["pid"].as_u64()?).ok()).collect()
    }

    /// Ends every worker. A supervisor that is told to end ends what it supervises.
    fn end_workers(&self) {
        let is_ours = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let root = self.path("data");
            line.split(|byte| *byte == 0).any(|arg| arg == root.as_os_str().as_encoded_bytes())
        };
        let ours = || self.supervisors().into_iter().filter(is_ours).collect::<Vec<_>>();
        let start = Instant::now();
        while start.elapsed() < WAIT_LIMIT {
            let left = ours();
            if left.is_empty() {
                return;
            }
            let pids = left.iter().map(u32::to_string);
            drop(Command::new("kill").arg("--").args(pids).stderr(Stdio::null()).status());
            std::thread::sleep(Duration::from_millis(100));
        }
        println!("could not end {} supervisors", ours().len());
    }
}

impl Drop for Profile<'_> {
    fn drop(&mut self) {
        let mut tmux = Command::new("tmux");
        tmux.arg("-S").arg(self.path("tmux.sock")).arg("kill-server");
        drop(tmux.stdout(Stdio::null()).stderr(Stdio::null()).status());
        self.end_workers();
    }
}

/// Waits for something that something else does, looking often.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < WAIT_LIMIT, "it never came: {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn has_bytes(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.len() > 0)
}

fn past_workers(run: &mut Run) {
    let profile = Profile::new(run);
    profile.run(&["tick"]);
    let none = run.median(|| profile.time(&["tick"]));
    let past = profile.path("data").join("workers/past");
    let mut lines = String::new();
    for i in 0..MANY {
        let dir = format!("w{i:04}@1780000000{i:03}");
        fs::create_dir_all(past.join(&dir)).unwrap();
        lines.push_str(&format!(
            "{{\"dir\":\"{dir}\",\"id\":\"w{i:04}\",\"goal\":null,\"kind\":\"command\",\"runner\":null,\
             \"by\":\"human\",\"phase\":\"exited\",\"created_ms\":1780000000{i:03},\
             \"ended_ms\":1780000100000,\"cost_micros\":0}}\n"
        ));
    }
    fs::write(past.join("index.jsonl"), lines).unwrap();
    assert_eq!(profile.json(&["ls", "--all", "--json"])["workers"].as_array().unwrap().len(), MANY);
    for (args, target) in
        [(&["ls", "--all", "--json"][..], 10.0), (&["ls", "--json"], 5.0), (&["status", "--json"], 5.0)]
    {
        let ms = run.median(|| profile.time(args));
        run.row(&format!("{} over {MANY} past workers", args.join(" ")), ms, target, "ms");
    }
    let many = run.median(|| profile.time(&["tick"]));
    run.row(&format!("a beat over {MANY} past workers, to one over none"), many / none, 2.0, "x");
}

/// From the command's start to the first byte of the worker's output on the disk.
/// In memory, ours and its rivals', where there is such a file system: a worker's start makes thirteen files, and how
/// long a disk's file system takes for one swings tenfold (ext4 without a journal looks at each place of a file that was
/// removed within the last minutes first). What it is on the disk stands beside it.
fn first_byte(run: &mut Run) {
    let on_disk = worker_first_byte(run, &Profile::new(run));
    let profile = match tempfile::tempdir_in("/dev/shm") {
        Ok(dir) => Profile::at(run, dir),
        Err(_) => Profile::new(run),
    };
    let ours = worker_first_byte(run, &profile);
    let line = |printed: &Path| format!("printf x >{}", printed.display());
    let dtach = until_first_byte(run, |count| {
        let printed = profile.path(&format!("dtach-printed{count}"));
        let mut command = Command::new("dtach");
        command.arg("-n").arg(profile.path(&format!("dtach{count}"))).args(["sh", "-c", &line(&printed)]);
        (command, printed)
    });
    let tmux = until_first_byte(run, |count| {
        let printed = profile.path(&format!("tmux-printed{count}"));
        let mut command = Command::new("tmux");
        command.arg("-S").arg(profile.path(&format!("tmux{count}"))).args(["-f", "/dev/null"]);
        command.args(["new-session", "-d", &line(&printed)]).env_remove("TMUX");
        (command, printed)
    });
    println!(
        "  beside it: dtach -n {dtach:.2} ms, tmux new-session -d {tmux:.2} ms; worker start on the disk {on_disk:.2} ms"
    );
    run.row("worker start until the first byte is in the transcript", ours, 8.0, "ms");
}

fn worker_first_byte(run: &Run, profile: &Profile) -> f64 {
    until_first_byte(run, |count| {
        profile.end_workers();
        let id = format!("first{count}");
        let printed = profile.worker(&id).join("transcript.raw");
        (profile.command(&["worker", "start", &id, "--", "printf", "x"]), printed)
    })
}

/// The median time until a command has ended and the file that it names has bytes, in milliseconds.
fn until_first_byte(run: &Run, mut one: impl FnMut(usize) -> (Command, PathBuf)) -> f64 {
    let mut count = 0;
    run.median(|| {
        // Apart, as a person starts them: what the kernel still has to do for the last one is not counted.
        std::thread::sleep(Duration::from_millis(100));
        count += 1;
        let (mut command, printed) = one(count);
        let start = Instant::now();
        assert!(command.status().unwrap().success(), "{command:?}");
        until("the first byte", || has_bytes(&printed));
        start.elapsed()
    })
}

/// A thousand workers, started side by side; their supervisors are what is measured.
fn live_workers(run: &mut Run) {
    let profile = Profile::new(run);
    let start = Instant::now();
    for i in 0..run.live {
        profile.run(&["worker", "start", &format!("w{i:04}"), "--", "sleep", "600"]);
    }
    println!(
        "  {} workers were started one after the other in {:.1} s",
        run.live,
        start.elapsed().as_secs_f64()
    );
    let rows = profile.json(&["ls", "--json"]);
    let running = rows["workers"].as_array().unwrap().iter().filter(|row| row["state"] == "running");
    assert_eq!(running.count(), run.live);
    memory(run, &profile);
    idle(run, &profile);
    for args in [&["ls"][..], &["ls", "--json"]] {
        let ms = run.median(|| profile.time(args));
        run.row(&format!("{} with {} live workers", args.join(" "), run.live), ms, 50.0, "ms");
    }
    answer(run, &profile);
    flag(run, &profile);
}

fn memory(run: &mut Run, profile: &Profile) {
    let pids = profile.supervisors();
    let mut sizes: Vec<u64> = pids.iter().map(|pid| private_kb(*pid)).collect();
    sizes.sort();
    let median = sizes[sizes.len() / 2] as f64;
    run.row("private memory of a supervisor (clean + dirty)", median, run.memory, "kB");
    run.row("private memory of the largest of them", sizes[sizes.len() - 1] as f64, run.memory, "kB");
    let threads = |pid: &u32| fs::read_dir(format!("/proc/{pid}/task")).unwrap().count();
    run.row("threads of a supervisor, at most", pids.iter().map(threads).max().unwrap() as f64, 1.0, "");
    let mut elf = [0_u8; 18];
    fs::File::open(run.looop).unwrap().read_exact(&mut elf).unwrap();
    assert_eq!((&elf[..4], elf[16]), (&b"\x7fELF"[..], 3), "the program is position-independent (ET_DYN)");
}

fn private_kb(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let lines = text.lines().filter(|l| l.starts_with("Private_Clean") || l.starts_with("Private_Dirty"));
    lines.map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()).sum()
}

/// What the supervisors use of a core while nothing happens, over some seconds.
fn idle(run: &mut Run, profile: &Profile) {
    let pids = profile.supervisors();
    let used = || pids.iter().map(|pid| on_cpu_ns(*pid)).sum::<u64>();
    let (before, start) = (used(), Instant::now());
    std::thread::sleep(Duration::from_secs(5));
    let share = (used() - before) as f64 / start.elapsed().as_nanos() as f64;
    run.row(&format!("{} idle workers in all, of one core", run.live), share * 100.0, 1.0, "%");
}

/// The time that a process ran, as its scheduler counts it.
fn on_cpu_ns(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

fn answer(run: &mut Run, profile: &Profile) {
    let script = profile.path("ask.sh");
    fs::write(&script, "while :; do looop ask 'Go on?' >>answers; done\n").unwrap();
    let dir = profile.dir.path().to_str().unwrap().to_owned();
    profile.run(&["worker", "start", "asker", "--cwd", &dir, "--", "sh", script.to_str().unwrap()]);
    let answers = profile.path("answers");
    let state = profile.worker("asker").join("state.json");
    let ask = || {
        let state: Value = serde_json::from_slice(&fs::read(&state).ok()?).ok()?;
        state["ask"].as_str().map(str::to_owned)
    };
    let mut last = None;
    let ms = run.median(|| {
        until("the next question", || ask().is_some_and(|ask| Some(ask) != last));
        last = ask();
        let before = fs::metadata(&answers).map_or(0, |meta| meta.len());
        let start = Instant::now();
        profile.run(&["answer", last.as_deref().unwrap(), "yes"]);
        until("the answer", || fs::metadata(&answers).map_or(0, |meta| meta.len()) > before);
        start.elapsed()
    });
    run.row(&format!("answer until the ask has it, among {}", run.live), ms, 50.0, "ms");
}

/// From the flag's command to the worker's window, in a tmux server of the profile's own.
fn flag(run: &mut Run, profile: &Profile) {
    let socket = profile.path("tmux.sock");
    let tmux = |args: &[&str]| {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&socket).args(["-f", "/dev/null"]).args(args).env_remove("TMUX");
        command
    };
    assert!(tmux(&["new-session", "-d", "sleep", "600"]).status().unwrap().success(), "tmux is needed");
    let windows = || {
        let output = tmux(&["list-windows", "-a", "-F", "#{window_name}"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let reach = format!("{},1,0", socket.display());
    profile
        .command(&["worker", "start", "flagged", "--", "sleep", "600"])
        .env("TMUX", &reach)
        .status()
        .unwrap();
    let mut spent: Vec<Duration> = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        profile.run(&["flag", "flagged", "look"]);
        until("the window", || windows().contains("⚑flagged"));
        spent.push(start.elapsed());
        profile.run(&["unflag", "flagged"]);
        until("the window's end", || !windows().contains("⚑flagged"));
    }
    let worst = spent.iter().max().unwrap().as_secs_f64() * 1000.0;
    run.row(
        &format!("flag until its tmux window is there, among {}, worst of 5", run.live),
        worst,
        1_000.0,
        "ms",
    );
}
