//! What a yes to a command covers: its program and each file that it names, byte for byte.

use anyhow::{Context, Result};

use super::{canonical, place_of, text_of};
use crate::model::ask::Subject;
use crate::model::boxing::Kind;
use crate::model::decision::Move;
use crate::store::boxes::Boxer;
use crate::store::file::{self, ReadError};
use crate::sys::program;
use crate::tick::Ctx;

/// The most that the files which a command names may hold together, the program among them, in bytes: all of it is
/// read while the beat's lock is held.
const MAX_NAMED_BYTES: usize = 1 << 30;

fn too_much() -> String {
    format!(
        "the files that it names hold more than {} MiB, and a yes would cover each byte of them",
        MAX_NAMED_BYTES >> 20
    )
}

/// All that a yes to a command covers.
pub(super) fn covered(
    ctx: &Ctx,
    decided: &Move,
    argv: Vec<String>,
    mut subject: Subject,
) -> Result<Result<Subject, String>> {
    let program = argv.first().cloned().unwrap_or_default();
    let Some(cwd) = place_of(ctx, &decided.action) else {
        return Ok(Err("its cwd is not a directory".to_owned()));
    };
    let Some(exe) = program::find_program(&program, &ctx.settings.path, &cwd) else {
        return Ok(Err(format!("`{program}` is not an executable on the configured PATH")));
    };
    let named = argv.iter().skip(1).map(|arg| cwd.join(arg)).filter(|path| path.is_file());
    let mut left = MAX_NAMED_BYTES;
    for path in std::iter::once(exe.clone()).chain(named) {
        let real = canonical(&path);
        let digest = match file::digest_within(&real, &mut left, &|| ctx.cancel.is_set()) {
            Err(ReadError::TooLarge(_)) => return Ok(Err(too_much())),
            read => read.with_context(|| format!("could not read `{}`", real.display()))?,
        };
        subject.files.push((text_of(&path), digest.unwrap_or_default()));
    }
    subject.sandbox = match Boxer::new(ctx.layout, ctx.settings, true).level(Kind::Run) {
        Ok(level) => level.word().to_owned(),
        Err(why) => return Ok(Err(why)),
    };
    subject.env = crate::tick::act::run_env(ctx).into_iter().map(|(key, _)| key).collect();
    subject.argv = argv;
    subject.exe = Some(text_of(&exe));
    subject.cwd = Some(text_of(&cwd));
    Ok(Ok(subject))
}
