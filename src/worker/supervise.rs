//! The supervisor: the small process that owns one worker's terminal, transcript, sockets and leases.
//!
//! One thread and one `poll` loop. It runs in a session of its own and is a child subreaper, so that it outlives its
//! starter and adopts every process that its worker leaves behind. Its state is in `state.json`, replaced at each
//! transition; readers need nothing else.

mod asking;
mod conns;
mod ending;
mod meter;
mod output;
mod reporting;
mod serve;
mod stage;
mod status;

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};

use crate::agents;
use crate::model::lease::{self, Claimant, Holder, Ttl};
use crate::model::name::Name;
use crate::model::process::Started;
use crate::model::query::Scanner;
use crate::model::sandbox::Level;
use crate::model::secret::Secrets;
use crate::model::time::Now;
use crate::model::wire::WireReply;
use crate::model::worker::{Phase, Spec, WorkerState};
use crate::store::json_file;
use crate::store::layout::{Layout, WorkerDir};
use crate::store::transcript::TranscriptWriter;
use crate::store::{claims, git_watch, lock, workers};
use crate::sys::clock::{self, Deadline};
use crate::sys::process::{reaper, tree, wait};
use crate::sys::pty::{Size, Terminal};
use crate::sys::signal::SignalPipe;
use crate::sys::{detach, path, socket};
use crate::worker::secrets_pipe;
use conns::{Conn, Side};
use meter::Meter;
use reporting::ReportCount;
use stage::Stage;
use status::StatusWatch;

/// How often the supervisor checks for an answer to an open ask without a wake-up, and how often it retries a failed
/// write, in milliseconds.
const LOOK_MS: i64 = 1_000;
/// How long an unwritten last state keeps the supervisor of an ended worker alive, in milliseconds.
const LAST_MS: i64 = 10 * 60_000;
/// How many typed bytes may wait for the terminal; further ones are not read from their sockets.
const MAX_KEYS: usize = 64 * 1024;

/// One supervisor with everything that it owns.
struct Supervisor {
    layout: Layout,
    dir: WorkerDir,
    spec: Spec,
    /// Secrets that must not appear in what it writes.
    secrets: Secrets,
    state: WorkerState,
    claimant: Claimant,
    writer: TranscriptWriter,
    scanner: Scanner,
    size: Size,
    terminal: Option<Terminal>,
    keys: Vec<u8>,
    stage: Stage,
    /// The outer process of the current sandbox, if there is one.
    outer: Option<u32>,
    /// The final state, if it was decided before the processes ended.
    verdict: Option<(Phase, String)>,
    /// True if the contents of its clone were checked.
    looked: bool,
    conns: Vec<Conn>,
    /// Running helper processes of looop, which are not the worker's, and whether another one must start.
    helpers: Vec<u32>,
    helper_due: bool,
    /// The last question, and its answer if no connection was there to take it.
    question: Option<blake3::Hash>,
    unread: Option<WireReply>,
    /// When to check for an answer next.
    look: Deadline,
    /// When to write a state that is out of date or whose write failed.
    unsaved: Option<Deadline>,
    reports: ReportCount,
    /// How often the worker reported its spending.
    charges: u32,
    renew: Deadline,
    wall: Deadline,
    /// True if the program raised the flag by a status on its terminal.
    flag_by_status: bool,
    /// Pending checks of the program's terminal.
    watch: StatusWatch,
    /// The reader of its spending, if it prints the events of an agent CLI.
    meter: Option<Meter>,
    /// Until when its output may only be a redraw for another size.
    redraws: Deadline,
}

/// Runs the supervisor of a prepared worker until it has ended. Prints one line: `ok`, or why it could not start.
///
/// # Errors
/// When it could not start; the starter was notified.
pub fn run(root: PathBuf, cache: PathBuf, id: &Name) -> Result<()> {
    reaper::become_subreaper();
    let bells =
        (SignalPipe::on(&[SIGTERM, SIGINT])?, SignalPipe::on(&[SIGCHLD])?, SignalPipe::on(&[SIGHUP])?);
    let layout = Layout::new(root, cache);
    let dir = layout.worker(id);
    let secrets = secrets_pipe::heard().context("the supervisor did not receive its start message")?;
    let begun = begin(layout, &dir, secrets);
    let line = match &begun {
        Ok(_) => "ok\n".to_owned(),
        Err(error) => format!("{error:#}").replace('\n', " ") + "\n",
    };
    // If the starter is gone, it does not need the message.
    drop(std::io::stdout().write_all(line.as_bytes()).and_then(|()| std::io::stdout().flush()));
    detach::close_stdout()?;
    let (mut supervisor, human, inner, _alive) = begun?;
    while supervisor.goes_on() {
        supervisor.turn(&human, &inner, &bells.0, &bells.1)?;
    }
    supervisor.shutdown();
    // No process listens any more; with a missing path, clients know that at once.
    for socket in [dir.attach_socket(), dir.worker_socket()] {
        drop(std::fs::remove_file(socket));
    }
    Ok(())
}

