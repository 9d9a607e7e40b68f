//! The tick: sense, diff, gate, decide one move, act, log. One run of the pipeline, then the process ends.

pub mod act;
pub mod ctx;
pub mod decide;
pub mod diff;
pub mod frame;
pub mod gate;
pub mod log;
pub mod own;
pub mod plan;
pub mod prompt;
pub mod sense;

use anyhow::Result;

use crate::model::step::LoopEvent;
pub use ctx::Ctx;
pub use log::BeatReport;

/// Runs one beat.
///
/// # Errors
/// The beat could not be completed; the next one settles what it left.
pub fn tick(ctx: &mut Ctx) -> Result<BeatReport> {
    let mut beat = log::recall(ctx)?;
    act::settle_leftovers(ctx, &mut beat)?;
    let sensed = sense::world(ctx, &beat)?;
    let items = sensed.world.items();
    let changed = diff::items(&beat.baseline, &items);
    let verdict = frame::gate(ctx, &beat, &sensed, &changed)?;
    let reasons = match frame::reserve(ctx, verdict)? {
        gate::GateDecision::Hold(hold) => return log::held(ctx, &mut beat, hold),
        gate::GateDecision::Approved(_) => return log::approved(ctx, &mut beat, &sensed, items),
        gate::GateDecision::Decide(reasons) => reasons,
    };
    let frame = frame::build(ctx, &beat, &sensed, &changed, &reasons)?;
    let prompt = prompt::render(&frame);
    let commit = log::record_world(ctx, &mut beat, &frame)?;
    let seen = frame::seen(&frame, &sensed, items, &changed, &reasons, &prompt, commit);
    let id = seen.beat.clone();
    let asking = decide::write_down(ctx, &id, &prompt)?;
    act::carry_out(ctx, &mut beat, LoopEvent::Asking(Box::new(frame::call(ctx, &seen))))?;
    let asked = decide::one_move(ctx, &id, &prompt, asking)?;
    let event = log::answer(ctx, &beat, &sensed, seen, asked, &prompt);
    act::carry_out(ctx, &mut beat, event)?;
    log::finish(ctx, &mut beat, &sensed, &prompt, &id)
}
