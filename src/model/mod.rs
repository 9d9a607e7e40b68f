//! Pure. Values and rules: what looop knows and how it judges, with no file, clock or process in sight.

pub mod ask;
pub mod beat;
pub mod charge;
pub mod decision;
pub mod entry;
pub mod failing;
pub mod fault;
pub mod json;
pub mod lease;
pub mod name;
pub mod policy;
pub mod price;
pub mod query;
pub mod schedule;
pub mod secret;
pub mod sensor;
pub mod settings;
pub mod silence;
pub mod spend;
pub mod step;
pub mod strip;
pub mod time;
pub mod wire;
pub mod worker;
pub mod world;
