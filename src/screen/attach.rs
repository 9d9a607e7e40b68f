//! The user's side of a worker: draws its screen on this terminal and passes keys on to it, until the user leaves.
//!
//! The worker's output is read from its transcript; the supervisor only reports new output. So a slow terminal
//! does not slow the worker down, and the latest state is drawn, however much was printed in between.

mod link;

use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags};

use crate::os::clock::Deadline;
use crate::os::process::wait::poll_for;
use crate::os::signal::{Cancel, SignalPipe};
use crate::os::tty::{self, Raw};
use crate::rules::fault::Fault;
use crate::rules::json::clip;
use crate::rules::name::Name;
use crate::rules::process::Started;
use crate::rules::text::visible;
use crate::rules::worker::protocol::ViewerState;
use crate::rules::worker::{Flag, Phase, WorkerState};
use crate::screen::keys::{KeyEvent, Keys};
use crate::screen::render::{self, Renderer};
use crate::screen::{DEFAULT_SIZE, PIECE_BYTES, REPLAY_BYTES, Screen};
use crate::store::layout::WorkerDir;
use crate::store::transcript::TranscriptReader;
use crate::store::workers;
use link::Link;

/// The least time between two frames, in milliseconds.
const FRAME_MS: i64 = 10;
/// How long output is read before keys are handled again, in milliseconds.
const READ_MS: i64 = 8;
/// How long the history may be read before something is drawn, in milliseconds.
const HISTORY_MS: i64 = 300;
/// How long an escape may wait for the rest of its sequence, in milliseconds.
const ESCAPE_MS: i64 = 25;
/// How often files are read without a message, in milliseconds: a message is a hint, the files are the truth.
const POLL_MS: i64 = 500;
/// How long to wait for the last state of a supervisor that hung up, in milliseconds.
const LAST_STATE_MS: i64 = 2000;
/// How often to check for it, in milliseconds.
const LAST_LOOK_MS: i64 = 20;
/// The longest text of a flag on the status line, in characters.
const FLAG_CHARS: usize = 200;

/// Options of an attached session.
pub struct Options<'a> {
    /// If true, only shows the worker: keys are not passed on, and the size of this terminal does not count.
    pub view: bool,
    /// Shows the user an ask on a terminal in its normal mode, and takes the answer.
    pub answer: &'a mut dyn FnMut(&Name) -> Result<()>,
    /// Returns the move that has waited longest for the user's approval.
    pub approval: &'a mut dyn FnMut() -> Option<Name>,
}

/// How an attached session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachEnd {
    /// The user left, or the terminal went away; the worker runs on.
    Detached,
    /// The worker has ended, and the user has seen its last screen.
    Over(Phase),
}

/// Shows a worker until the user leaves.
///
/// # Errors
/// When there is no terminal, when the supervisor uses another version of the protocol, or when it was killed. The
/// terminal is reset.
pub fn attach(dir: &WorkerDir, id: &Name, options: Options) -> Result<AttachEnd> {
    if !tty::is_terminal() {
        let fault = Fault::usage(format!("could not attach to {id}: stdin and stdout are not a terminal"));
        return Err(fault.hint(format!("`looop logs {id}` prints what it printed")).into());
    }
    let what = || format!("could not attach to {id}");
    let (cols, rows) = tty::size().unwrap_or(DEFAULT_SIZE);
    let link = Link::open(dir, id, Renderer::room(cols, rows), options.view)?;
    let (cancel, resized) = (Cancel::on_signals().with_context(what)?, tty::resized().with_context(what)?);
    let raw = Raw::enter(&render::enter(id), render::LEAVE).with_context(what)?;
    let session = Session {
        id,
        dir,
        reader: TranscriptReader::open(dir)?,
        screen: Screen::new(cols, rows),
        renderer: Renderer::new(cols, rows),
        keys: Keys::default(),
        link,
        seen: None,
        over: None,
        notice: None,
        raw: Some(raw),
        cancel,
        resized,
        options,
    };
    session.run()
}

struct Session<'a, 'b> {
    id: &'a Name,
    dir: &'a WorkerDir,
    reader: TranscriptReader,
    screen: Screen,
    renderer: Renderer,
    keys: Keys,
    link: Link,
    seen: Option<ViewerState>,
    /// The last state of an ended worker.
    over: Option<WorkerState>,
    /// A message to the user, shown until the next key.
    notice: Option<String>,
    raw: Option<Raw>,
    cancel: Cancel,
    resized: SignalPipe,
    options: Options<'b>,
}

