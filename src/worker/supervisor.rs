//! The supervisor: the small process that owns one worker's terminal, transcript, sockets and leases.
//!
//! One thread and one `poll` loop over four parts: the terminal, the clients, the stage of the worker, and its calls for
//! the user. The parts know nothing of each other; this loop passes on what one of them observes. It runs in a session of
//! its own and is a child subreaper, so that it outlives its starter and adopts every process that its worker leaves
//! behind. Its state is in `state.json`, replaced at each transition; readers need nothing else.

mod attention;
mod clients;
mod lifecycle;
mod limited;
mod meter;
mod output;
mod programs;
mod record;
mod refusal;
mod tty;
mod upload;

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};

use crate::os::clock::{self, Deadline};
use crate::os::detach;
use crate::os::process::{reaper, wait};
use crate::os::pty::{Size, Terminal};
use crate::os::signal::SignalPipe;
use crate::rules::cost::charge::Usage;
use crate::rules::json::clip;
use crate::rules::name::Name;
use crate::rules::secret::Secrets;
use crate::rules::worker::lifecycle::{EndCause, Stage, WorkerEffect, WorkerEvent, WorkerOutcome};
use crate::rules::worker::protocol::{MAX_TEXT, ViewerState, WireRequest};
use crate::rules::worker::query::{ProgramState, ProgramStatus};
use crate::rules::worker::{Spec, WorkerExit};
use crate::store::layout::{Layout, WorkerDir};
use crate::store::transcript::TranscriptWriter;
use crate::store::{git_watch, inbox, json_file, lock};
use crate::worker::secrets_pipe;
use attention::{AskResult, UserAttention};
use clients::{ClientEvent, Clients, ConnectionRole, Side};
use lifecycle::Lifecycle;
use meter::Meter;
use output::{READ_BYTES, is_for_now, with_returns};
use record::Record;
use refusal::RequestRefusal;
use tty::Tty;

/// How much of its inbox a worker gets at once, in bytes.
const MAX_INBOX: usize = 32 * 1024;
/// The longest wait without an event.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// One supervisor: what is on disk, and the four parts.
struct Supervisor {
    record: Record,
    tty: Tty,
    clients: Clients,
    lifecycle: Lifecycle,
    attention: UserAttention,
    meter: Meter,
    /// The number of the next keys that tell an agent to go on after a usage limit, and when to type them.
    typing: Option<(usize, Deadline)>,
    /// Signals to end, and ends of processes.
    term: SignalPipe,
    child: SignalPipe,
}

/// Runs the supervisor of a prepared worker until it has ended. Prints one line: `ok`, or why it could not start.
///
/// # Errors
/// When it could not start; the starter was notified.
pub fn run(root: PathBuf, cache: PathBuf, id: &Name) -> Result<()> {
    reaper::become_subreaper();
    let (term, child) = (SignalPipe::on(&[SIGTERM, SIGINT])?, SignalPipe::on(&[SIGCHLD])?);
    let _hangup = SignalPipe::on(&[SIGHUP])?;
    let layout = Layout::new(root, cache);
    let dir = layout.worker(id);
    let secrets = secrets_pipe::heard().context("the supervisor did not receive its start message")?;
    let begun = begin(layout, &dir, secrets, term, child);
    let line = match &begun {
        Ok(_) => "ok\n".to_owned(),
        Err(error) => format!("{error:#}").replace('\n', " ") + "\n",
    };
    // If the starter is gone, it does not need the message.
    drop(std::io::stdout().write_all(line.as_bytes()).and_then(|()| std::io::stdout().flush()));
    detach::close_stdout()?;
    let (mut supervisor, _alive) = begun?;
    while supervisor.goes_on() {
        supervisor.turn()?;
    }
    supervisor.tell_viewers();
    supervisor.clients.close();
    // No process listens any more; with a missing path, clients know that at once.
    for socket in [dir.attach_socket(), dir.worker_socket()] {
        drop(std::fs::remove_file(socket));
    }
    Ok(())
}

