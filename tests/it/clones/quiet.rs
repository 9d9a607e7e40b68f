//! A worker's own git in its clone: the config of the person's that it also reads neither waits nor runs a program there.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use looop::model::worker::Objects;
use looop::worker::clone::{inspect, make_for, repo_of};

use super::fixture::{Fixture, PATH, shell};
use crate::support::profile::git_in;

fn git_at_home(fixture: &Fixture, dir: &Path, line: &str) -> Output {
    let mut command = Command::new("sh");
    command
        .args(["-c", line])
        .current_dir(dir)
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", fixture.path("home"));
    command.output().unwrap()
}

/// A home whose git config names a trap for all that a commit, a look and a fetch could run.
fn home(fixture: &Fixture) {
    let trap = fixture.path("spy");
    fixture.trap(&trap);
    for hook in [
        "pre-commit",
        "commit-msg",
        "prepare-commit-msg",
        "post-commit",
        "post-checkout",
        "reference-transaction",
    ] {
        fixture.trap(&fixture.path("home/hooks").join(hook));
    }
    let spy = trap.display();
    let home = fixture.path("home").display().to_string();
    let text = format!(
        "[user]\n\tname = ada\n\temail = ada@example.org\n\tsigningkey = x\n[commit]\n\tgpgsign = true\n[tag]\n\tgpgsign = true\n\tforceSignAnnotated = true\n[log]\n\tshowSignature = true\n[gpg]\n\tformat = ssh\n\tprogram = {spy}\n[gpg \"ssh\"]\n\tprogram = {spy}\n\tdefaultKeyCommand = {spy}\n[core]\n\thooksPath = {home}/hooks\n\tfsmonitor = {spy}\n\teditor = {spy}\n\tpager = {spy}\n\taskPass = {spy}\n\tattributesFile = {home}/attributes\n[pager]\n\tlog = true\n[credential]\n\thelper = {spy}\n[sequence]\n\teditor = {spy}\n[filter \"spy\"]\n\tclean = {spy}\n\tsmudge = {spy}\n\trequired = true\n"
    );
    fs::write(fixture.path("home/.gitconfig"), text).unwrap();
    fs::write(fixture.path("home/attributes"), "* filter=spy\n").unwrap();
}

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
        "git switch -qc other; git switch -q -",
        "echo 'host=example.org' | git credential fill </dev/null",
    ] {
        let ran = git_at_home(&fixture, &clone, line);
        assert!(ran.status.success() || line.contains("credential"), "{line}: {ran:?}");
        assert!(
            !fixture.is_sprung(),
            "{line}: {}",
            fs::read_to_string(fixture.path("sprung")).unwrap_or_default()
        );
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
    let source = inspect(&git, &repo).unwrap().unwrap();
    for (objects, has) in [(Objects::Shared, true), (Objects::Reachable, false)] {
        let clone = fixture.path("w").join(objects.word());
        let own = repo_of(&source, &objects.word().parse().unwrap()).unwrap();
        make_for(&git, &source, &clone, &own, objects).unwrap();
        assert_eq!(clone.join(".git/objects/info/alternates").exists(), has);
        for oid in [&private, &staged] {
            assert_eq!(shell(&clone, &format!("git cat-file -e {oid}")).status.success(), has, "{objects:?}");
        }
        assert_eq!(git_in(&clone, &["rev-list", "--count", "HEAD"]), "2\n");
        git_in(&clone, &["fsck", "--strict"]);
        fixture.commit(&clone, "new", objects.word());
        let collected = looop::worker::clone::collect(&git, &own, &clone).unwrap();
        assert!(collected.branch.is_some() && collected.left.is_empty(), "{collected:?}");
    }
}

/// What a worker's clone holds that a beat started, where its decision read a text with this trust.
fn objects_of_a_start(trust: &str) -> String {
    use crate::support::profile::Profile;
    use serde_json::json;
    let fixture = Fixture::new();
    let repo = fixture.repo("repo");
    let start = json!({
        "move": "start_worker", "id": "w1", "brief": "look", "repo": repo, "why": "it is wanted",
    });
    let profile = Profile::scripted(&[&start.to_string(), r#"{"move":"noop","why":"n"}"#]);
    let local = json!({ "worker": ["true", "{brief}"] });
    let runners = json!({ "scripted": profile.scripted_runner(), "local": local });
    profile.config_more(json!({ "worker": "local", "runners": runners }));
    profile.sensor("news", &format!("# looop: trust={trust} interval=1h\necho something new"));
    profile.looop(&["tick"]).ok();
    let asks = profile.looop(&["asks", "--json"]).ok().json();
    for ask in asks["asks"].as_array().unwrap() {
        let shown = ask["scope"]["repo"]["objects"].as_str().unwrap_or_default();
        assert!(shown.contains("reachable if untrusted text was read"), "{ask}");
        let hash = ask["hash"].as_str().unwrap();
        profile.looop(&["approve", ask["id"].as_str().unwrap(), "--hash", hash]).ok();
        profile.looop(&["tick"]).ok();
    }
    let rows = profile.looop(&["ls", "--all", "--json"]).ok().json();
    let lent = profile.data().join("workers/w1/clone/.git/objects/info/alternates").exists();
    let objects = rows["workers"][0]["objects"].as_str().unwrap_or_default().to_owned();
    assert_eq!(lent, objects == "shared", "{rows}");
    objects
}

#[test]
fn a_worker_with_a_network_gets_reachable_objects_after_text_of_strangers() {
    assert_eq!(objects_of_a_start("untrusted"), "reachable");
    assert_eq!(objects_of_a_start("trusted"), "shared");
}