/// Makes the supervisor with its two sockets, the user's first, and the lock that shows that it lives.
///
/// Not inlined: its caller's stack would hold the data of the start for the worker's whole life, and a thousand
/// supervisors may run in parallel.
#[inline(never)]
fn begin(
    layout: Layout,
    dir: &WorkerDir,
    secrets: Secrets,
) -> Result<(Supervisor, UnixListener, UnixListener, lock::Held)> {
    let alive = lock::store(&dir.alive())?;
    let (human, inner) = (bind(&dir.attach_socket())?, bind(&dir.worker_socket())?);
    // Read here, so that the reader is not on the stack below the rest of the start.
    let spec: Box<Spec> = json_file::read_json(&dir.spec())?.context("the worker has no spec.json")?;
    Ok((Supervisor::begin(layout, dir.clone(), *spec, secrets)?, human, inner, alive))
}

fn bind(path: &std::path::Path) -> Result<UnixListener> {
    socket::listen(path).with_context(|| format!("could not make the socket `{}`", path.display()))
}

impl Supervisor {
    /// Takes the leases and starts the command. On an error the worker is in the state failed.
    #[inline(never)]
    fn begin(layout: Layout, dir: WorkerDir, spec: Spec, secrets: Secrets) -> Result<Supervisor> {
        let secrets = secrets.and(Secrets::of(&spec.env, &path::is_there));
        let now = clock::now();
        let pid = std::process::id();
        let me = Started { pid, start: tree::start_of(pid).unwrap_or_default(), boot: tree::boot_id() };
        let claimant = Claimant {
            holder: Holder::Worker(spec.id.clone()),
            pid,
            pid_start: me.start,
            pid_ns: tree::pid_namespace(),
            ttl: Ttl::try_from(spec.limits.ttl_s).map_err(anyhow::Error::msg)?,
        };
        let mut state = WorkerState::new(spec.id.clone(), now.unix_ms, me);
        workers::save_state(&dir, &state)?;
        let size = Size::DEFAULT;
        let begun = TranscriptWriter::create(&dir, now.unix_ms, size.cols, size.rows, spec.limits.keep_bytes)
            .context("could not create the transcript of the worker")
            .and_then(|writer| take_leases(&layout, &spec, &claimant, &mut state).map(|()| writer))
            .and_then(|writer| {
                git_watch::begin(&dir.git_watch(), spec.sandbox.as_ref(), Some(&dir.clone_dir()))
                    .map(|()| writer)
            })
            .and_then(|writer| Ok((writer, stage::start_agent(&dir, &spec, &mut state, size)?)));
        let (writer, terminal) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                drop(claims::release(&layout, &claimant.holder, &state.leases));
                state.leases.clear();
                state.phase = Phase::Failed;
                state.why = Some(secrets.redact(&format!("{error:#}")).into_owned());
                // If that cannot be written, the worker counts as lost; the first error is the one to report.
                drop(workers::save_state(&dir, &state));
                return Err(error);
            }
        };
        let (renew_ms, wall_ms) = (claimant.ttl.ms() / 3, spec.limits.wall_ms);
        let (watch, meter) = (StatusWatch::begin(spec.limits.idle_ms), Meter::of(&spec.argv));
        let agent = state.child.as_ref().map_or(0, |child| child.pid);
        let is_full = spec.level() == Level::Full;
        let mut supervisor = Supervisor {
            layout,
            dir,
            spec,
            secrets,
            state,
            claimant,
            writer,
            scanner: Scanner::new(agents::titles()),
            size,
            terminal: Some(terminal),
            keys: Vec::new(),
            stage: Stage::Agent { pid: agent },
            outer: is_full.then_some(agent),
            verdict: None,
            looked: false,
            conns: Vec::new(),
            helpers: Vec::new(),
            helper_due: false,
            question: None,
            unread: None,
            look: Deadline::after_ms(LOOK_MS),
            unsaved: None,
            reports: ReportCount::default(),
            charges: 0,
            renew: Deadline::after_ms(renew_ms),
            wall: Deadline::after_ms(wall_ms),
            flag_by_status: false,
            watch,
            meter,
            redraws: Deadline::after_ms(0),
        };
        // From here on the command runs, and a failed write must not end its supervisor.
        supervisor.turn_to(Phase::Running);
        Ok(supervisor)
    }

    /// Returns true until the worker has ended and its last state is written, or cannot be written for too long.
    fn goes_on(&self) -> bool {
        !matches!(self.stage, Stage::Over) || (self.unsaved.is_some() && !self.wall.passed())
    }

    /// Waits for the next event and handles it. Not inlined, as [`begin`].
    #[inline(never)]
    fn turn(
        &mut self,
        human: &UnixListener,
        inner: &UnixListener,
        term: &SignalPipe,
        child: &SignalPipe,
    ) -> Result<()> {
        let ready = self.wait(human, inner, term, child)?;
        if ready.term && term.rang() {
            self.end(Phase::Killed, "the supervisor was asked to end");
        }
        if ready.output {
            self.take_output();
        }
        if ready.keys {
            self.type_keys();
        }
        // After the output, so that the last output of a process is read before its end.
        if ready.child && child.rang() {
            self.reap();
        }
        self.serve_conns(&ready.conns);
        for (listener, is_ready, side) in
            [(human, ready.human, Side::Human), (inner, ready.inner, Side::Worker)]
        {
            if is_ready {
                self.accept(listener, side);
            }
        }
        self.look_at_time();
        self.advance();
        self.tell_viewers();
        Ok(())
    }

    fn wait(
        &self,
        human: &UnixListener,
        inner: &UnixListener,
        term: &SignalPipe,
        child: &SignalPipe,
    ) -> Result<SupervisorPoll> {
        let (term_fd, child_fd) = (term.fd(), child.fd());
        let listen = |side| if self.has_room(side) { PollFlags::IN } else { PollFlags::empty() };
        let mut fds = vec![
            PollFd::new(&term_fd, PollFlags::IN),
            PollFd::new(&child_fd, PollFlags::IN),
            PollFd::new(human, listen(Side::Human)),
            PollFd::new(inner, listen(Side::Worker)),
        ];
        if let Some(output) = self.output() {
            let keys = if self.keys.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            fds.push(PollFd::new(output, PollFlags::IN | keys));
        }
        for conn in &self.conns {
            fds.push(PollFd::new(conn.stream(), conn.wants(self.keys.len() < MAX_KEYS)));
        }
        match poll(&mut fds, Some(&wait::timespec(self.wait_limit()))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("could not wait for the worker"),
        }
        let mut events = fds.iter().map(PollFd::revents);
        let mut next = || events.next().unwrap_or(PollFlags::empty());
        let some = |flags: PollFlags| !flags.is_empty();
        let (term, child, human, inner) = (some(next()), some(next()), some(next()), some(next()));
        let output = if self.output().is_some() { next() } else { PollFlags::empty() };
        Ok(SupervisorPoll {
            term,
            child,
            human,
            inner,
            output: output.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR),
            keys: output.contains(PollFlags::OUT),
            conns: self.conns.iter().map(|_| next()).collect(),
        })
    }

    /// Returns the time until the next timer.
    fn wait_limit(&self) -> std::time::Duration {
        let mut left = self.wall.left();
        if !self.state.leases.is_empty() {
            left = left.min(self.renew.left());
        }
        if self.state.ask.is_some() {
            left = left.min(self.look.left());
        }
        if let Some(unsaved) = &self.unsaved {
            left = left.min(unsaved.left());
        }
        if let Some(due) = self.status_due() {
            left = left.min(due);
        }
        for conn in &self.conns {
            left = left.min(conn.wait_limit());
        }
        // Rounded up, so that the timer has really expired when poll returns for it.
        left.min(self.stage.wait_limit()) + std::time::Duration::from_millis(1)
    }

    fn look_at_time(&mut self) {
        if self.wall.passed() {
            let why = format!("it ran for {}", crate::model::time::human_ms(self.spec.limits.wall_ms));
            self.end(Phase::Failed, &why);
        }
        if !self.state.leases.is_empty() && self.renew.passed() {
            self.renew_leases();
        }
        if self.state.ask.is_some() && self.look.passed() {
            self.look_for_answers();
        }
        if self.unsaved.as_ref().is_some_and(Deadline::passed) {
            self.save();
            if matches!(self.stage, Stage::Over) && self.unsaved.is_none() {
                self.journal();
            }
        }
        self.look_at_status();
    }

    /// Writes the state and notifies all viewers.
    fn save(&mut self) {
        let was_unsaved = self.unsaved.take().is_some();
        if let Err(error) = workers::save_state(&self.dir, &self.state) {
            self.unsaved = Some(Deadline::after_ms(LOOK_MS));
            if !was_unsaved {
                self.event("state_not_written", &format!("{error:#}"));
            }
        }
        self.conns.iter_mut().for_each(Conn::outdate);
        self.wake_pulse();
    }

    fn turn_to(&mut self, phase: Phase) {
        if self.state.phase != phase {
            self.state.phase = phase;
            self.state.since_ms = now().unix_ms;
        }
        self.save();
    }

    /// Touches a file that the pulse watches: a beat should check the workers.
    fn wake_pulse(&self) {
        // Without it the pulse checks at its interval.
        drop(std::fs::write(self.layout.wake(), b""));
    }
}

/// Which descriptors are ready.
struct SupervisorPoll {
    term: bool,
    child: bool,
    human: bool,
    inner: bool,
    output: bool,
    keys: bool,
    conns: Vec<PollFlags>,
}

fn now() -> Now {
    clock::now()
}

/// Takes the lease on the goal and on each claim, or none of them.
fn take_leases(layout: &Layout, spec: &Spec, claimant: &Claimant, state: &mut WorkerState) -> Result<()> {
    let mut wanted: Vec<Name> = spec.goal.iter().map(lease::goal).collect();
    for claim in &spec.claims {
        wanted.push(lease::free_name(claim).map_err(anyhow::Error::msg)?);
    }
    for resource in wanted {
        match claims::acquire(layout, &resource, claimant, &claims::here()) {
            Ok(granted) => state.leases.push(granted.holding),
            Err(denied) => anyhow::bail!("could not take the lease on {resource}: {}", denied.refusal()?),
        }
    }
    Ok(())
}
