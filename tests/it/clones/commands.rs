//! Every command of git that looop has, each on a repository that is hostile through and through: nothing of it runs.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use looop::rules::fault::Fault;
use looop::vcs::clone::{Git, inspect};
use looop::vcs::git::dir::RepoFormat;
use looop::vcs::git::{GitCommand, GitDir, RepoLink};
use looop::vcs::history::repository::borrow_objects;

use super::fixture::{Fixture, program, shell};
use crate::support::profile::git_in;

/// The place of a command in the list. A new one has to be named here, and then to be tried below.
fn number(command: &GitCommand) -> usize {
    match command {
        GitCommand::Resolve(_) => 0,
        GitCommand::HasObject(_) => 1,
        GitCommand::Refs(_) => 2,
        GitCommand::RefKinds => 3,
        GitCommand::SetRef { .. } => 4,
        GitCommand::DeleteRef { .. } => 5,
        GitCommand::Commits => 6,
        GitCommand::CountCommits(_) => 7,
        GitCommand::Stashes => 8,
        GitCommand::IsAncestor(..) => 9,
        GitCommand::Entries(_) => 10,
        GitCommand::CheckOut => 11,
        GitCommand::ReadTree(_) => 12,
        GitCommand::FillIndex => 13,
        GitCommand::WriteTree => 14,
        GitCommand::Staged(_) => 15,
        GitCommand::HashFiles { .. } => 16,
        GitCommand::Import => 17,
        GitCommand::Commit { .. } => 18,
        GitCommand::Diff { .. } => 19,
        GitCommand::Changes(..) => 20,
        GitCommand::Blob(_) => 21,
        GitCommand::Blobs => 22,
        GitCommand::Pack { .. } => 23,
        GitCommand::TakePack => 24,
        GitCommand::CollectGarbage => 25,
        GitCommand::Size(_) => 26,
    }
}
/// How many there are.
const COMMANDS: usize = 27;

/// Keys of a config that name a program.
const PROGRAMS: [&str; 24] = [
    "core.fsmonitor",
    "core.sshCommand",
    "core.gitProxy",
    "core.pager",
    "core.editor",
    "core.askPass",
    "core.alternateRefsCommand",
    "sequence.editor",
    "uploadpack.packObjectsHook",
    "gc.recentObjectsHook",
    "filter.spy.clean",
    "filter.spy.smudge",
    "filter.spy.process",
    "diff.external",
    "diff.spy.textconv",
    "diff.spy.command",
    "merge.spy.driver",
    "gpg.program",
    "gpg.ssh.program",
    "credential.helper",
    "hook.spy.command",
    "alias.add",
    "trailer.spy.command",
    "remote.origin.receivepack",
];

const ATTRIBUTES: &str =
    "* filter=spy diff=spy merge=spy text working-tree-encoding=UTF-16\n[attr]spy filter=spy\n";

/// Makes a repository name a trap wherever a program can be named: in its config, in a file that this includes, as a
/// hook, and by attributes.
pub fn arm(fixture: &Fixture, repo: &Path, git_dir: &Path) {
    let trap = fixture.path("spy");
    fixture.trap(&trap);
    let spy = trap.display().to_string();
    for hook in super::HOOKS.iter().chain(&["pre-commit", "commit-msg", "post-rewrite", "sendemail-validate"])
    {
        fixture.trap(&git_dir.join("hooks").join(hook));
    }
    let config = git_dir.join("config").display().to_string();
    for key in PROGRAMS {
        git_in(repo, &["config", "-f", &config, key, &spy]);
    }
    let hooks = git_dir.join("hooks").display().to_string();
    for (key, value) in [
        ("hook.spy.event", "reference-transaction"),
        ("core.hooksPath", &hooks),
        ("filter.spy.required", "true"),
        ("commit.gpgsign", "true"),
        ("tag.gpgsign", "true"),
        ("log.showSignature", "true"),
        ("include.path", "more"),
        ("includeIf.gitdir:/**.path", "more"),
        ("extensions.worktreeConfig", "true"),
        ("remote.origin.url", "ext::sh -c 'touch sprung'"),
        ("protocol.ext.allow", "always"),
        ("protocol.allow", "always"),
    ] {
        git_in(repo, &["config", "-f", &config, key, value]);
    }
    let text = format!("[core]\n\tfsmonitor = {spy}\n[filter \"spy\"]\n\tclean = {spy}\n\tsmudge = {spy}\n");
    for name in ["more", "config.worktree"] {
        fs::write(git_dir.join(name), &text).unwrap();
    }
    fs::create_dir_all(git_dir.join("info")).unwrap();
    fs::write(git_dir.join("info/attributes"), ATTRIBUTES).unwrap();
}