impl Session<'_, '_> {
    fn run(mut self) -> Result<AttachEnd> {
        self.rewind()?;
        let history = Deadline::after_ms(HISTORY_MS);
        let mut next_frame = Deadline::after_ms(0);
        let (mut dirty, mut ended) = (true, None);
        while ended.is_none() {
            // With or without a message, read the files.
            let offset = self.reader.offset();
            let more = self.read()?;
            dirty |= self.reader.offset() > offset;
            let can_draw = dirty && (!more || history.passed());
            let wait = if more { 0 } else { self.wait_ms(can_draw, &next_frame) };
            let [keys, screen, cancelled, resized, link] =
                self.poll(can_draw && next_frame.passed(), wait)?;
            if cancelled {
                return Ok(AttachEnd::Detached);
            }
            if resized {
                self.resize();
                dirty = true;
            }
            if screen {
                let status = self.status();
                let frame = self.renderer.frame(&mut self.screen, &status);
                tty::write_all(frame.as_bytes()).context("could not draw on the terminal")?;
                next_frame = Deadline::after_ms(FRAME_MS);
                dirty = false;
            }
            let typed = match keys {
                true => self.type_in(),
                false if wait > 0 && self.keys.is_waiting() => self.keys.flush(),
                false => Vec::new(),
            };
            ended = self.act(typed, &mut dirty)?;
            if link || self.link.stream().is_none() {
                dirty |= self.listen()?;
            }
        }
        self.link.send_rest();
        self.raw = None;
        Ok(ended.unwrap_or(AttachEnd::Detached))
    }

    /// Seeks to the last part of the transcript, far enough back to draw the whole screen.
    fn rewind(&mut self) -> Result<()> {
        let end = self.reader.end_offset()?;
        self.reader.seek(end.saturating_sub(REPLAY_BYTES))?;
        if let Some((cols, rows)) = self.reader.size() {
            self.screen.resize(cols, rows);
        }
        Ok(())
    }

