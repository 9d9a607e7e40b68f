//! The tick: sense, diff, gate, decide one move, act, log. One run of the pipeline, and then the process ends.

pub mod act;
pub mod decide;
pub mod diff;
pub mod frame;
pub mod gate;
pub mod log;
pub mod plan;
pub mod prompt;
pub mod sense;

use anyhow::Result;

use crate::model::charge::Usage;
use crate::model::name::Name;
use crate::model::settings::Settings;
use crate::model::step::{Event, Seen};
use crate::model::time::Now;
use crate::runner::Runner;
use crate::store::layout::Layout;
use crate::sys::signal::Cancel;
use crate::worker::Fleet;
pub use log::Report;

/// All that a tick works with. The caller holds the tick's lock.
pub struct Ctx<'a> {
    /// Where everything is.
    pub layout: &'a Layout,
    /// What the config decides.
    pub settings: &'a Settings,
    /// Who decides.
    pub runner: &'a dyn Runner,
    /// Who runs workers.
    pub fleet: &'a dyn Fleet,
    /// Interruption by a human.
    pub cancel: &'a Cancel,
    /// The beat's moment, read once.
    pub now: Now,
    /// The clock, for how long a call or a command took.
    pub clock: &'a dyn Fn() -> Now,
    /// The goal that the human wants a move for now.
    pub forced: Option<Name>,
    /// The name under which a human's edits are committed.
    pub person: String,
    /// Drawn about ten times a second while the runner thinks.
    pub frame: Option<Box<dyn FnMut() + 'a>>,
    /// True: nothing is written, not even to the cache.
    pub dry: bool,
    /// What the beat's call cost.
    pub usage: Option<Usage>,
    /// What went wrong without ending the beat.
    pub warnings: Vec<String>,
}

/// Runs one beat.
///
/// # Errors
/// When the beat could not be brought to its end; the next one settles what it left.
pub fn tick(ctx: &mut Ctx) -> Result<Report> {
    let mut beat = log::recall(ctx)?;
    act::settle_leftovers(ctx, &mut beat)?;
    let sensed = sense::world(ctx, &beat)?;
    let items = sensed.world.items();
    let changed = diff::items(&beat.baseline, &items);
    let reasons = match frame::gate(ctx, &beat, &sensed, &changed)? {
        gate::Verdict::Hold(hold) => return log::held(ctx, &mut beat, hold),
        gate::Verdict::Approved(_) => return log::approved(ctx, &mut beat, &sensed, items),
        gate::Verdict::Decide(reasons) => reasons,
    };
    let frame = frame::build(ctx, &beat, &sensed, &changed, &reasons)?;
    let prompt = prompt::render(&frame);
    let commit = log::record_world(ctx, &mut beat, &frame)?;
    let seen: Seen = frame::seen(&frame, &sensed, items, &changed, &reasons, &prompt, commit, &beat);
    act::carry_out(ctx, &mut beat, Event::Asking(Box::new(frame::call(ctx, &seen))))?;
    let asked = decide::one_move(ctx, &seen.beat, &prompt.text)?;
    let event = log::answer(ctx, &beat, &sensed, seen, asked, &prompt)?;
    act::carry_out(ctx, &mut beat, event)?;
    log::finish(ctx, &mut beat, &sensed, &prompt)
}
