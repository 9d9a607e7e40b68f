//! The tick: observe, diff, gate, prepare, ask, plan, apply, record. One run of the pipeline, then the process ends.

pub mod apply;
pub mod ask;
pub mod ctx;
pub mod observe;
pub mod plan;
pub mod prepare;
pub mod record;

use anyhow::Result;

use crate::rules::beat::diff;
use crate::rules::beat::gate::GateDecision;
use crate::rules::beat::observed::Observed;
use crate::rules::beat::state::LoopState;
use crate::rules::time::beat_id;
use crate::store::logs;
use ctx::BeatNotes;
pub use ctx::Ctx;
use prepare::PreparedDecision;
pub use record::BeatReport;

/// Runs one beat.
///
/// # Errors
/// The beat could not be completed; the next one settles what it left.
pub fn tick(ctx: &Ctx) -> Result<BeatReport> {
    let mut notes = BeatNotes::default();
    let mut state = apply::recover(ctx, &mut notes)?;
    let beat = beat_id(state.next_ms(ctx.now));
    let (observed, gate) = consider(ctx, &state, &mut notes)?;
    let (event, usage) = match prepare::reserve(ctx, gate)? {
        GateDecision::Hold(hold) => return record::hold(ctx, notes, state, hold),
        GateDecision::Approved(ask) => {
            let committed = record::commit_people(ctx, &mut notes, &state);
            (plan::approved(ctx, &observed, &beat, &ask, committed)?, None)
        }
        GateDecision::Decide(reasons) => {
            notes.warn_on_error(logs::rotate_journal(ctx.layout, ctx.now));
            let prepared = prepare::decision(ctx, &state, &observed, &reasons, &mut notes)?;
            let (commit, committed) = record::world(ctx, &mut notes, &state, &prepared.frame)?;
            let files = ask::write_prompt(ctx, &mut notes, &beat, &prepared.prompt)?;
            let call = prepare::call(ctx, &prepared.seen, committed);
            apply::carry_out(ctx, &mut notes, &mut state, call)?;
            let reply = ask::one_move(ctx, &notes, &beat, &prepared.prompt, files)?;
            let usage = reply.usage().cloned();
            (plan::reply(ctx, &state, &observed, prepared, commit, reply), usage)
        }
    };
    let waits = apply::carry_out(ctx, &mut notes, &mut state, event)?;
    record::finish(ctx, notes, state, &observed, &beat, usage, waits)
}

/// Returns the gate's decision about a beat that would start now, and the decision that it would ask for. Asks and
/// writes nothing.
pub fn preview(ctx: &Ctx, state: &LoopState) -> Result<(GateDecision, PreparedDecision)> {
    let mut notes = BeatNotes::default();
    let (observed, gate) = consider(ctx, state, &mut notes)?;
    let reasons = if let GateDecision::Decide(reasons) = &gate { reasons.as_slice() } else { &[] };
    let prepared = prepare::decision(ctx, state, &observed, reasons, &mut notes)?;
    Ok((gate, prepared))
}

fn consider(ctx: &Ctx, state: &LoopState, notes: &mut BeatNotes) -> Result<(Observed, GateDecision)> {
    let mut observed = observe::world(ctx, state, notes)?;
    observed.changed = diff::items(&state.baseline, &observed.items);
    let gate = prepare::gate(ctx, state, &observed)?;
    Ok((observed, gate))
}