/// A repository with a submodule, both of them hostile, and changed files in both.
pub fn hostile(fixture: &Fixture, name: &str) -> PathBuf {
    let repo = fixture.repo(name);
    let inner = fixture.repo("lender");
    let attributes = ATTRIBUTES.replace(" text working-tree-encoding=UTF-16", "");
    fs::write(repo.join(".gitattributes"), attributes).unwrap();
    let modules = "[submodule \"sub\"]\n\tpath = sub\n\turl = ext::sh -c 'touch sprung'\n";
    fs::write(repo.join(".gitmodules"), modules).unwrap();
    fs::rename(inner, repo.join("sub")).unwrap();
    git_in(&repo, &["add", "-A"]);
    git_in(&repo, &["commit", "-qm", "a submodule"]);
    git_in(&repo, &["gc", "-q"]);
    fixture.commit(&repo, "later", "not packed\n");
    fs::write(repo.join("sub/.gitattributes"), ATTRIBUTES).unwrap();
    arm(fixture, &repo, &repo.join(".git"));
    arm(fixture, &repo.join("sub"), &repo.join("sub/.git"));
    // As long as before, so that only its text can tell.
    fs::write(repo.join("file"), "owt\n").unwrap();
    fs::write(repo.join("sub/file"), "owt\n").unwrap();
    assert!(!fixture.is_sprung(), "nothing ran while the scene was set");
    repo
}

fn input(fixture: &Fixture, bytes: &[u8]) -> Option<File> {
    fs::write(fixture.path("input"), bytes).unwrap();
    Some(File::open(fixture.path("input")).unwrap())
}