/// Makes the supervisor, and takes the lock that shows that it lives. On an error the worker has failed.
///
/// Not inlined, and in a box: its caller's stack would hold the data of the start for the worker's whole life, and a
/// thousand supervisors may run in parallel.
#[inline(never)]
fn begin(
    layout: Layout,
    dir: &WorkerDir,
    secrets: Secrets,
    term: SignalPipe,
    child: SignalPipe,
) -> Result<(Box<Supervisor>, lock::Held)> {
    let alive = lock::store(&dir.alive())?;
    let clients = Clients::listen(dir)?;
    // Read here, so that the reader is not on the stack below the rest of the start.
    let spec: Box<Spec> = json_file::read_json(&dir.spec())?.context("the worker has no spec.json")?;
    let mut record = Record::begin(layout, dir.clone(), spec, secrets)?;
    let mut lifecycle = Lifecycle::new(&record.spec);
    let size = Size::DEFAULT;
    let (writer, terminal) = match start(&mut record, size) {
        Ok(started) => started,
        Err(error) => {
            for effect in lifecycle.next(WorkerEvent::NotStarted(format!("{error:#}"))) {
                match effect {
                    WorkerEffect::ReleaseLeases => record.release_all(),
                    // If that cannot be written, the worker counts as lost; the first error is the one to report.
                    WorkerEffect::WriteEnd(outcome) => record.end(outcome),
                    _ => {}
                }
            }
            return Err(error);
        }
    };
    let is_limited = terminal.is_none();
    lifecycle.started(&record);
    let attention = UserAttention::new(record.spec.limits.idle_ms);
    let meter = Meter::of(&record.spec.argv);
    let tty = Tty::new(terminal, writer, size);
    let supervisor =
        Supervisor { record, tty, clients, lifecycle, attention, meter, typing: None, term, child };
    let mut supervisor = Box::new(supervisor);
    // From here on the command runs, and a failed write must not end its supervisor.
    match is_limited {
        true => {
            supervisor.wait_for_limit();
            supervisor.happen(WorkerEvent::Limited);
        }
        false => supervisor.happen(WorkerEvent::Started),
    }
    Ok((supervisor, alive))
}

/// Takes the leases and starts the command, unless its runner is at a usage limit.
#[inline(never)]
fn start(record: &mut Record, size: Size) -> Result<(TranscriptWriter, Option<Terminal>)> {
    let keep_bytes = record.spec.limits.keep_bytes;
    let writer = TranscriptWriter::create(&record.dir, record.state.since_ms, size, keep_bytes)
        .context("could not create the transcript of the worker")?;
    record.take_leases()?;
    let own = record.dir.clone_dir();
    git_watch::begin(&record.dir.git_watch(), record.spec.sandbox.as_ref(), Some(&own))?;
    if limited::holds_start(record) {
        return Ok((writer, None));
    }
    let argv = limited::next_argv(record)?;
    Ok((writer, Some(programs::start_command(record, &argv, size)?)))
}

impl Supervisor {
    /// Returns true until the worker has ended and its last state is written, or cannot be written for too long.
    fn goes_on(&self) -> bool {
        self.lifecycle.stage() != Stage::Ended || self.record.unsaved.is_some()
    }

