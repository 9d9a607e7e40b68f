//! `looop __sync-windows`: shows workers that wait for the user in tmux and to the notifier; started when a flag changes.

use std::path::PathBuf;

use anyhow::Result;

use super::{App, print};
use crate::alerts::{self, AlertTargets};
use crate::store::layout;

/// Updates the windows and notifications once.
pub fn run(app: &App) -> Result<u8> {
    layout::check(&app.layout)?;
    Ok(u8::from(!bring_in_line(app)?))
}

/// Updates the windows and notifies the user; prints what failed. False if something failed.
pub fn bring_in_line(app: &App) -> Result<bool> {
    let env = &app.env;
    // The user must be notified even if the config cannot be read.
    let (path, notify) = match app.config() {
        Ok(config) => (config.settings.path, config.settings.workers.notify),
        Err(_) => (env.path(), Vec::new()),
    };
    let targets = AlertTargets {
        tmux: env.get("TMUX").map(str::to_owned),
        tmux_dir: PathBuf::from(env.get("TMUX_TMPDIR").unwrap_or("/tmp")),
        path,
        env: env.all(),
        config: env.config_path(),
        notify,
    };
    let problems = alerts::reconcile(&app.layout, &targets, app.now)?;
    print::warn(&problems);
    Ok(problems.is_empty())
}
