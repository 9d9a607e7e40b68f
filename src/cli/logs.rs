//! `looop logs` and `looop screen`: the output of a worker, from its transcript.

use anyhow::Result;

use super::ls::{self, KnownWorker};
use super::{App, Cancel, Name, complete, print};
use crate::config;
use crate::os::path;
use crate::os::process::wait::wait_readable;
use crate::rules::secret::{RedactStream, Secrets};
use crate::rules::strip_ansi::AnsiStripper;
use crate::rules::worker::Spec;
use crate::screen::{REPLAY_BYTES, Screen, export};
use crate::store::layout::WorkerDir;
use crate::store::transcript::{TranscriptEvent, TranscriptReader};
use crate::store::{json_file, workers};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  looop logs fix-ci -f\n  looop logs fix-ci --cast > fix-ci.cast")]
pub struct LogsArgs {
    /// The worker, or the unique beginning of its name; archived workers too. Default: the newest flagged one.
    #[arg(add = complete::worker_ids())]
    id: Option<String>,
    /// Follow the output until the worker ends.
    #[arg(short, long, conflicts_with_all = ["cast", "json"])]
    follow: bool,
    /// Print every byte unchanged, except secrets. Escape sequences in it reach your terminal.
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Print a recording in asciicast v2 format.
    #[arg(long, conflicts_with_all = ["raw", "json"])]
    cast: bool,
    /// Print text without colours and cursor movement; this is the default.
    #[arg(long, conflicts_with_all = ["raw", "cast"])]
    plain: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  looop screen fix-ci")]
pub struct ScreenArgs {
    /// The worker, or the unique beginning of its name. Default: the newest flagged one.
    #[arg(add = complete::worker_ids())]
    id: Option<String>,
}

/// How often a followed transcript is read, in milliseconds.
const POLL_MS: i64 = 100;

/// Finds the directory and the name of a worker, which may be archived.
fn find(app: &App, wanted: Option<&str>) -> Result<(WorkerDir, Name)> {
    Ok(match ls::find(app, wanted)? {
        KnownWorker::Present(worker) => (app.layout.worker(&worker.spec.id), worker.spec.id),
        KnownWorker::Archived(past) => (app.layout.past_worker(&past.dir), past.id),
    })
}

/// The secrets of this process, and those that the worker got.
fn secrets(dir: &WorkerDir) -> Secrets {
    let spec = json_file::read_json::<Spec>(&dir.spec()).ok().flatten();
    config::secrets().and(Secrets::of(spec.as_ref().map_or(&[], |spec| &spec.env), &path::is_there))
}

/// Prints the output of a worker, with secrets removed.
pub fn logs(app: &App, args: &LogsArgs) -> Result<u8> {
    let (dir, id) = find(app, args.id.as_deref())?;
    let mut reader = TranscriptReader::open(&dir)?;
    let secrets = secrets(&dir);
    if args.cast {
        let mut out = |text: &str| {
            print::json_text(text);
            Ok(())
        };
        return export::cast(&mut reader, id.as_str(), &secrets, &mut out).map(|()| 0);
    }
    if args.follow || args.raw {
        return follow(&dir, reader, args, &secrets);
    }
    let (mut stream, mut whole) = (RedactStream::new(&secrets), String::new());
    export::plain(&mut reader, &mut |text| {
        match app.json {
            true => whole += &stream.feed(text),
            false => print::raw(stream.feed(text).as_bytes()),
        }
        Ok(())
    })?;
    if app.json { app.shown(Some(id.as_str()), &(whole + &stream.end())) } else { print::page(stream.end()) }
}

/// Prints output as it arrives: raw, or its text.
fn follow(dir: &WorkerDir, mut reader: TranscriptReader, args: &LogsArgs, secrets: &Secrets) -> Result<u8> {
    let mut stream = RedactStream::new(secrets);
    let cancel = Cancel::on_signals()?;
    let mut buffer = vec![0_u8; 64 * 1024];
    let mut strip = AnsiStripper::default();
    let print = if args.raw { print::as_is } else { print::raw };
    loop {
        // Checked before reading, so that this turn reads everything that was printed before the end.
        let alive = workers::is_alive(dir)?;
        while let Some(event) = reader.next(&mut buffer)? {
            match event {
                TranscriptEvent::Output { length, .. } => print(&match args.raw {
                    true => stream.feed_bytes(&buffer[..length]),
                    false => stream.feed(&strip.text(&buffer[..length])).into_bytes(),
                }),
                TranscriptEvent::Lost { bytes, .. } => {
                    print::note(&format!("{bytes} bytes of output could not be stored"))
                }
                TranscriptEvent::Resize { .. } => {}
            }
        }
        if !args.follow || !alive || cancel.is_set() {
            print(&stream.end_bytes());
            return Ok(0);
        }
        print(stream.pause().as_bytes());
        wait_readable(&[&cancel.fd()], POLL_MS);
    }
}

/// Prints the current screen of a worker.
pub fn screen(app: &App, args: &ScreenArgs) -> Result<u8> {
    let (dir, id) = find(app, args.id.as_deref())?;
    let text = Screen::replay(&dir, REPLAY_BYTES)?.text();
    let text = secrets(&dir).redact(text.trim_end());
    if app.json { app.shown(Some(id.as_str()), &text) } else { print::done(&text) }
}
