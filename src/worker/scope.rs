//! The scope of an approval for starting a worker: its program and checks, its grants, and the commit from which it
//! starts.

use std::path::Path;

use anyhow::{Context, Result};

use super::Fleet;
use super::plan::is_path;
use super::refusal::{WorkerError, WorkerRefusal};
use crate::os::program;
use crate::rules::beat::scope::{ApprovalScope, GoalScope, GrantScope, RepoScope, SandboxScope};
use crate::rules::user_side::{self, UserSidePath};
use crate::rules::worker::{Objects, Repo, Spec};
use crate::store::coverage::{self, Coverage, CoverageScan};
use crate::store::{file, identity, layout};

/// The longest HEAD file that is read, in bytes.
const MAX_HEAD_BYTES: usize = 4096;

impl Fleet<'_> {
    /// Returns what an approval of the start of this worker would cover now; `base` has the parts that do not depend on
    /// the worker.
    ///
    /// # Errors
    /// When a file cannot be read, the search for files is ended, or the repository is not at the planned commit.
    pub(super) fn scope_of(
        &self,
        spec: &Spec,
        grant: &[String],
        base: ApprovalScope,
    ) -> Result<ApprovalScope, WorkerError> {
        let stop = || self.cancel.is_set();
        let scan = CoverageScan {
            layout: self.layout,
            settings: self.settings,
            cwd: None,
            most: identity::MAX_ENTRIES,
            stop: &stop,
        };
        let mut covered = Coverage::default();
        for argv in std::iter::once(&spec.argv).chain(spec.verify.iter().map(|check| &check.argv)) {
            let name = argv.first().map_or("", String::as_str);
            if let Some(exe) = program::find_program(name, &self.settings.path, Path::new("/")) {
                covered.add(scan.run(argv, &exe).map_err(|denied| denied.map(WorkerRefusal::Approval))?);
            }
        }
        let repo = spec.repo.as_ref().map(|repo| self.repo_scope(repo, spec)).transpose()?;
        let grants = grant.iter().map(|name| self.grant_scope(name, &scan)).collect::<Result<Vec<_>, _>>()?;
        let folders = grants.iter().filter(|grant| grant.kind == "folder");
        covered
            .beyond
            .extend(folders.filter_map(|grant| Some(format!("{}: its contents", grant.path.as_ref()?))));
        let goal = spec.goal.as_ref().map(|goal| -> Result<GoalScope> {
            let path = self.layout.file(&layout::goal_path(goal));
            let content = file::digest(&path).with_context(|| format!("could not read the goal {goal}"))?;
            Ok(GoalScope { id: goal.clone(), content })
        });
        let home: Vec<&Path> = self.settings.home.as_deref().into_iter().collect();
        let granted = grants.iter().filter_map(|grant| {
            let path = grant.path.clone()?;
            let reason = user_side::reason_at(Path::new(&path), &home)?.to_owned();
            Some(UserSidePath { path, reason })
        });
        let checked = spec.verify.iter().flat_map(|check| user_side::named_by(&check.argv, &home));
        let user_side = granted.chain(checked).collect();
        let exe = spec.argv.first().map(Path::new).unwrap_or(Path::new(""));
        let command = scan.command(spec.argv.clone(), exe, Path::new(&spec.cwd), &spec.env)?;
        Ok(ApprovalScope {
            grants,
            command: Some(command),
            sandbox: sandbox_scope(spec),
            checks: spec.verify.clone(),
            files: covered.files,
            folders: covered.folders,
            beyond: covered.beyond,
            goal: goal.transpose()?,
            repo,
            user_side,
            ..base
        })
    }

    fn grant_scope(&self, name: &String, scan: &CoverageScan) -> Result<GrantScope, WorkerError> {
        if !is_path(name) {
            let value: Vec<_> =
                self.settings.full_env.iter().filter(|(key, _)| key == name).cloned().collect();
            let content = Some(scan.private_digest(&value)?);
            let kind = "variable".to_owned();
            return Ok(GrantScope { name: name.clone(), kind, path: None, content, place: None });
        }
        let real = self.sandboxes.grantable(name).map_err(WorkerRefusal::Grant)?;
        let shown = real.display();
        let content = match real.is_file() {
            true => file::digest(&real).with_context(|| format!("could not read `{shown}`"))?,
            false => None,
        };
        Ok(GrantScope {
            name: name.clone(),
            kind: if real.is_dir() { "folder" } else { "file" }.to_owned(),
            path: Some(shown.to_string()),
            content,
            place: Some(identity::place(&real).with_context(|| format!("could not look at `{shown}`"))?),
        })
    }

    /// Returns the scope of the repository. The planned commit counts: a clone is made from it, whatever the repository's
    /// branch points to by then.
    fn repo_scope(&self, repo: &Repo, spec: &Spec) -> Result<RepoScope, WorkerError> {
        let found = self.source(&self.git()?, Path::new(&repo.source))?;
        let dirs =
            [coverage::git_dirs(&found.repo), vec![found.repo.join(".git"), found.repo.clone()]].concat();
        let head =
            dirs.iter().find_map(|dir| file::read_text(&dir.join("HEAD"), MAX_HEAD_BYTES).ok().flatten());
        let place = identity::place(&found.repo)
            .with_context(|| format!("could not look at `{}`", found.repo.display()))?;
        Ok(RepoScope {
            path: repo.source.clone(),
            place,
            head: head.unwrap_or_default().trim_end().to_owned(),
            base: repo.base.clone(),
            objects: Objects::words(self.settings.workers.objects, spec.has_network()),
        })
    }
}

fn sandbox_scope(spec: &Spec) -> SandboxScope {
    let writes = match &spec.sandbox {
        None => vec![SandboxScope::ANYTHING.to_owned()],
        Some(sandbox) => sandbox
            .access
            .write
            .iter()
            .map(|path| path.to_string_lossy().into_owned())
            .chain(["a home and a temporary folder of its own".to_owned()])
            .collect(),
    };
    SandboxScope { level: spec.sandbox_words(), network: spec.network_words(), writes }
}
