//! The first pulse of a profile on a terminal: shows who decides and what it may spend, and waits for Enter.

use anyhow::Result;

use crate::cli::{App, Fault, dollars, init, print};
use crate::config::FRESH_DAY_USD;
use crate::store::{lock, state_files};
use crate::vcs::seed;

/// Waits for Enter before the first pulse on a terminal, and creates a missing profile. Without a terminal it
/// does nothing, as a service and cron require.
///
/// # Errors
/// The input ends without Enter, or the profile cannot be created.
pub(super) fn confirm(app: &App) -> Result<()> {
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
    for line in terms(app, has_profile)? {
        print::note(&line);
    }
    if print::prompt("Press Enter to start, Ctrl-C to leave: ").is_none() {
        let what = "could not start the pulse: the input ended without Enter";
        return Err(Fault::failed(what).hint("nothing was started").into());
    }
    if !has_profile {
        init::first_run(app)?;
    }
    state_files::confirm_pulse(&app.layout, app.now)
}

/// The terms that the user agrees to.
fn terms(app: &App, has_profile: bool) -> Result<Vec<String>> {
    let config = app.config()?;
    let has_config = config.path.exists();
    let decider = if has_config { config.decide } else { init::fresh_decider(app) };
    let limit = match has_config {
        true => config.settings.budget.day_micros,
        false => Some(u64::from(FRESH_DAY_USD) * 1_000_000),
    };
    let spending = match limit {
        Some(limit) => format!("up to {} a day (budget.day_usd)", dollars(limit)),
        None => "without a limit: budget.day_usd is not set".to_owned(),
    };
    let made = if has_profile { "" } else { ", made after Enter" };
    Ok(vec![
        "looop: this is the first pulse of this profile.".to_owned(),
        format!("  decides    {decider}, when something changes"),
        format!("  may spend  {spending}"),
        "  workers    the first one that costs money waits for your approval".to_owned(),
        format!("  data dir   {}{made}", app.layout.root().display()),
        format!("  config     {}{}", config.path.display(), if has_config { "" } else { made }),
    ])
}
