//! Pure. One beat: what it remembers, whether it may decide, what the model is shown and may answer, and what needs the
//! approval of the user.

pub mod ask;
pub mod card;
pub mod decision;
pub mod diff;
pub mod entry;
pub mod failing;
pub mod gate;
pub mod limit_end;
pub mod observed;
pub mod policy;
pub mod prompt;
pub mod reply;
pub mod schedule;
pub mod scope;
pub mod settings;
pub mod state;
pub mod step;
