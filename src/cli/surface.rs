//! `looop __surface`: shows workers that wait for a human in tmux and to the notifier; started when a flag changes.

use std::path::PathBuf;

use anyhow::Result;

use super::{App, print};
use crate::store::layout;
use crate::worker::surface::{self, Reach};

/// Does once what is to be done.
pub fn run(app: &App) -> Result<u8> {
    layout::check(&app.layout)?;
    let env = &app.env;
    // A config that cannot be read keeps no human from hearing that one is waited for.
    let path = app.config().map_or_else(|_| env.path(), |config| config.settings.path);
    let reach = Reach {
        tmux: env.get("TMUX").map(str::to_owned),
        tmux_dir: PathBuf::from(env.get("TMUX_TMPDIR").unwrap_or("/tmp")),
        path,
        env: env.all(),
        config: env.config_path(),
    };
    let report = surface::reconcile(&app.layout, &reach, app.now)?;
    for problem in &report.problems {
        print::note(&format!("warning: {problem}"));
    }
    Ok(u8::from(!report.problems.is_empty()))
}