    /// Waits for the next event and handles it. Not inlined, as [`begin`].
    #[inline(never)]
    fn turn(&mut self) -> Result<()> {
        let count = self.clients.count();
        let ready = self.wait()?;
        let is_ready = |at: usize| ready.get(at).is_some_and(|flags| !flags.is_empty());
        if is_ready(0) && self.term.triggered() {
            self.end(EndCause::Signal);
        }
        let output = ready.get(4 + count).copied().unwrap_or(PollFlags::empty());
        if output.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            self.take_output();
        }
        if output.contains(PollFlags::OUT) {
            self.tty.type_keys();
        }
        // After the output, so that the last output of a process is read before its end.
        if is_ready(1) && self.child.triggered() {
            self.reap();
        }
        self.serve(&ready[4..4 + count]);
        self.clients.accept(&ready[2..4]);
        self.look_at_time();
        self.tell_viewers();
        Ok(())
    }

    /// Waits for an event. Returns what is ready: the two signals, the two sockets, each connection, and the output.
    fn wait(&self) -> Result<Vec<PollFlags>> {
        let (term, child) = (self.term.fd(), self.child.fd());
        let mut fds = vec![PollFd::new(&term, PollFlags::IN), PollFd::new(&child, PollFlags::IN)];
        fds.extend(self.clients.polls(self.tty.has_room()));
        if let Some(output) = self.output() {
            let keys = if self.tty.has_keys() { PollFlags::OUT } else { PollFlags::empty() };
            fds.push(PollFd::new(output, PollFlags::IN | keys));
        }
        wait::poll_for(&mut fds, self.wait_limit()).context("could not wait for the worker")?;
        Ok(fds.iter().map(PollFd::revents).collect())
    }

    /// Returns the time until the next timer.
    fn wait_limit(&self) -> Duration {
        let dues = [
            self.lifecycle.due(),
            self.record.renew_due(),
            self.record.unsaved.as_ref().map(Deadline::left),
            self.attention.due(&self.record),
            self.clients.due(),
            limited::due(&self.record),
            self.typing.as_ref().map(|(_, due)| due.left()),
        ];
        // Rounded up, so that the timer has really expired when poll returns for it.
        dues.into_iter().flatten().min().unwrap_or(LONGEST_WAIT) + Duration::from_millis(1)
    }

    fn look_at_time(&mut self) {
        if self.lifecycle.wall_passed() {
            self.end(EndCause::WallTime(self.record.spec.limits.wall_ms));
        }
        if self.record.renew_due().is_some_and(|left| left.is_zero()) {
            self.renew_leases();
        }
        if self.attention.answer_is_due(&self.record) {
            self.read_answers();
        }
        if self.record.unsaved.as_ref().is_some_and(Deadline::passed) {
            self.record.save();
            if self.lifecycle.stage() == Stage::Ended {
                self.record.journal_end();
            }
        }
        if let Some(why) = self.attention.poll(&mut self.record, self.lifecycle.stage() == Stage::Running) {
            self.failed(&why);
        }
        self.look_at_limit();
        if self.lifecycle.is_late() {
            self.main_ended(WorkerExit::Signal(0));
        }
        if self.lifecycle.processes_gone(&self.attention.helpers) {
            self.drain();
            self.happen(WorkerEvent::ProcessesGone);
        }
    }

    /// Asks the rule what follows from an event, and does it.
    fn happen(&mut self, event: WorkerEvent) {
        for effect in self.lifecycle.next(event) {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: WorkerEffect) {
        let started = match effect {
            WorkerEffect::Enter(phase) => {
                self.lifecycle.set_wall(true);
                return self.record.enter(phase);
            }
            WorkerEffect::Withdraw => {
                let rest = self.meter.rest();
                self.charge_output(rest, true);
                return self.attention.withdraw(&mut self.record);
            }
            WorkerEffect::EndProcesses => return self.lifecycle.end_processes(),
            WorkerEffect::StartCommand => {
                if let Err(error) = self.start_again() {
                    self.happen(WorkerEvent::NotStarted(format!("{error:#}")));
                }
                return;
            }
            WorkerEffect::StartCheck(index) => self.lifecycle.start_check(index, &mut self.record),
            WorkerEffect::StartFetch => self.lifecycle.start_fetch(&self.record),
            WorkerEffect::StartSearch => self.lifecycle.start_search(&mut self.record),
            WorkerEffect::ReadFence => return self.read_fence(),
            WorkerEffect::DropResult => return self.record.state.verdict = None,
            WorkerEffect::ReleaseLeases => return self.record.release_all(),
            WorkerEffect::WriteEnd(outcome) => return self.write_end(outcome),
        };
        match started {
            Ok(()) => self.tty.close(),
            Err(why) => self.happen(WorkerEvent::NotStarted(why)),
        }
    }

    /// Ends the worker, whatever its processes still do.
    fn end(&mut self, cause: EndCause) {
        if self.lifecycle.stage() == Stage::Ended {
            // Only its last state was still unwritten, and the user does not need that any more.
            self.record.unsaved = None;
        }
        self.happen(WorkerEvent::EndRequested(cause));
    }

    fn read_fence(&mut self) {
        match git_watch::end(&self.record.dir.git_watch()) {
            Ok(new) => self.record.state.user_side.extend(new),
            // The next beat tries again.
            Err(error) => self.record.log("git_dirs_not_checked", &format!("{error:#}")),
        }
        let lost = match self.record.fenced(|| Ok(())) {
            Err(RequestRefusal::LeaseLost(lost)) => Some(lost.to_string()),
            _ => None,
        };
        self.happen(WorkerEvent::FenceRead(lost));
    }

    fn write_end(&mut self, outcome: WorkerOutcome) {
        let was_needed = self.record.state.needs_user();
        self.lifecycle.wait_for_last_state();
        self.record.end(outcome);
        self.record.journal_end();
        if was_needed || self.record.state.needs_user() || !self.record.spec.notify.is_empty() {
            self.attention.sync_alerts(&self.record);
        }
    }

    /// Handles each process that has ended.
    fn reap(&mut self) {
        while let Some((pid, status)) = reaper::reap() {
            self.attention.process_ended(pid, &self.record);
            let (exit, is_main) = self.lifecycle.exit_of(pid, status);
            let state = &mut self.record.state;
            if is_main {
                // The rest of the pipe or terminal belongs to it.
                self.drain();
                self.main_ended(exit);
            } else if state.child.as_ref().is_some_and(|child| child.pid == pid) {
                state.exit.get_or_insert(exit);
            }
        }
    }

    fn main_ended(&mut self, exit: WorkerExit) {
        if self.ended_at_limit(exit) {
            return self.happen(WorkerEvent::Limited);
        }
        if let Some(event) = self.lifecycle.main_ended(exit, &mut self.record) {
            self.happen(event);
        }
    }

    /// Returns the current source of output.
    fn output(&self) -> Option<&File> {
        self.lifecycle.pipe_file().unwrap_or_else(|| self.tty.file())
    }

    /// Reads once from the output. Returns true if there may be more.
    fn take_output(&mut self) -> bool {
        let mut buffer = [0_u8; READ_BYTES];
        let Some(mut output) = self.output() else { return false };
        match output.read(&mut buffer) {
            Ok(count @ 1..) => {
                self.took(&buffer[..count]);
                true
            }
            Err(error) if is_for_now(&error) => false,
            // No process has the pipe or the terminal open any more.
            _ => {
                if !self.lifecycle.close_pipe() {
                    self.tty.close();
                }
                false
            }
        }
    }

    /// Reads the rest of the output of ended processes.
    fn drain(&mut self) {
        for _ in 0..1024 {
            if !self.take_output() {
                break;
            }
        }
    }

    fn took(&mut self, bytes: &[u8]) {
        let stage = self.lifecycle.stage();
        self.lifecycle.keep(bytes);
        match stage {
            Stage::Fetching | Stage::Searching => return,
            Stage::Checking(_) => self.write(&with_returns(bytes)),
            _ => {
                self.write(bytes);
                let (offset, is_redraw) = (self.tty.writer.offset(), self.tty.redraws());
                self.attention.printed(&mut self.record, offset, is_redraw);
                let status = self.tty.scan(bytes, &self.record.dir);
                status.into_iter().for_each(|status| self.heard(status));
                let used = self.meter.take(bytes);
                self.charge_output(used, false);
            }
        }
        let limit = self.record.spec.limits.output_bytes;
        if self.tty.writer.offset() > limit {
            self.end(EndCause::Output(limit));
        }
    }

    /// Appends to the transcript; lost bytes are in the state within a second.
    fn write(&mut self, bytes: &[u8]) {
        let lost = self.tty.writer.append(bytes, clock::unix_ms());
        if lost > 0 {
            self.record.state.lost_bytes += lost;
            self.record.save_soon();
        }
    }

    /// Handles a status of the program. A status during its end raises no flag.
    fn heard(&mut self, status: ProgramStatus) {
        if self.lifecycle.stage() != Stage::Running {
            return;
        }
        if status.state == ProgramState::Working {
            self.goes_on_by_itself();
        }
        if let Some(why) = self.attention.status(&mut self.record, status) {
            self.failed(&why);
        }
    }

    /// Serves each connection, and removes those that are gone.
    fn serve(&mut self, ready: &[PollFlags]) {
        for (at, flags) in ready.iter().enumerate() {
            self.clients.conn(at).read(*flags);
            while let Some(event) = self.clients.conn(at).next_event() {
                match event {
                    ClientEvent::Request(side, request) => self.open(at, side, request),
                    ClientEvent::Keys(keys) => {
                        self.record.state.limit.iter_mut().for_each(|limit| limit.touched = true);
                        self.tty.press(&keys);
                    }
                    ClientEvent::Resized => self.tty.resize(self.clients.size()),
                    ClientEvent::Part(bytes) => self.clients.report_part(at, &bytes, &mut self.record),
                }
            }
            self.clients.conn(at).write();
        }
        self.clients.remove_gone();
        // Without effect unless one that is gone had the smallest screen.
        self.tty.resize(self.clients.size());
    }

    /// Handles the one request of a connection. Some are answered later.
    fn open(&mut self, at: usize, side: Side, request: WireRequest) {
        let done = match (side, request) {
            (Side::User, WireRequest::Attach { cols, rows, view }) => {
                let size = (!view).then_some(Size { cols, rows });
                self.clients.conn(at).role = ConnectionRole::Viewer { size, seen: None };
                return self.tty.resize(self.clients.size());
            }
            (Side::Worker, WireRequest::Report { name }) => {
                return self.clients.begin_report(at, &name, &self.record);
            }
            (Side::Worker, WireRequest::Ask(question)) => {
                match self.attention.ask(&mut self.record, &question) {
                    Ok(AskResult::Open(id)) => {
                        return self.clients.conn(at).role = ConnectionRole::Asking(id);
                    }
                    Ok(AskResult::Answered(answer)) => Ok(answer),
                    Err(refusal) => Err(refusal),
                }
            }
            (side, request) => self.answer(side, request),
        };
        self.clients.conn(at).reply(&refusal::reply(done));
    }

    /// Carries out a request that is answered at once.
    fn answer(&mut self, side: Side, request: WireRequest) -> Result<String, RequestRefusal> {
        match (side, request) {
            (Side::User, WireRequest::Kill) => self.end(EndCause::User),
            (Side::User, WireRequest::Wake) => self.read_answers(),
            (_, WireRequest::Flag { text }) => {
                self.attention.raise(&mut self.record, &clip(&text, MAX_TEXT), false);
            }
            (_, WireRequest::Unflag) => self.attention.lower(&mut self.record),
            (Side::Worker, WireRequest::Done) if self.lifecycle.stage() == Stage::Running => {
                self.record.state.exit = Some(WorkerExit::Code(0));
                self.happen(WorkerEvent::DoneCalled);
            }
            (Side::Worker, WireRequest::Done) => {}
            (Side::Worker, WireRequest::Inbox) => {
                let messages = self.record.fenced(|| inbox::take(&self.record.dir, MAX_INBOX))?;
                let texts: Vec<String> = messages.into_iter().map(|message| message.text).collect();
                return Ok(texts.join("\n\n"));
            }
            (Side::Worker, WireRequest::Claim { resource, ttl_s }) => {
                let epoch = self.record.claim(&resource, ttl_s)?;
                self.renew_leases();
                return Ok(epoch);
            }
            (Side::Worker, WireRequest::Release { resource }) => self.record.release(&resource)?,
            (Side::Worker, WireRequest::Spend(_)) if self.lifecycle.stage() == Stage::Ended => {
                return Err(RequestRefusal::NotCharged);
            }
            // An agent that continues as long as it is allowed stops here, before it is ended.
            (Side::Worker, WireRequest::Spend(spent)) => self.charge(spent.usage(), false)?,
            (Side::Worker, WireRequest::HookStatus { state, text }) => {
                let state = state.parse().map_err(|_| RequestRefusal::NoStatus(state))?;
                self.heard(ProgramStatus { state, kind: None, message: text });
            }
            (Side::User, _) => return Err(RequestRefusal::ForWorker),
            (Side::Worker, _) => return Err(RequestRefusal::ForUser),
        }
        Ok(String::new())
    }

    /// Delivers the answer to the open ask, if there is one.
    fn read_answers(&mut self) {
        self.attention.answer(&mut self.record, |ask, answer| self.clients.answer(ask, answer));
    }

    fn renew_leases(&mut self) {
        if let Some(cause) = self.record.renew() {
            self.end(cause);
        }
    }

    /// Charges what the output reports. The last charge comes after the end of the program: no cap keeps its work from
    /// its checks.
    fn charge_output(&mut self, used: Option<Usage>, is_last: bool) {
        match used.map(|used| self.charge(used, is_last)) {
            None | Some(Ok(()) | Err(RequestRefusal::SpentAll(_))) => {}
            Some(Err(refusal)) => self.record.log("spend_not_charged", &refusal.to_string()),
        }
    }

    /// Takes the cost of a turn. If no cap has room for another turn, the worker ends; its clone stays.
    fn charge(&mut self, used: Usage, is_last: bool) -> Result<(), RequestRefusal> {
        let charged = self.meter.charge(&mut self.record, used, is_last);
        match &charged {
            Err(RequestRefusal::SpentAll(why)) => self.end(EndCause::Spending(why.clone())),
            Err(why @ RequestRefusal::TooManyCharges(_)) => self.end(EndCause::Spending(why.to_string())),
            _ => {}
        }
        charged
    }

    /// Sends viewers the state, if it has changed.
    fn tell_viewers(&mut self) {
        let (state, size) = (&self.record.state, self.tty.size);
        self.clients.tell_viewers(|| ViewerState {
            offset: self.tty.writer.offset(),
            cols: size.cols,
            rows: size.rows,
            phase: state.phase,
            flag: state.flag.clone(),
            ask: state.ask.clone(),
            lost_bytes: state.lost_bytes,
        });
    }
}
