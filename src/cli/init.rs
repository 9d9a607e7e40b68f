//! `looop init` creates the data dir and the config, and prints the next steps. The first pulse of a profile on a terminal
//! does so too, after it has shown who decides and what it may spend.

use anyhow::Result;

use super::{App, Fault, dollars, print};
use crate::agents;
use crate::config::{FRESH_DAY_USD, write_fresh};
use crate::os::program;
use crate::store::{lock, state_files};
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
    print::line(&format!("{} {root} ({})", style.bold("data dir"), state(made)));
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

/// Waits for Enter before the first pulse on a terminal, and creates a missing profile. Without a terminal it
/// does nothing, as a service and cron require.
///
/// # Errors
/// The input ends without Enter, or the profile cannot be created.
pub fn confirm_pulse(app: &App) -> Result<()> {
    let has_profile = seed::is_set_up(&app.layout);
    // A user who names a directory expects a profile there.
    let may_make = app.env.get("LOOOP_DATA_DIR").is_none();
    if !print::stdin_is_tty() || !print::stderr_is_tty() || !(has_profile || may_make) {
        return Ok(());
    }
    if has_profile
        && (state_files::is_pulse_confirmed(&app.layout) || lock::holder(&app.layout.pulse_lock()).is_some())
    {
        return Ok(());
    }
    show_terms(app, has_profile)?;
    if print::prompt("Press Enter to start, Ctrl-C to leave: ").is_none() {
        let what = "could not start the pulse: the input ended without Enter";
        return Err(Fault::failed(what).hint("nothing was started").into());
    }
    if !has_profile {
        set_up(app)?;
        let root = app.layout.root().display();
        print::note(&format!("looop: made the data dir `{root}`; `looop init` says what to do next"));
    }
    state_files::confirm_pulse(&app.layout, app.now)
}

/// Shows the terms that the user agrees to.
fn show_terms(app: &App, has_profile: bool) -> Result<()> {
    let config = app.config()?;
    let has_config = config.path.exists();
    let (decider, limit) = match has_config {
        true => (config.decide, config.settings.budget.day_micros),
        false => (fresh_decider(app), Some(u64::from(FRESH_DAY_USD) * 1_000_000)),
    };
    let spending = match limit {
        Some(limit) => format!("up to {} a day (budget.day_usd)", dollars(limit)),
        None => "without a limit: budget.day_usd is not set".to_owned(),
    };
    let made = if has_profile { "" } else { ", made after Enter" };
    let config_made = if has_config { "" } else { made };
    print::note("looop: this is the first pulse of this profile.");
    print::note(&format!("  decides    {decider}, when something changes"));
    print::note(&format!("  may spend  {spending}"));
    print::note("  workers    the first one that costs money waits for your approval");
    print::note(&format!("  data dir   {}{made}", app.layout.root().display()));
    print::note(&format!("  config     {}{config_made}", config.path.display()));
    Ok(())
}

/// Creates what is missing. Returns whether something of the data dir was, and whether the config was.
fn set_up(app: &App) -> Result<(bool, bool)> {
    // Report a config that cannot be read before anything is created.
    app.config()?;
    let made = !seed::set_up(&app.layout, app.now)?.is_empty();
    Ok((made, write_fresh(&app.env, &fresh_decider(app))?))
}

/// The runner for a new config: the first agent CLI on the PATH.
fn fresh_decider(app: &App) -> String {
    runners_on_path(app).into_iter().next().unwrap_or_else(|| agents::AGENTS[0].name.to_owned())
}

/// The agent CLIs on the PATH.
fn runners_on_path(app: &App) -> Vec<String> {
    let path = app.env.path();
    let is_found = |name: &&str| program::find_program(name, &path, app.layout.root()).is_some();
    agents::deciders().filter(is_found).map(str::to_owned).collect()
}
