//! A worker's own git in its clone: the config of the person's that it also reads neither waits nor runs a program there.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use looop::rules::worker::Objects;
use looop::vcs::clone::{collect, inspect, make, repo_of};
use serde_json::json;

use super::fixture::{Fixture, PATH, shell};
use crate::support::profile::{Profile, git_in};

fn git_at_home(fixture: &Fixture, dir: &Path, line: &str) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", line]).current_dir(dir).env_clear();
    command.env("PATH", PATH).env("HOME", fixture.path("home")).output().unwrap()
}

/// A home whose git config names a trap for all that a commit, a look and a fetch could run.
fn home(fixture: &Fixture) {
    let trap = fixture.path("spy");
    fixture.trap(&trap);
    let hooks = ["pre-commit", "commit-msg", "prepare-commit-msg", "post-commit", "post-checkout"];
    for hook in hooks.iter().chain(&["reference-transaction"]) {
        fixture.trap(&fixture.path("home/hooks").join(hook));
    }
    let spy = trap.display();
    let home = fixture.path("home").display().to_string();
    let text = format!(
        "[user]\n\tname = ada\n\temail = ada@example.org\n\tsigningkey = x\n[commit]\n\tgpgsign = true\n[tag]\n\tgpgsign = true\n\tforceSignAnnotated = true\n[log]\n\tshowSignature = true\n[push]\n\tgpgSign = true\n[merge]\n\tverifySignatures = true\n[gpg]\n\tformat = ssh\n\tprogram = {spy}\n[gpg \"ssh\"]\n\tprogram = {spy}\n\tdefaultKeyCommand = {spy}\n[core]\n\thooksPath = {home}/hooks\n\tfsmonitor = {spy}\n\teditor = {spy}\n\tpager = {spy}\n\taskPass = {spy}\n\tattributesFile = {home}/attributes\n[pager]\n\tlog = true\n[credential]\n\thelper = {spy}\n[sequence]\n\teditor = {spy}\n[filter \"spy\"]\n\tclean = {spy}\n\tsmudge = {spy}\n\trequired = true\n"
    );
    fs::write(fixture.path("home/.gitconfig"), text).unwrap();
    fs::write(fixture.path("home/attributes"), "* filter=spy\n").unwrap();
}

/// Makes a commit with a signature, and checks that its log line is nothing else.
const SHOW_SIGNED: &str = r#"
commit=$(printf 'tree %s\nauthor a <a@b> 0 +0000\ncommitter a <a@b> 0 +0000\ngpgsig -----BEGIN SSH SIGNATURE-----\n x\n -----END SSH SIGNATURE-----\n\nsigned\n' "$(git rev-parse HEAD^{tree})" | git hash-object -t commit -w --stdin)
test "$(git log -1 --format=%s "$commit" 2>&1)" = signed"#;

#[test]
fn a_persons_git_config_does_not_sign_hook_edit_or_ask_in_a_clone() {
    let fixture = Fixture::new();
    let (_, _, clone) = fixture.start("repo", "fix");
    home(&fixture);
    for line in [
        "git status",
        "echo new >new; git add new",
        "git commit -qm words",
        "git commit -q --amend",
        "git tag -a -m words v1",
        "git log -1 --show-signature",
        SHOW_SIGNED,
        "git switch -qc other; git switch -q -",
        "git switch -qc side; git commit -q --allow-empty -m side; git switch -q -; git merge -q side",
        "git rebase -q -i HEAD~1",
        "git -c core.hooksPath=/dev/null init -q --bare ../bare; git push -q --receive-pack='git -c core.hooksPath=/dev/null receive-pack' ../bare HEAD:refs/heads/x",
        "printf 'protocol=https\\nhost=example.org\\n\\n' | git credential fill",
    ] {
        let ran = git_at_home(&fixture, &clone, line);
        assert!(ran.status.success() || line.contains("credential"), "{line}: {ran:?}");
        assert!(!fixture.is_sprung(), "{line}");
    }
    assert_eq!(git_in(&clone, &["log", "-1", "--format=%an"]), "looop worker fix\n");
    // A signature that a worker asks for by itself fails at once.
    assert!(!git_at_home(&fixture, &clone, "git commit -S --allow-empty -qm x").status.success());
    assert!(!fixture.is_sprung());
    let plain = fixture.repo("plain");
    git_at_home(&fixture, &plain, "echo x >y; git add y; git commit -qm y");
    assert!(fixture.is_sprung(), "the trap works");
}

