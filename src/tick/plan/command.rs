//! The scope of an approval of a command: its program, each file that it names, and the folder it runs in.

use std::path::Path;

use crate::rules::beat::scope::{ApprovalScope, SandboxScope};
use crate::rules::sandbox::{Level, SandboxSubject};
use crate::rules::user_side::{self, UserSidePath};
use crate::rules::worker::network_words;
use crate::store::coverage::{Coverage, CoverageScan};
use crate::store::{Denied, identity};
use crate::tick::ctx::Ctx;
use anyhow::{Error, Result};

/// Returns everything that an approval of a command covers.
pub(super) fn scope(
    ctx: &Ctx,
    argv: &[String],
    exe: &Path,
    cwd: &Path,
    scope: ApprovalScope,
) -> Result<ApprovalScope> {
    let grant = ctx.fleet.sandboxes.grant(SandboxSubject::Run).map_err(Error::msg)?;
    let stop = || ctx.cancel.is_set();
    let scan = CoverageScan {
        layout: ctx.layout,
        settings: ctx.settings,
        cwd: Some(cwd),
        most: identity::MAX_ENTRIES,
        stop: &stop,
    };
    let Coverage { files, folders, beyond } = scan.run(argv, exe).map_err(Denied::error)?;
    let home = ctx.settings.home.as_deref();
    let bases: Vec<&Path> = home.into_iter().chain([cwd]).collect();
    let mut user_side = user_side::named_by(argv, &bases);
    if let Some(reason) = home.and_then(|home| user_side::reason_at(cwd, &[home])) {
        user_side.push(UserSidePath { path: cwd.display().to_string(), reason: reason.to_owned() });
    }
    let command = Some(scan.command(argv.to_vec(), exe, cwd, &ctx.settings.base_env)?);
    let level = grant.level.to_string();
    let network = network_words(&grant.net, grant.model);
    let sandbox = match grant.level {
        Level::None => SandboxScope { level, network, writes: vec![SandboxScope::ANYTHING.to_owned()] },
        _ => SandboxScope {
            level,
            network,
            writes: vec![
                format!("{}, except looop's own files", cwd.display()),
                "a private temporary folder".to_owned(),
            ],
        },
    };
    Ok(ApprovalScope { command, files, folders, beyond, sandbox, user_side, ..scope })
}
