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
//! `rules < os < sandbox < store < vcs < agents < screen < worker < alerts < tick < map < fix < config < cli`.
//!
//! | module | what it is |
//! |---|---|
//! | [`rules`] | pure values and rules: no file, clock or process |
//! | [`os`] | the operating system: clock, processes, signals, watching |
//! | [`sandbox`] | what a child may access, and the mechanisms that enforce it: a layer over [`os::process`] |
//! | [`store`] | the data dir: the only place that knows file names |
//! | [`vcs`] | repositories: the history of the data dir, clones, and every git command |
//! | [`agents`] | agent CLIs, one file each, and model endpoints |
//! | [`screen`] | a worker's screen: its model, its drawing on a terminal, keys, export |
//! | [`worker`] | detached workers: who starts, supervises and ends them |
//! | [`alerts`] | tmux windows and notifiers that call the user |
//! | [`tick`](mod@tick) | the pipeline, as a screen of verbs |
//! | [`map`] | the code map: which files of a project matter for a question |
//! | [`fix`] | the fix loop: attempts in a private clone, judged by tests, stopped if they repeat |
//! | [`config`] | environment and config file, read once |
//! | [`cli`] | one file per command; the only place that prints |
//!
//! # Where the guarantees are implemented
//! 1. *An unchanged world costs nothing*: [`rules::beat::gate`] returns [`rules::beat::gate::Hold::Idle`], and [`tick::record::hold`]
//!    writes only a time stamp in the cache.
//! 2. *At most one move, at most once*: [`rules::beat::step`] orders reservation, intent, operation, journal and settlement;
//!    [`tick::apply`] carries the move out and settles the rest of a crash.
//! 3. *Nothing irreversible without an approval*: [`rules::beat::policy`] decides outside the language model, and
//!    [`tick::plan`] binds an approval to the exact bytes.
//! 4. *Finished work is never lost*: [`store::file`] replaces whole files, [`store::operations`] never overwrites a change
//!    of the user, [`vcs::commits`] keeps the history.
//! 5. *Level-triggered*: a tick reads only files; [`rules::beat::state::LoopState`] is its whole memory.

pub mod agents;
pub mod alerts;
pub mod cli;
pub mod config;
pub mod fix;
pub mod map;

pub mod os;
pub mod rules;
pub mod sandbox;
pub mod screen;
pub mod store;
pub mod tick;
pub mod vcs;
pub mod worker;