    /// Draws more of the transcript on the model; returns true if the time was up before its end.
    fn read(&mut self) -> Result<bool> {
        // A few bytes can ask for a lot of drawing, so check the clock often.
        let (turn, mut buffer) = (Deadline::after_ms(READ_MS), [0; PIECE_BYTES]);
        while !turn.passed() {
            match self.reader.next(&mut buffer)? {
                Some(event) => self.screen.apply(event, &buffer),
                None => {
                    // If no index has sizes, use the size from the supervisor.
                    if let (None, Some(seen)) = (self.reader.size(), &self.seen) {
                        self.screen.resize(seen.cols, seen.rows);
                    }
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn wait_ms(&self, can_draw: bool, next_frame: &Deadline) -> i64 {
        let mut wait = POLL_MS;
        if can_draw {
            // After that, the time until the terminal accepts it.
            let left = i64::try_from(next_frame.left().as_micros().div_ceil(1000)).unwrap_or(FRAME_MS);
            wait = if left > 0 { left } else { POLL_MS };
        }
        if self.keys.is_waiting() {
            wait = wait.min(ESCAPE_MS);
        }
        if self.link.is_closing() { wait.min(LAST_LOOK_MS) } else { wait }
    }

    /// Waits for an event. Returns what is ready: keys, the screen, a signal that asks for the end, a new size, the link.
    fn poll(&self, can_draw: bool, wait_ms: i64) -> Result<[bool; 5]> {
        // Keys stay in the terminal while the worker does not take them, so a large paste waits at its sender.
        let keys = if self.link.is_full() { PollFlags::empty() } else { PollFlags::IN };
        let screen = if can_draw { PollFlags::OUT } else { PollFlags::empty() };
        let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
        let (cancelled, resized) = (self.cancel.fd(), self.resized.fd());
        let mut fds = vec![
            PollFd::new(&stdin, keys),
            PollFd::new(&stdout, screen),
            PollFd::new(&cancelled, PollFlags::IN),
            PollFd::new(&resized, PollFlags::IN),
        ];
        let stream = self.link.stream();
        fds.extend(stream.map(|stream| PollFd::new(stream, self.link.interest())));
        let limit = Duration::from_millis(wait_ms.unsigned_abs());
        poll_for(&mut fds, limit).context("could not wait for the terminal")?;
        let any = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        let wanted = [any, PollFlags::OUT, any, any, any | PollFlags::OUT];
        Ok(std::array::from_fn(|n| fds.get(n).is_some_and(|fd| fd.revents().intersects(wanted[n]))))
    }

    fn resize(&mut self) {
        self.resized.triggered();
        if let Some((cols, rows)) = tty::size() {
            self.renderer.resize(cols, rows);
            if !self.options.view {
                self.link.resize(Renderer::room(cols, rows));
            }
        }
    }

    fn type_in(&mut self) -> Vec<KeyEvent> {
        let mut buffer = [0; 16 * 1024];
        match tty::read(&mut buffer) {
            Ok(length @ 1..) => self.keys.push(&buffer[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Vec::new(),
            // The terminal is gone, so a message would have no reader.
            _ => vec![KeyEvent::Detach],
        }
    }

    /// Handles typed keys; returns the end if the user leaves.
    fn act(&mut self, typed: Vec<KeyEvent>, dirty: &mut bool) -> Result<Option<AttachEnd>> {
        for event in typed {
            *dirty |= self.notice.take().is_some();
            let over = self.over.as_ref().map(|state| state.phase);
            match (event, over) {
                (KeyEvent::Detach, over) => {
                    return Ok(Some(over.map_or(AttachEnd::Detached, AttachEnd::Over)));
                }
                // The worker takes no more keys, so q, Ctrl-C and Ctrl-D leave. A typed line ends with a line break, so
                // it does not leave.
                (KeyEvent::Pass(bytes), Some(phase)) if matches!(*bytes, [.., b'q' | 0x03 | 0x04]) => {
                    return Ok(Some(AttachEnd::Over(phase)));
                }
                (KeyEvent::Pass(bytes), None) if !self.options.view => self.link.send(&bytes),
                (KeyEvent::Pass(_), _) => {}
                (KeyEvent::Answer, _) => {
                    self.answer()?;
                    *dirty = true;
                }
            }
        }
        Ok(None)
    }

    /// Resets the terminal for an ask on looop's own screen, where the worker does not draw, and takes it again: for
    /// the worker's question, otherwise for a move that waits.
    fn answer(&mut self) -> Result<()> {
        let question = self.seen.as_ref().and_then(|seen| seen.ask.clone());
        let Some(ask) = question.or_else(&mut *self.options.approval) else {
            self.notice = Some("the worker asks nothing, and no move waits".to_owned());
            return Ok(());
        };
        self.raw = None;
        if let Err(error) = (self.options.answer)(&ask) {
            self.notice = Some(visible(&format!("{error:#}"), false));
        }
        self.raw = Some(Raw::enter(&render::enter(self.id), render::LEAVE)?);
        let (cols, rows) = tty::size().unwrap_or(DEFAULT_SIZE);
        self.renderer = Renderer::new(cols, rows);
        Ok(())
    }

    /// Takes messages of the supervisor; returns true if there is something new.
    fn listen(&mut self) -> Result<bool> {
        if self.over.is_some() {
            return Ok(false);
        }
        let news = self.link.exchange(self.id)?;
        let any = news.is_some();
        if news.as_ref().is_some_and(|news| self.seen.as_ref().is_some_and(|seen| seen.ask != news.ask)) {
            self.notice = None;
        }
        self.seen = news.or(self.seen.take());
        if self.link.stream().is_some() {
            return Ok(any);
        }
        // The supervisor writes its last state before it releases its lock. An archived directory has no state here.
        let state = workers::load_from(self.dir).ok().flatten().map(|worker| worker.state);
        let stated = self.seen.as_ref().map(|seen| seen.phase).filter(|phase| phase.is_over());
        self.over = match (state, stated) {
            (Some(state), _) if state.phase == Phase::Lost && !self.link.was_never_open() => {
                return Err(self.lost().into());
            }
            (Some(state), _) if state.phase.is_over() => Some(state),
            (None, Some(phase)) => {
                let nobody = Started { pid: 0, start: 0, boot: String::new() };
                Some(WorkerState { phase, ..WorkerState::new(self.id.clone(), 0, nobody) })
            }
            _ if self.link.is_closing() => None,
            _ => return Err(self.lost().into()),
        };
        Ok(any || self.over.is_some())
    }

    fn lost(&self) -> Fault {
        let what = format!("lost {}: its supervisor ended unexpectedly", self.id);
        Fault::failed(what).hint(format!("`looop logs {}` shows what is left", self.id))
    }

    fn status(&self) -> String {
        let id = self.id;
        if let Some(notice) = &self.notice {
            return format!(" {id} · {notice}");
        }
        if let Some(state) = &self.over {
            let why = state.why.as_deref().map(|why| format!(": {}", visible(&clip(why, FLAG_CHARS), false)));
            return format!(" {id} · {}{} · q leaves", state.phase, why.unwrap_or_default());
        }
        let leave =
            if self.keys.is_prefixed() { "Ctrl-\\ again detaches" } else { "Ctrl-\\ Ctrl-\\ detaches" };
        let view = if self.options.view { " · view only" } else { "" };
        let Some(seen) = &self.seen else { return format!(" {id}{view} · {leave}") };
        let flag = |flag: &Flag| format!(" · ⚑ {}", visible(&clip(&flag.text, FLAG_CHARS), false));
        let flag = seen.flag.as_ref().map(flag).unwrap_or_default();
        let ask = if seen.ask.is_some() { " · it asks: Ctrl-\\ a answers" } else { "" };
        let lost = if seen.lost_bytes > 0 { " · output was lost: the disk is full" } else { "" };
        format!(" {id} · {}{ask}{view} · {leave}{lost}{flag}", seen.phase)
    }
}