#[test]
fn a_clone_with_reachable_objects_has_no_other_ones() {
    let fixture = Fixture::new();
    let repo = fixture.repo("repo");
    git_in(&repo, &["switch", "-qc", "private"]);
    let private = fixture.commit(&repo, "key", "of another branch\n");
    git_in(&repo, &["switch", "-q", "main"]);
    fs::write(repo.join(".env"), "TOKEN=staged and taken back\n").unwrap();
    git_in(&repo, &["add", ".env"]);
    let staged = git_in(&repo, &["rev-parse", ":.env"]).trim().to_owned();
    git_in(&repo, &["rm", "-q", "--cached", ".env"]);
    let git = fixture.git();
    let source = inspect(&git, &repo).unwrap();
    for (objects, has) in [(Objects::Shared, true), (Objects::Reachable, false)] {
        let clone = fixture.path("w").join(objects.to_string());
        let own = repo_of(&source, &objects.to_string().parse().unwrap()).unwrap();
        make(&git, &source, &clone, &own, objects).unwrap();
        assert_eq!(clone.join(".git/objects/info/alternates").exists(), has);
        for oid in [&private, &staged] {
            assert_eq!(shell(&clone, &format!("git cat-file -e {oid}")).status.success(), has, "{objects:?}");
        }
        assert_eq!(git_in(&clone, &["rev-list", "--count", "HEAD"]), "2\n");
        git_in(&clone, &["fsck", "--strict"]);
        fixture.commit(&clone, "new", &objects.to_string());
        let collected = collect(&git, &own, &clone).unwrap();
        assert!(collected.branch.is_some() && collected.left.is_empty(), "{collected:?}");
    }
}

/// What a worker's clone holds that a beat started, where its decision read a text with this trust; the choice of the
/// config; and whether the repository borrows objects.
fn objects_of_a_start(trust: &str, chosen: Option<&str>, borrows: bool) -> String {
    let fixture = Fixture::new();
    let repo = fixture.repo("repo");
    if borrows {
        let lender = fixture.repo("lender").join(".git/objects").display().to_string();
        fs::write(repo.join(".git/objects/info/alternates"), format!("{lender}\n")).unwrap();
    }
    let start = json!({ "move": "start_worker", "id": "w1", "brief": "look", "repo": repo, "why": "wanted" });
    let profile = Profile::scripted(&[&start.to_string(), r#"{"move":"noop","why":"n"}"#]);
    let local = json!({ "worker": ["true", "{brief}"] });
    let runners = json!({ "scripted": profile.scripted_runner(), "local": local });
    profile.config_more(json!({ "worker": "local", "runners": runners, "objects": chosen }));
    profile.sensor("news", &format!("# looop: trust={trust} interval=1h\necho something new"));
    profile.looop(&["tick"]).ok();
    let asks = profile.looop(&["asks", "--json"]).ok().json();
    for _ in asks["asks"].as_array().unwrap() {
        let ask = profile.approve_first();
        let shown = ask["scope"]["repo"]["objects"].as_str().unwrap_or_default();
        assert!(shown.contains(chosen.unwrap_or("reachable if untrusted text was read")), "{ask}");
        profile.looop(&["tick"]).ok();
    }
    let rows = profile.looop(&["ls", "--all", "--json"]).ok().json();
    let lent = profile.data().join("workers/w1/clone/.git/objects/info/alternates").exists();
    let objects = rows["workers"][0]["objects"].as_str().unwrap_or_default().to_owned();
    assert_eq!(lent, objects == "shared", "{rows}");
    // Its sandbox lets it read the repository's objects where they are lent, and only there.
    let spec = profile.read_json("workers/w1/spec.json");
    let readable = spec["sandbox"]["access"]["read"].to_string();
    let has_store = readable.contains(&repo.join(".git/objects").display().to_string());
    assert!(spec["sandbox"].is_null() || has_store == lent, "{spec}");
    objects
}

#[test]
#[ignore = "slow"]
fn a_worker_with_a_network_gets_reachable_objects_after_text_of_strangers() {
    assert_eq!(objects_of_a_start("untrusted", None, false), "reachable");
    assert_eq!(objects_of_a_start("trusted", None, false), "shared");
    assert_eq!(objects_of_a_start("trusted", Some("reachable"), false), "reachable", "the config says so");
    assert_eq!(objects_of_a_start("untrusted", Some("shared"), false), "shared", "the config says so");
    assert_eq!(objects_of_a_start("trusted", None, true), "reachable", "what is borrowed is another one's");
}
