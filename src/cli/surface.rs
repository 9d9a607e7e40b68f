//! `looop __surface`: shows workers that wait for a human in tmux and to the notifier; started when a flag changes.

use std::path::PathBuf;

use anyhow::Result;

use super::{App, print};
use crate::store::layout;
use crate::worker::surface::{self, Reach};

/// Does once what is to be done.
pub fn run(app: &App) -> Result<u8> {
    layout::check(&app.layout)?;
    Ok(u8::from(!bring_in_line(app)?))
}

/// Shows and tells what waits for a human; what could not be done is said. False: something could not.
pub fn bring_in_line(app: &App) -> Result<bool> {
    let env = &app.env;
    // A config that cannot be read keeps no human from hearing that one is waited for.
    let (path, notify) = match app.config() {
        Ok(config) => (config.settings.path, config.settings.workers.notify),
        Err(_) => (env.path(), Vec::new()),
    };
    let reach = Reach {
        tmux: env.get("TMUX").map(str::to_owned),
        tmux_dir: PathBuf::from(env.get("TMUX_TMPDIR").unwrap_or("/tmp")),
        path,
        env: env.all(),
        config: env.config_path(),
        notify,
    };
    let report = surface::reconcile(&app.layout, &reach, app.now)?;
    for problem in &report.problems {
        print::note(&format!("warning: {problem}"));
    }
    Ok(report.problems.is_empty())
}
