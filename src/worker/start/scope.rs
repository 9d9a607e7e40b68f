//! The scope of an approval for starting a worker: its program and checks, its grants, and the commit from which it
//! starts.

use std::path::Path;

use anyhow::{Context, Result};

use super::walls::is_path;
use super::{WorkerError, WorkerRefusal, WorkerRequest};
use crate::os::program;
use crate::rules::beat::scope::{ApprovalScope, GoalScope, GrantScope, RepoScope, SandboxScope};
use crate::rules::user_side::{self, UserSidePath};
use crate::rules::worker::{Objects, Spec};
use crate::store::coverage::{self, Coverage, CoverageScan};
use crate::store::file;
use crate::store::identity;
use crate::store::layout;
use crate::store::sandboxes::SandboxBuilder;
use crate::vcs::clone;
use crate::worker::Fleet;

/// The longest HEAD file that is read, in bytes.
const MAX_HEAD_BYTES: usize = 4096;

impl Fleet<'_> {
    /// Compares what the user approved with the worker that is about to start, when its clone and its files are ready.
    /// `described` is the worker before they were made, and `made` is the worker with its clone.
    ///
    /// # Errors
    /// When the approval is void, a file cannot be read, or the search for files is ended.
    pub(super) fn check_approved(
        &self,
        wanted: &WorkerRequest,
        described: &Spec,
        made: &Spec,
    ) -> Result<(), WorkerError> {
        let Some(approved) = &wanted.approved else { return Ok(()) };
        let now = self.scope_of(wanted, described)?;
        let mut now = ApprovalScope { form: approved.form, action: approved.action.clone(), ..now };
        // The clone counts, not the current state of its repository.
        if let (Some(repo), Some(clone)) = (&mut now.repo, &made.repo) {
            repo.base.clone_from(&clone.base);
        }
        Ok(approved.check(&now).map_err(WorkerRefusal::Approval)?)
    }

    /// Returns what an approval of this start would cover now.
    ///
    /// # Errors
    /// When a file cannot be read, or the search for files is ended.
    pub(in crate::worker) fn scope_of(
        &self,
        wanted: &WorkerRequest,
        spec: &Spec,
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
            let Some(exe) = program::find_program(name, &self.settings.path, Path::new("/")) else {
                continue;
            };
            covered.add(scan.run(argv, &exe).map_err(|denied| denied.map(WorkerRefusal::Approval))?);
        }
        let repo = wanted.place.repo().map(|path| self.repo_scope(path, spec)).transpose()?;
        let grants = self.grant_scopes(wanted, &scan)?;
        let folders = grants.iter().filter(|grant| grant.kind == "folder");
        covered
            .beyond
            .extend(folders.filter_map(|grant| Some(format!("{}: its contents", grant.path.as_ref()?))));
        let goal = wanted.goal.as_ref().map(|goal| -> Result<GoalScope> {
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
            ..ApprovalScope::default()
        })
    }

    fn grant_scopes(
        &self,
        wanted: &WorkerRequest,
        scan: &CoverageScan,
    ) -> Result<Vec<GrantScope>, WorkerError> {
        let sandboxes = SandboxBuilder::new(self.layout, self.settings, true);
        let mut grants = Vec::new();
        for name in &wanted.grant {
            if !is_path(name) {
                let all = self.settings.full_env.iter();
                let value: Vec<_> = all.filter(|(key, _)| key == name).cloned().collect();
                let content = Some(scan.private_digest(&value)?);
                let (name, kind) = (name.clone(), "variable".to_owned());
                grants.push(GrantScope { name, kind, path: None, content, place: None });
                continue;
            }
            let real = sandboxes.grantable(name).map_err(WorkerRefusal::Grant)?;
            let shown = real.display();
            let content = match real.is_file() {
                true => file::digest(&real).with_context(|| format!("could not read `{shown}`"))?,
                false => None,
            };
            grants.push(GrantScope {
                name: name.clone(),
                kind: if real.is_dir() { "folder" } else { "file" }.to_owned(),
                path: Some(shown.to_string()),
                content,
                place: Some(identity::place(&real).with_context(|| format!("could not look at `{shown}`"))?),
            });
        }
        Ok(grants)
    }

    fn repo_scope(&self, path: &Path, spec: &Spec) -> Result<RepoScope, WorkerError> {
        let found = clone::inspect(&self.git()?, path)?;
        let dirs =
            [coverage::git_dirs(&found.repo), vec![found.repo.join(".git"), found.repo.clone()]].concat();
        let head =
            dirs.iter().find_map(|dir| file::read_text(&dir.join("HEAD"), MAX_HEAD_BYTES).ok().flatten());
        let place = identity::place(&found.repo)
            .with_context(|| format!("could not look at `{}`", found.repo.display()))?;
        Ok(RepoScope {
            path: found.repo.to_string_lossy().into_owned(),
            place,
            head: head.unwrap_or_default().trim_end().to_owned(),
            base: found.head,
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
    SandboxScope { level: spec.box_words(), network: spec.network_words(), writes }
}
