//! `looop init`: creates the data dir and the config, and prints the next steps.

use anyhow::Result;

use super::{App, print};
use crate::agents;
use crate::config::write_fresh;
use crate::os::program;
use crate::vcs::{migrate, seed};

/// Creates what is missing and prints the next steps. A second run changes nothing.
pub fn run(app: &App) -> Result<u8> {
    let (made, config_made) = set_up(app)?;
    app.say_migrated(migrate::between_beats(&app.layout, app.now)?);
    let found = runners_on_path(app);
    let root = app.layout.root().display();
    let style = app.style;
    let state = |made: bool| if made { "made" } else { "exists already" };
    let config = app.env.config_path();
    print::line(&format!("{} {root} ({})", style.bold("data dir"), state(!made.is_empty())));
    print::line(&format!("{}   {} ({})", style.bold("config"), config.display(), state(config_made)));
    let runners = match found.is_empty() {
        true => format!("none on the PATH; known: {}", agents::deciders().collect::<Vec<_>>().join(", ")),
        false => found.join(", "),
    };
    print::line(&format!("{}  {runners}", style.bold("runners")));
    if found.is_empty() {
        print::line("         an endpoint or any program of yours can decide too: docs/runners.md");
    }
    print::line("");
    print::line("Next:");
    print::line("  looop demo            see real beats with a scripted runner; costs nothing");
    print::line("  looop doctor          check that nothing is missing");
    print::line("  looop goal write ID   say what you want (the text on stdin or in $EDITOR)");
    print::line("  looop tick --dry-run  read the prompt that a decision would get");
    print::done("  looop                 start the loop; Ctrl-C ends it")
}

/// The runner for a new config: the first agent CLI on the PATH.
pub fn fresh_decider(app: &App) -> String {
    runners_on_path(app).into_iter().next().unwrap_or_else(|| agents::AGENTS[0].name.to_owned())
}

/// Creates the data dir and the config for a first pulse, and prints one line about it.
pub fn first_run(app: &App) -> Result<()> {
    set_up(app)?;
    let root = app.layout.root().display();
    print::note(&format!("looop: made the data dir `{root}`; `looop init` says what to do next"));
    Ok(())
}

fn set_up(app: &App) -> Result<(Vec<String>, bool)> {
    // Report a config that cannot be read before anything is created.
    app.config()?;
    let made = seed::set_up(&app.layout, app.now)?;
    let config_made = write_fresh(&app.env, &fresh_decider(app))?;
    Ok((made, config_made))
}

/// The agent CLIs on the PATH.
pub fn runners_on_path(app: &App) -> Vec<String> {
    let path = app.env.path();
    let found =
        agents::deciders().filter(|name| program::find_program(name, &path, app.layout.root()).is_some());
    found.map(str::to_owned).collect()
}
