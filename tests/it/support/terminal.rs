//! A user's desk: a tmux server of its own, a profile whose program knows it, and workers made of their files alone.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use looop::rules::name::Name;
use looop::rules::process::Started;
use looop::rules::worker::{Flag, Phase, Spec, WorkerLimits, WorkerState};
use looop::store::json_file;
use looop::store::layout::{Layout, WorkerDir};
use looop::store::{lock::Held, workers};
use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use serde_json::json;

use super::profile::{LOOOP, Profile, Ran, program, wait_until};

/// A tmux server that ends with the test.
struct Server {
    dir: tempfile::TempDir,
}

/// A profile at a tmux server that has one session `mine` with one window `mine`.
pub struct TmuxFixture {
    /// The profile.
    pub profile: Profile,
    data: PathBuf,
    server: Rc<Server>,
    /// What keeps the workers looking alive.
    locks: RefCell<BTreeMap<Name, File>>,
}

/// What a worker is started with that has nothing but a command.
pub fn spec(id: &Name, kind: &str) -> Spec {
    let spec = json!({
        "id": id, "kind": kind, "argv": ["/bin/true"], "cwd": "/", "env": [], "verify": [], "claims": [],
        "limits": WorkerLimits::default(), "by": "human", "created_ms": 1_795_218_410_413_i64,
    });
    serde_json::from_value(spec).unwrap()
}

/// A worker that is only its files.
pub struct Mock<'a> {
    terminal: &'a TmuxFixture,
    id: Name,
    dir: WorkerDir,
}

impl Server {
    fn tmux(&self) -> Command {
        let mut tmux = Command::new("tmux");
        tmux.args(["-u", "-f", "/dev/null", "-S"]).arg(self.dir.path().join("s"));
        tmux.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LANG", "C.UTF-8");
        tmux.env("HOME", self.dir.path()).current_dir(self.dir.path()).stdin(Stdio::null());
        tmux
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.tmux().arg("kill-server").output());
    }
}

impl TmuxFixture {
    /// A desk whose data dir has this name.
    pub fn new(data: &str) -> TmuxFixture {
        let terminal = TmuxFixture::at(data, Rc::new(Server { dir: tempfile::tempdir().unwrap() }));
        terminal.serve();
        terminal
    }

    /// Another profile at the same server.
    pub fn beside(&self, data: &str) -> TmuxFixture {
        TmuxFixture::at(data, self.server.clone())
    }