#[test]
fn no_command_runs_what_a_hostile_repository_names() {
    let fixture = Fixture::new();
    let repo = hostile(&fixture, "repo");
    let git = fixture.git();
    let link = RepoLink::open(&repo.join(".git"), RepoFormat::default()).unwrap();
    // A repository of looop's with the hostile folder as its files, as for a fix and for what is left in a clone.
    let own = GitDir::create(&fixture.path("own/.git"), RepoFormat::default(), "base", "").unwrap();
    borrow_objects(&own, &repo.join(".git/objects")).unwrap();
    let over = own.clone().with_files(&repo).unwrap().with_index(&fixture.path("own/index")).unwrap();
    let names = ["HEAD^{commit}", "HEAD^^{commit}", "HEAD^{tree}", "HEAD^^{tree}", "HEAD:file"];
    let [head, before, tree, old, blob] =
        names.map(|name| git.line(&link.dir, &GitCommand::Resolve(name)).unwrap());
    let (range, lines) = (format!("{before}..{head}"), format!("{head}\n"));
    let stem = fixture.path("out").display().to_string();
    let stream = b"blob\nmark :1\ndata 4\nnew\n\nget-mark :1\n";
    let entry = format!("100644 {blob}\tfile\0");
    let name = "refs/looop/x";
    let commands: Vec<(GitCommand, Option<&[u8]>)> = vec![
        (GitCommand::Resolve(&head), None),
        (GitCommand::HasObject(&head), None),
        (GitCommand::Refs(&["refs/heads"]), None),
        (GitCommand::RefKinds, None),
        (GitCommand::SetRef { name, to: &head, old: None }, None),
        (GitCommand::DeleteRef { name, old: &head }, None),
        (GitCommand::SetRef { name: "refs/stash", to: &head, old: None }, None),
        (GitCommand::Commits, Some(lines.as_bytes())),
        (GitCommand::CountCommits(&range), None),
        (GitCommand::IsAncestor(&before, &head), None),
        (GitCommand::Entries(&head), None),
        (GitCommand::ReadTree(&head), None),
        (GitCommand::FillIndex, Some(entry.as_bytes())),
        (GitCommand::WriteTree, None),
        (GitCommand::Staged(&head), None),
        (GitCommand::HashFiles { raw: true }, Some(b"file\n")),
        (GitCommand::HashFiles { raw: false }, Some(b"file\n")),
        (GitCommand::Import, Some(stream)),
        (GitCommand::Commit { tree: &tree, parent: Some(&head), message: "m" }, None),
        (GitCommand::Diff { from: &old, to: &tree, context: 3 }, None),
        (GitCommand::Changes(&old, &tree), None),
        (GitCommand::Size(&blob), None),
        (GitCommand::Blob(&blob), None),
        (GitCommand::Blobs, Some(blob.as_bytes())),
        (GitCommand::Pack { stem: &stem }, Some(lines.as_bytes())),
    ];
    let mut tried = BTreeSet::new();
    for (command, stdin) in &commands {
        for dir in [&link.dir.clone().with_index(&fixture.path("own/linked")).unwrap(), &over] {
            // A hash of a file belongs to a folder.
            let dir = if command.files() { &over } else { dir };
            let ran = git.run_with(dir, command, stdin.and_then(|bytes| input(&fixture, bytes)), None);
            ran.unwrap_or_else(|error| panic!("{command:?}: {error:#}"));
        }
        tried.insert(number(command));
    }
    // Only where a log is; none was made of the one that was set above.
    drop(git.run(&link.dir, &GitCommand::Stashes));
    tried.insert(number(&GitCommand::Stashes));
    let pack = fs::read_dir(fixture.path("")).unwrap().flatten().map(|entry| entry.path());
    let pack = pack.into_iter().find(|path| path.extension().is_some_and(|end| end == "pack")).unwrap();
    git.run_with(&link.dir, &GitCommand::TakePack, Some(File::open(pack).unwrap()), None).unwrap();
    tried.insert(number(&GitCommand::TakePack));
    git.run(&link.dir, &GitCommand::CollectGarbage).unwrap();
    tried.insert(number(&GitCommand::CollectGarbage));
    // Where git writes files, the folder is one that looop made, and the attributes come with the commit.
    let fresh = fixture.path("fresh");
    fs::create_dir(&fresh).unwrap();
    let clone = GitDir::create(&fresh.join(".git"), RepoFormat::default(), "x", "").unwrap();
    borrow_objects(&clone, &repo.join(".git/objects")).unwrap();
    git.run(&clone, &GitCommand::SetRef { name: "refs/heads/x", to: &head, old: None }).unwrap();
    git.run(&clone.with_files(&fresh).unwrap(), &GitCommand::CheckOut).unwrap();
    assert_eq!(fs::read_to_string(fresh.join("file")).unwrap(), "two\n");
    tried.insert(number(&GitCommand::CheckOut));
    assert_eq!(tried, (0..COMMANDS).collect(), "each command was tried");
    fixture.ran_no_trap();
    shell(&repo, "git -c user.name=x -c user.email=x add -A");
    assert!(fixture.is_sprung(), "the trap works");
}

