//! looop: a tiny, portable, Kubernetes-shaped control loop for a user's work.
//!
//! Desired state (`goals/*.md`) and judgment (`PLAYBOOK.md`) are text in a data dir that is a git repository.
//! Sensors print the world as JSON. Each tick runs the sensors and, only when something changed, asks an LLM
//! for exactly one move, makes it at most once, journals it and commits.
//!
//! ```text
//! sense -> diff -> gate -> decide ONE move -> act -> log          one tick, then the process ends
//! ```
//!
//! # The map
//! A module imports itself and what stands left of it, and a test holds that:
//! `model < sys < store < vcs < agents < screen < alerts < worker < tick < map < fix < config < cli`.
//!
//! | module | what it is |
//! |---|---|
//! | [`model`] | pure values and rules: no file, clock or process |
//! | [`sys`] | the operating system: clock, processes, signals, watching |
//! | [`store`] | the data dir: the only place that knows file names; git history through gix |
//! | [`vcs`] | clones of repositories, and states of their files |
//! | [`agents`] | agent CLIs, one file each, and model endpoints |
//! | [`screen`] | a worker's screen: its model, its drawing on a terminal, keys, export |
//! | [`alerts`] | tmux windows and notifiers that call the user |
//! | [`worker`] | detached workers: who starts, supervises and ends them |
//! | [`tick`](mod@tick) | the pipeline, as a screen of verbs |
//! | [`map`] | the code map: which files of a project matter for a question |
//! | [`fix`] | the fix loop: attempts in a private clone, judged by tests, stopped if they repeat |
//! | [`config`] | environment and config file, read once |
//! | [`cli`] | one file per command; the only place that prints |
//!
//! # Where the guarantees are implemented
//! 1. *An unchanged world costs nothing*: [`tick::gate`] returns [`tick::gate::Hold::Idle`], and [`tick::record::hold`]
//!    writes only a time stamp in the cache.
//! 2. *At most one move, at most once*: [`model::step`] orders reservation, intent, operation, journal and settlement;
//!    [`tick::apply`] carries the move out and settles the rest of a crash.
//! 3. *Nothing irreversible without an approval*: [`model::policy`] decides outside the language model, and
//!    [`tick::plan`] binds an approval to the exact bytes.
//! 4. *Finished work is never lost*: [`store::file`] replaces whole files, [`store::operations`] never overwrites a change
//!    of the user, [`store::commits`] keeps the history.
//! 5. *Level-triggered*: a tick reads only files; [`model::beat::LoopState`] is its whole memory.

pub mod agents;
pub mod alerts;
pub mod cli;
pub mod config;
pub mod fix;
pub mod map;

pub mod model;
pub mod screen;
pub mod store;
pub mod sys;
pub mod tick;
pub mod vcs;
pub mod worker;
