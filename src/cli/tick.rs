//! `looop tick` and `looop run`: run one beat and print its result.

use std::cell::Cell;

use anyhow::Result;

use super::app::check_clock;
use super::json_output::{BeatJson, BeatStatus};
use super::{App, Cancel, Fault, Name, clip, complete, dollars, human_ms, print, visible};
use crate::alerts;
use crate::config::Config;
use crate::os::clock::{self, Deadline};
use crate::rules::beat::gate::Hold;
use crate::rules::beat::state::LastResult;
use crate::rules::fault::ErrorKind;
use crate::store::{lock, logs, workers};
use crate::tick;
use crate::tick::prepare::PreparedDecision;
use crate::tick::record::{BeatReport, BeatResult};
use crate::vcs::migrate;

#[derive(Debug, Default, clap::Args)]
#[command(
    after_help = "Exit status: 75 if another beat is running.\n\nExamples:\n  looop tick --dry-run\n  looop tick --quiet"
)]
pub struct Args {
    /// Print the gate's decision and the prompt that a model would get. Spends and writes nothing.
    #[arg(long, conflicts_with = "json")]
    dry_run: bool,
    /// Print nothing if the beat decides nothing; for cron.
    #[arg(short, long)]
    quiet: bool,
    /// Redraw the last line if the beat decides nothing; for the pulse.
    #[arg(long, hide = true)]
    pulse: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  looop run release")]
pub struct RunArgs {
    /// The goal.
    #[arg(add = complete::goal_ids())]
    goal: Name,
}

/// How long `looop run` waits for the current beat to end, in milliseconds.
const WAIT_LIMIT_MS: i64 = 30 * 60_000;

pub fn run(app: &App, args: &Args) -> Result<u8> {
    if args.dry_run {
        return dry_run(app);
    }
    app.ready()?;
    if !args.pulse {
        app.no_worker("start a beat")?;
    }
    if let Some(pulse) = lock::holder(&app.layout.pulse_lock()).filter(|_| !args.pulse) {
        let what = format!("could not start a beat: process {pulse} is the pulse of this data dir");
        let fault = Fault { kind: ErrorKind::Busy, ..Fault::failed(what) };
        return Err(fault.hint("`looop run GOAL` asks for a move now, beside the pulse").into());
    }
    let cancel = Cancel::on_signals()?;
    let held = lock::tick(&app.layout.tick_lock())?;
    beat(app, &cancel, None, args, held)
}

/// Runs one beat that decides on a move for a goal.
pub fn run_goal(app: &App, args: &RunArgs) -> Result<u8> {
    app.ready()?;
    app.user_only("run a goal")?;
    let cancel = Cancel::on_signals()?;
    let held = lock::tick_patiently(&app.layout.tick_lock(), WAIT_LIMIT_MS, &cancel)?;
    let output = Args::default();
    beat(app, &cancel, Some(args.goal.clone()), &output, held)
}

/// Runs a beat, for a goal if one is given, and prints its result in the form that `args` asks for.
fn beat(app: &App, cancel: &Cancel, goal: Option<Name>, args: &Args, held: lock::Held) -> Result<u8> {
    check_clock(app.now, "start a beat")?;
    app.say_migrated(migrate::in_beat(&app.layout, app.now, &held)?);
    app.enter_data_dir()?;
    let config = app.config()?;
    let runner = config.decider()?;
    let mut ctx = app.ctx(&config, runner.as_ref(), cancel, false);
    ctx.fleet.sandboxes.check()?;
    if let Some(lost) = ctx.fleet.sandboxes.downgrade() {
        print::note(&format!("warning: {lost} (looop doctor)"));
    }
    if let Some(lost) = ctx.fleet.sandboxes.news_of_downgrade()? {
        print::ring(&format!("flag: {lost}"));
        logs::journal(&app.layout, &format!("{} sandbox: {lost}", app.now.stamp()))?;
    }
    ctx.on_wait = (!app.json && print::stderr_is_tty()).then(|| spinner(app, runner.name()));
    ctx.forced = goal.clone();
    let started = Deadline::after_ms(0);
    let outcome = tick::tick(&ctx);
    drop(held);
    // The pulse does this itself, without waiting for the notifier.
    if !args.pulse && has_news(app, &config) {
        super::alerts::bring_in_line(app)?;
    }
    if print::stderr_is_tty() {
        print::redraw("");
    }
    let report = outcome?;
    print::warn(&config.warnings);
    print::warn(&report.warnings);
    let undecided = goal.and_then(|goal| undecided(&report, &goal));
    let exit_code = match report.what {
        BeatResult::Failed(_) | BeatResult::Cancelled | BeatResult::Held(Hold::Halted { .. }) => 1,
        BeatResult::Held(_) | BeatResult::Moved(_) | BeatResult::Waits(_) => 0,
    };
    if app.json {
        print::answer("beat", as_json(report))?;
    } else if undecided.is_none() || !matches!(report.what, BeatResult::Held(_)) {
        // The error message is enough for a beat that decided nothing for the goal.
        say(app, &report, started.spent_ms(), args);
    }
    match undecided {
        Some(fault) => Err(fault.into()),
        None => Ok(exit_code),
    }
}

/// True if the notifier does not know yet of a question of the loop or of an ended worker, or if that cannot be
/// determined.
pub fn has_news(app: &App, config: &Config) -> bool {
    !config.settings.workers.notify.is_empty()
        && (alerts::unsent(&app.layout, clock::now()).map_or(true, |asks| !asks.is_empty())
            || workers::list(&app.layout)
                .map_or(true, |(all, _)| all.iter().any(|worker| alerts::is_unsent(&app.layout, worker))))
}

/// Why a beat that had to decide for a goal asked no model.
fn undecided(report: &BeatReport, goal: &Name) -> Option<Fault> {
    let why = match &report.what {
        BeatResult::Held(hold) => hold.words(),
        // A beat that asked a runner always has a usage, even if the amounts are unknown.
        BeatResult::Moved(_) if report.usage.is_none() => "an approved move came first".to_owned(),
        _ => return None,
    };
    let fault = Fault::failed(format!("could not decide on a move for {goal}: {why}"));
    Some(match &report.what {
        BeatResult::Held(Hold::Paused { .. }) => fault.hint("end the pause with `looop resume`"),
        BeatResult::Moved(_) => fault.hint(format!("run `looop run {goal}` again")),
        _ => fault,
    })
}

fn spinner<'a>(app: &App, runner: &str) -> Box<dyn Fn() + 'a> {
    const FRAMES: [&str; 8] = ["⣾", "⣽", "⣻", "⢿", "⡿", "⣟", "⣯", "⣷"];
    let started = Deadline::after_ms(0);
    let style = app.style;
    let runner = runner.to_owned();
    let turn = Cell::new(0);
    Box::new(move || {
        turn.set(turn.get() + 1);
        let (frame, took) = (FRAMES[turn.get() % FRAMES.len()], human_ms(started.spent_ms()));
        print::redraw(&style.dim(&format!("{frame} {runner} is thinking · {took}")));
    })
}

fn as_json(report: BeatReport) -> BeatJson {
    let BeatReport { what, usage, mut warnings, next_beat_due_ms } = report;
    if let BeatResult::Waits(why) = &what {
        warnings.push(why.clone());
    }
    let json = BeatJson { usage, warnings, next_beat_due_ms, ..BeatJson::default() };
    match what {
        BeatResult::Held(hold) => BeatJson { result: BeatStatus::Skipped, why: Some(hold), ..json },
        BeatResult::Moved(LastResult { tag, beat, outcome, .. }) => {
            let (tag, beat, outcome) = (Some(tag), Some(beat), Some(outcome));
            BeatJson { result: BeatStatus::Applied, tag, beat, outcome, ..json }
        }
        BeatResult::Failed(failure) => {
            BeatJson { result: BeatStatus::Failed, failure: Some(failure), ..json }
        }
        BeatResult::Cancelled => BeatJson { result: BeatStatus::Cancelled, ..json },
        BeatResult::Waits(_) => BeatJson { result: BeatStatus::Waiting, ..json },
    }
}

fn say(app: &App, report: &BeatReport, took_ms: i64, args: &Args) {
    let style = app.style;
    let time = clock::now().local().strftime("%H:%M:%S").to_string();
    let cost = report.usage.as_ref().map(|usage| match usage.basis.is_metered() {
        true => format!(" · {}", dollars(usage.cost_micros)),
        false => " · unpriced".to_owned(),
    });
    let tail = style.dim(&format!(" ({}{})", human_ms(took_ms), cost.unwrap_or_default()));
    let text = match &report.what {
        BeatResult::Held(hold) => {
            let wakes_nobody = !matches!(hold, Hold::Halted { .. } | Hold::OutOfBudget { .. });
            let idle = format!("{time} idle — {} ({})", hold.words(), human_ms(took_ms));
            let text = match hold {
                Hold::Idle => style.dim(&idle),
                _ => format!("{time} {}{tail}", style.yellow(&format!("held — {}", hold.words()))),
            };
            return match wakes_nobody {
                true if args.quiet => {}
                true if args.pulse && print::stderr_is_tty() => print::redraw(&text),
                _ => print::line(&text),
            };
        }
        BeatResult::Moved(last) => {
            let object = clip(&visible(&last.object, false), 60);
            let object = if object.is_empty() { object } else { format!(" {object}") };
            let words = clip(&visible(&last.outcome.words(), false), 200);
            format!("{time} {}{object} — {words} [{}]{tail}", style.bold(&last.tag), last.beat)
        }
        BeatResult::Failed(failure) => {
            let why = clip(&visible(&failure.why, false), 400);
            format!("{time} {} — {}: {why}{tail}", style.red("failed"), failure.class)
        }
        BeatResult::Cancelled => {
            format!("{time} {}", style.yellow("interrupted or paused; no move was made"))
        }
        BeatResult::Waits(why) => format!("{time} {} — {why}{tail}", style.yellow("the move waits")),
    };
    print::line(&text);
}

fn dry_run(app: &App) -> Result<u8> {
    app.check_profile()?;
    check_clock(app.now, "try a beat")?;
    let config = app.config()?;
    let (gate, PreparedDecision { prompt, .. }) = app.preview(&config)?;
    print::raw(prompt.text.as_bytes());
    print::note(&format!("gate: {}", gate.words()));
    let asked = format!("{} bytes for `{}`", prompt.text.len(), config.decide);
    print::note(&format!("prompt: {asked}; nothing was asked and nothing was written"));
    Ok(0)
}