#[test]
fn a_git_directory_of_looops_own_keeps_nothing_that_was_put_into_it() {
    let fixture = Fixture::new();
    let (repo, other) = (fixture.repo("repo"), fixture.repo("other"));
    let git = fixture.git();
    let make = |name: &str| {
        let made = GitDir::create(&fixture.path(name).join(".git"), RepoFormat::default(), "x", "").unwrap();
        borrow_objects(&made, &repo.join(".git/objects")).unwrap();
        made
    };
    let head = git_in(&repo, &["rev-parse", "HEAD"]).trim().to_owned();
    for put in ["config", "commondir"] {
        make(put);
        let inside = fixture.path(put).join(".git");
        arm(&fixture, &repo, &inside);
        if put == "commondir" {
            arm(&fixture, &other, &other.join(".git"));
            fs::write(inside.join(put), other.join(".git").display().to_string()).unwrap();
        }
        fs::write(fixture.path(put).join(".gitattributes"), "* filter=spy\n").unwrap();
        fs::write(fixture.path(put).join("file"), "text\n").unwrap();
        let own = make(put);
        assert!(!inside.join("commondir").exists());
        let files = own.clone().with_files(&fixture.path(put)).unwrap();
        let hash = GitCommand::HashFiles { raw: false };
        git.run_with(&files, &hash, input(&fixture, b"file\n"), None).unwrap();
        git.run(&own, &GitCommand::SetRef { name: "refs/heads/x", to: &head, old: None }).unwrap();
        git.run(&files, &GitCommand::CheckOut).unwrap();
        fixture.ran_no_trap();
        assert!(other.join(".git/refs/heads/x").symlink_metadata().is_err(), "nothing was written there");
    }
    // A link is no file to write into.
    let mine = fixture.path("mine");
    fs::write(&mine, "of the person\n").unwrap();
    let config = fixture.path("config/.git/config");
    fs::remove_file(&config).unwrap();
    std::os::unix::fs::symlink(&mine, &config).unwrap();
    make("config");
    assert_eq!(fs::read_to_string(&mine).unwrap(), "of the person\n");
    assert!(config.symlink_metadata().unwrap().is_file());
}

#[test]
fn settings_win_over_a_config_and_hooks_that_come_while_git_runs() {
    let fixture = Fixture::new();
    let repo = fixture.repo("repo");
    let git = fixture.git();
    let fresh = fixture.path("fresh");
    let own = GitDir::create(&fresh.join(".git"), RepoFormat::default(), "x", "").unwrap();
    borrow_objects(&own, &repo.join(".git/objects")).unwrap();
    let head = git_in(&repo, &["rev-parse", "HEAD"]).trim().to_owned();
    let spy = fixture.path("spy");
    fixture.trap(&spy);
    fixture.trap(&fresh.join(".git/hooks/reference-transaction"));
    fixture.trap(&fresh.join(".git/hooks/post-checkout"));
    let config = fresh.join(".git/config").display().to_string();
    for key in ["core.fsmonitor", "gc.recentObjectsHook"] {
        git_in(&repo, &["config", "-f", &config, key, &spy.display().to_string()]);
    }
    let files = own.clone().with_files(&fresh).unwrap();
    git.run(&own, &GitCommand::SetRef { name: "refs/heads/x", to: &head, old: None }).unwrap();
    git.run(&files, &GitCommand::CheckOut).unwrap();
    git.run(&own, &GitCommand::CollectGarbage).unwrap();
    fixture.ran_no_trap();
}

#[test]
fn git_has_a_limit_on_its_memory() {
    let fixture = Fixture::new();
    let repo = fixture.repo("repo");
    let seen = fixture.path("seen");
    let git = fixture.git_behind(&format!("ulimit -d >>'{}'", seen.display()));
    inspect(&git, &repo).unwrap();
    let seen = fs::read_to_string(seen).unwrap();
    assert!(!seen.is_empty() && seen.lines().all(|line| line == "2097152"), "{seen}");
    // Git says in its own words that there was not enough.
    program(&fixture.path("bin/git"), "echo 'fatal: Out of memory, malloc failed' >&2; exit 128");
    let git = Git::find(&fixture.path("bin").display().to_string(), 60_000, &fixture.cancel).unwrap();
    let error = inspect(&git, &repo).unwrap_err().during("clone it");
    let fault = error.downcast_ref::<Fault>().unwrap();
    assert!(fault.hints[0].contains("2 GiB of memory"), "{fault:?}");
}

#[test]
fn a_failure_is_worded_without_the_name_of_a_temporary_directory() {
    let fixture = Fixture::new();
    let (repo, ..) = fixture.start("repo", "fix");
    let why = || {
        let link = RepoLink::open(&repo.join(".git"), RepoFormat::default()).unwrap();
        // Git takes no directory without objects for a repository, and its message names the directory.
        fs::remove_file(link.dir.path().join("objects")).unwrap();
        fixture.git().run(&link.dir, &GitCommand::Stashes).unwrap_err().to_string()
    };
    let first = why();
    assert!(first.contains("GIT_DIR"), "{first}");
    assert_eq!(first, why(), "the state of a worker keeps it, and the same failure is no news");
}
