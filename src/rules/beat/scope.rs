//! Pure. The scope of an approval: everything that it covers, in one value. The screen shows it, the hash is computed
//! from it, and before the move a new scope is computed and compared.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::digest::digest_of;
use crate::rules::name::Name;

/// The format of a scope that this version writes. An approval with a scope of another format is void.
pub const FORM: u32 = 2;

/// Everything that an approval covers. If any part differs when the move is about to be made, the approval is void.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ApprovalScope {
    /// The format of this value; 0: that of an earlier version, whose other fields are not read.
    pub form: u32,
    /// The flat JSON form of the action, canonical. The `cwd` of a `run` is in `command`, resolved.
    pub action: String,
    /// The grants of a worker, resolved.
    pub grants: Vec<GrantScope>,
    /// The command of a `run` or of a worker.
    pub command: Option<CommandScope>,
    /// The commands that decide whether a worker's work is done.
    pub checks: Vec<Check>,
    /// Files that the command starts with, names or reads.
    pub files: Vec<FileScope>,
    /// Folders that the command runs in or names.
    pub folders: Vec<FolderScope>,
    /// What the approval does not cover, one sentence each.
    pub beyond: Vec<String>,
    /// The sandbox of the command.
    pub sandbox: SandboxScope,
    /// blake3 of the file that the move replaces; absent if the file does not exist.
    pub replaces: Option<String>,
    /// The goal whose lease and check a worker gets.
    pub goal: Option<GoalScope>,
    /// The repository that a worker clones.
    pub repo: Option<RepoScope>,
    /// Paths that execute on the user's side, which an argument names or the command may write.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub user_side: Vec<UserSidePath>,
}

/// One grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GrantScope {
    /// The grant as the move names it.
    pub name: String,
    /// `variable`, `file` or `folder`.
    pub kind: String,
    /// The path that it resolves to; absent for a variable.
    pub path: Option<String>,
    /// A digest of the value of a variable or of the content of a file.
    pub content: Option<String>,
    /// A digest of the location of a path.
    pub place: Option<String>,
}

/// The command of a move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommandScope {
    /// The argument vector.
    pub argv: Vec<String>,
    /// The path of the program.
    pub program: String,
    /// The working directory.
    pub cwd: String,
    /// A digest of the location of that directory; absent for a directory that is created for the worker.
    pub place: Option<String>,
    /// Names of the environment variables that it gets.
    pub env: Vec<String>,
    /// A digest of all names and values, computed with a key of this profile.
    pub values: String,
}

/// One command that decides whether a worker's work is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Its name in the config or the goal.
    pub name: String,
    /// The argument vector; it runs in the worker's directory.
    pub argv: Vec<String>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileScope {
    /// `program`, `interpreter`, `file`, or `read by` and the file that names it.
    pub role: String,
    /// The path as it was named.
    pub path: String,
    /// The path without symbolic links.
    pub real: String,
    /// A digest of its location, mode, owner and time.
    pub place: String,
    /// blake3 of its content.
    pub content: String,
}

/// One folder with all its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FolderScope {
    /// Its path without symbolic links.
    pub path: String,
    /// The number of its entries.
    pub entries: u64,
    /// A digest of its location and of all its content.
    pub content: String,
}

/// The sandbox of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SandboxScope {
    /// The sandbox level: `none`, `partial` or `full`; for a worker, its checks have it too.
    pub level: String,
    /// The network access.
    pub network: String,
    /// Paths that the command may write.
    pub writes: Vec<String>,
}

/// A goal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GoalScope {
    /// Its name.
    pub id: Name,
    /// blake3 of its text; absent for a goal that does not exist.
    pub content: Option<String>,
}

/// A repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RepoScope {
    /// Its path without symbolic links.
    pub path: String,
    /// A digest of its location.
    pub place: String,
    /// The target of its HEAD: a branch, or a commit.
    pub head: String,
    /// The commit that the clone starts from.
    pub base: String,
    /// Which objects of the repository the clone can read, as text.
    #[serde(default)]
    pub objects: String,
}

/// A path that executes on the user's side, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserSidePath {
    /// The path in the project; untrusted text.
    pub path: String,
    /// Who runs or obeys it.
    pub reason: String,
}

/// The reason why an approval is void: this part of its scope differs now.
pub fn changed(part: &str) -> String {
    format!("something that the approval covered has changed since: {part}")
}

impl SandboxScope {
    /// The writable paths of a command without a sandbox.
    pub const ANYTHING: &str = "everything that you may write";
}

impl ApprovalScope {
    /// blake3 over the scope: the same move on the same files has the same digest.
    pub fn digest(&self) -> String {
        digest_of(&serde_json::to_vec(self).unwrap_or_default())
    }

    /// blake3 over the parts that identify a request: the move, its command, and the content of the files that it
    /// names. A rejection applies to this digest, even if other parts of the scope have changed.
    pub fn request_digest(&self) -> String {
        let mut request = ApprovalScope { folders: Vec::new(), beyond: Vec::new(), ..self.clone() };
        request.files.retain(|file| !file.role.starts_with("read by"));
        request.files.iter_mut().for_each(|file| file.place.clear());
        request.grants.iter_mut().for_each(|grant| (grant.content, grant.place) = (None, None));
        if let Some(command) = &mut request.command {
            command.place = None;
            command.values.clear();
        }
        if let Some(goal) = &mut request.goal {
            goal.content = None;
        }
        if let Some(repo) = &mut request.repo {
            [&mut repo.place, &mut repo.head, &mut repo.base].into_iter().for_each(String::clear);
        }
        request.digest()
    }

    /// Compares what an approval covered with the same things as they are now.
    ///
    /// # Errors
    /// Says what has changed: the approval is void.
    pub fn check(&self, now: &ApprovalScope) -> Result<(), String> {
        if self == now {
            return Ok(());
        }
        Err(changed(self.difference(now)))
    }

    /// The first part in which another scope differs, in words.
    pub fn difference(&self, now: &ApprovalScope) -> &'static str {
        // All fields are named, so that a new one cannot be forgotten here.
        let ApprovalScope {
            form: _,
            action: _,
            beyond: _,
            replaces,
            grants,
            command,
            checks,
            files,
            folders,
            sandbox,
            goal,
            repo,
            user_side,
        } = self;
        let parts = [
            (*replaces == now.replaces, "the file that it replaces"),
            (*grants == now.grants, "a grant"),
            (*command == now.command, "the program, the folder or the environment"),
            (*checks == now.checks, "a check"),
            (*files == now.files, "a file"),
            (*repo == now.repo, "the repository or its commit"),
            (*goal == now.goal, "the goal"),
            (*sandbox == now.sandbox, "the sandbox"),
            (*folders == now.folders, "the folder"),
            (*user_side == now.user_side, "what executes on your side"),
        ];
        let first = parts.into_iter().find(|(is_same, _)| !is_same);
        first.map_or("what an approval does not cover", |(_, part)| part)
    }
}

#[cfg(test)]
#[path = "scope_tests.rs"]
pub(super) mod tests;