    fn at(data: &str, server: Rc<Server>) -> TmuxFixture {
        let mut profile = Profile::empty();
        let data = profile.path(data);
        profile.var("LOOOP_DATA_DIR", data.to_str().unwrap());
        profile.var("TMUX", &format!("{},1,0", server.dir.path().join("s").display()));
        profile.var("TMUX_TMPDIR", server.dir.path().to_str().unwrap());
        profile.script(&[r#"{"move":"noop","why":"nothing"}"#]);
        profile.set_up();
        // A pulse at this desk is not the first one.
        fs::write(data.join("pulse.json"), r#"{"at_ms":1}"#).unwrap();
        TmuxFixture { profile, data, server, locks: RefCell::default() }
    }

    /// Starts the server. Its windows stay when their program ends, so that tests depend on none; what runs in
    /// them may name them, as some people have it.
    pub fn serve(&self) {
        self.tmux(&["new-session", "-d", "-s", "mine", "-n", "mine", "-x", "200", "-y", "50", "sleep 1000"]);
        self.tmux(&["set-option", "-g", "remain-on-exit", "on"]);
        self.tmux(&["set-option", "-g", "allow-rename", "on"]);
    }

    /// True while the server runs.
    pub fn is_served(&self) -> bool {
        self.server.tmux().arg("list-sessions").output().unwrap().status.success()
    }

    /// Runs tmux at this server and returns what it prints.
    #[track_caller]
    pub fn tmux(&self, args: &[&str]) -> String {
        let ran: Ran = self.server.tmux().args(args).output().unwrap().into();
        ran.ok().stdout
    }

    /// The value of `TMUX` in this server's windows.
    pub fn tmux_value(&self) -> String {
        format!("{},1,0", self.server.dir.path().join("s").display())
    }

    /// The data dir.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Opens a window of this name with a shell in the profile, in which `looop` is known, and returns its pane.
    pub fn shell(&self, name: &str) -> String {
        let bin = self.profile.path("bin");
        if !bin.exists() {
            fs::create_dir(&bin).unwrap();
            std::os::unix::fs::symlink(LOOOP, bin.join("looop")).unwrap();
        }
        let plain = self.profile.command(&[]);
        // tmux gives a window the PATH of whoever opens it, whatever it is told.
        let path = format!("PATH={}:/usr/local/bin:/usr/bin:/bin", bin.display());
        let mut args = vec!["env".to_owned(), path];
        for (key, value) in plain.get_envs().filter(|(key, _)| *key != "TMUX" && *key != "PATH") {
            args.push(format!("{}={}", key.to_str().unwrap(), value.unwrap().to_str().unwrap()));
        }
        args.extend(["PS1=$ ".to_owned(), "sh".to_owned()]);
        let mut all = vec!["new-window", "-d", "-P", "-F", "#{pane_id}", "-n", name];
        all.extend(args.iter().map(String::as_str));
        self.tmux(&all).trim().to_owned()
    }

    /// Types a line into a pane.
    pub fn type_line(&self, pane: &str, line: &str) {
        self.tmux(&["send-keys", "-t", pane, "-l", line]);
        self.tmux(&["send-keys", "-t", pane, "Enter"]);
    }

    /// Waits until a pane shows a text, and returns all that it shows.
    #[track_caller]
    pub fn wait_for(&self, pane: &str, text: &str) -> String {
        let screen = || self.tmux(&["capture-pane", "-p", "-J", "-t", pane]);
        let start = std::time::Instant::now();
        wait_until(&format!("{text:?} on the screen"), || {
            let shown = screen();
            assert!(start.elapsed().as_secs() < 50, "no {text:?} in:\n{shown}");
            shown.contains(text)
        });
        screen()
    }

    /// The names of all windows, in tmux's order.
    pub fn windows(&self) -> Vec<String> {
        let names = self.tmux(&["list-windows", "-a", "-F", "#{window_name}"]);
        names.lines().map(str::to_owned).collect()
    }

    /// The names of the windows with a flag.
    pub fn flags(&self) -> Vec<String> {
        self.windows().into_iter().filter(|name| name.starts_with('⚑')).collect()
    }

    /// What a format gives for the windows of a name, a line each.
    pub fn of(&self, window: &str, format: &str) -> String {
        let all = self.tmux(&["list-panes", "-a", "-F", &format!("#{{window_name}} | {format}")]);
        let own = all.lines().filter_map(|line| line.strip_prefix(window)?.strip_prefix(" | "));
        own.collect::<Vec<_>>().join("\n")
    }

    /// Shows the workers' calls, and expects windows of exactly these names to stand with a flag then.
    #[track_caller]
    pub fn surfaces(&self, flags: &[&str]) {
        self.surface().ok();
        assert_eq!(self.flags(), flags);
    }

    /// Shows the workers' calls, as a supervisor has it done.
    pub fn surface(&self) -> Ran {
        self.profile.looop(&["__sync-windows"])
    }

    /// The same in another locale.
    pub fn surface_in(&self, locale: &str) -> Ran {
        self.profile.command(&["__sync-windows"]).env("LANG", locale).output().unwrap().into()
    }

    /// The same, not waited for.
    pub fn start_surface(&self) -> Child {
        self.profile.command(&["__sync-windows"]).spawn().unwrap()
    }

    /// The same by a copy of the program in whose place another one stands before it has done anything.
    pub fn surface_replaced_by(&self, script: &str) {
        let (copy, new) = (self.profile.path("looop copy"), self.profile.path("new"));
        // Not by this process: a child that another test starts meanwhile would hold it open, and nobody could run it.
        assert!(Command::new("cp").arg(LOOOP).arg(&copy).status().unwrap().success());
        program(&new, script);
        let lock = File::create(self.data.join("surface.lock")).unwrap();
        lock.lock().unwrap();
        let mut command = self.profile.other_command(copy.to_str().unwrap(), &["__sync-windows"]);
        let mut child = command.spawn().unwrap();
        let exe = format!("/proc/{}/exe", child.id());
        wait_until("the copy runs", || fs::read_link(&exe).is_ok_and(|path| path == copy));
        fs::rename(new, copy).unwrap();
        drop(lock);
        assert!(child.wait().unwrap().success());
    }

    /// A worker that lives, made when it is first named.
    pub fn worker(&self, id: &str) -> Mock<'_> {
        let id: Name = id.parse().unwrap();
        let mock = Mock { terminal: self, dir: self.layout().worker(&id), id };
        if !mock.dir.path().exists() {
            mock.make();
        }
        mock
    }

    /// All workers as the library lists them.
    pub fn workers(&self) -> Vec<workers::Worker> {
        workers::list(&self.layout()).unwrap().0
    }

    fn layout(&self) -> Layout {
        Layout::new(self.data.clone(), self.profile.path("cache"))
    }

    /// What hostile texts would have made, wherever they would have run.
    pub fn touched(&self) -> Vec<PathBuf> {
        let [home, root] = ["home", ""].map(|name| self.profile.path(name));
        let outside = [env!("CARGO_MANIFEST_DIR"), "/"].map(Path::new);
        let dirs = [self.server.dir.path(), &self.data, &home, &root].into_iter().chain(outside);
        let files = dirs.flat_map(|dir| ["x", "y", "z"].map(|name| dir.join(name)));
        files.filter(|path| path.exists()).collect()
    }
}

/// Makes the files of a worker that a user started with a command of their own; returns what holds its lock.
pub fn create_worker(layout: &Layout, id: &Name, created_ms: i64) -> Held {
    let spec = json!({
        "id": id, "kind": "command", "argv": ["/bin/true"], "cwd": "/", "env": [], "verify": [], "claims": [],
        "limits": WorkerLimits::default(), "by": "human", "created_ms": created_ms,
    });
    fs::create_dir_all(layout.workers()).unwrap();
    let (staged, _preparing) = workers::prepare_dir(layout, id).unwrap();
    workers::create(layout, &serde_json::from_value(spec).unwrap(), "", &staged).unwrap().unwrap()
}

impl Mock<'_> {
    fn make(&self) {
        let spec = spec(&self.id, "command");
        let layout = self.terminal.layout();
        fs::create_dir_all(layout.workers()).unwrap();
        let (staged, _preparing) = workers::prepare_dir(&layout, &self.id).unwrap();
        let _held = workers::create(&layout, &spec, "", &staged).unwrap().unwrap();
        let lock = File::open(self.dir.alive()).unwrap();
        lock.lock().unwrap();
        self.terminal.locks.borrow_mut().insert(self.id.clone(), lock);
        let supervisor = Started { pid: 0, start: 0, boot: String::new() };
        let state = WorkerState {
            phase: Phase::Running,
            ..WorkerState::new(self.id.clone(), spec.created_ms, supervisor)
        };
        workers::save_state(&self.dir, &state).unwrap();
    }

    /// Changes what it was started with.
    pub fn change_spec(&self, change: impl FnOnce(&mut Spec)) -> &Self {
        let mut spec: Spec = json_file::read_json(&self.dir.spec()).unwrap().unwrap();
        change(&mut spec);
        fs::write(self.dir.spec(), json_file::json_text(&spec).unwrap()).unwrap();
        self
    }

    /// Makes it one of another tmux server.
    pub fn in_tmux(&self, value: &str) -> &Self {
        self.change_spec(|spec| spec.tmux = Some(value.to_owned()))
    }

    /// Changes where it stands.
    pub fn change(&self, change: impl FnOnce(&mut WorkerState)) {
        let mut state: WorkerState = json_file::read_json(&self.dir.state()).unwrap().unwrap();
        change(&mut state);
        workers::save_state(&self.dir, &state).unwrap();
    }

    /// Raises its flag of this number.
    pub fn flag(&self, nth: u32, text: &str) {
        self.flag_at(nth, text, 0);
    }

    /// The same so many milliseconds later.
    pub fn flag_at(&self, nth: u32, text: &str, later_ms: i64) {
        let at_ms = 1_795_218_420_000 + later_ms;
        let flag = Flag { text: text.to_owned(), at_ms, nth, guess: false };
        self.change(|state| {
            (state.phase, state.flag, state.flags) = (Phase::Waiting, Some(flag), nth);
        });
    }

    /// Lowers its flag and takes its ask back.
    pub fn unflag(&self) {
        self.change(|state| (state.phase, state.flag, state.ask) = (Phase::Running, None, None));
    }

    /// Ends its supervisor, in effect.
    pub fn die(&self) {
        self.terminal.locks.borrow_mut().remove(&self.id);
    }
}

/// A user in front of a session.
pub struct Human {
    child: Box<dyn portable_pty::Child + Send + Sync>,
    screen: Arc<Mutex<vt100::Parser>>,
    _pty: Box<dyn portable_pty::MasterPty + Send>,
}

impl Human {
    /// Attaches a client to a session, in a terminal of its own.
    pub fn attach(terminal: &TmuxFixture, session: &str) -> Human {
        let size = PtySize { rows: 50, cols: 200, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        let home = terminal.server.dir.path().to_str().unwrap();
        let mut command = CommandBuilder::new("tmux");
        command.args(["-u", "-S", &format!("{home}/s"), "attach-session", "-t", session]);
        command.env_clear();
        let path = "/usr/local/bin:/usr/bin:/bin";
        for (key, value) in [("PATH", path), ("LANG", "C.UTF-8"), ("TERM", "xterm"), ("HOME", home)] {
            command.env(key, value);
        }
        let child = pair.slave.spawn_command(command).unwrap();
        let parser = vt100::Parser::new(50.try_into().unwrap(), 200.try_into().unwrap(), 0);
        let screen = Arc::new(Mutex::new(parser));
        let (drawn, mut reader) = (screen.clone(), pair.master.try_clone_reader().unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                drawn.lock().unwrap().process(&buffer[..count]);
            }
        });
        Human { child, screen, _pty: pair.master }
    }

    /// What the terminal shows.
    pub fn screen(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }
}

impl Drop for Human {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
