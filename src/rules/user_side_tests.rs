//! Tests of the list of paths that execute on the user's side.

use super::*;

#[test]
fn a_path_that_executes_on_the_users_side_has_a_reason() {
    for path in [
        ".husky/pre-commit",
        ".husky/_/husky.sh",
        "lefthook.yml",
        ".lefthook/pre-push/x",
        ".pre-commit-config.yaml",
        ".envrc",
        "sub/folder/.envrc",
        ".direnv/x",
        ".vscode/tasks.json",
        ".vscode/settings.json",
        ".vscode/launch.json",
        ".vscode/extensions.json",
        ".idea/runConfigurations/x.xml",
        ".run/x.run.xml",
        "app.code-workspace",
        ".claude/settings.json",
        ".claude/agents/x.md",
        "CLAUDE.md",
        "sub/CLAUDE.md",
        "AGENTS.md",
        "GEMINI.md",
        ".cursor/rules/x.mdc",
        ".cursorrules",
        ".codex/config.toml",
        ".gemini/settings.json",
        ".opencode/x.json",
        ".mcp.json",
        ".github/copilot-instructions.md",
        ".gitattributes",
        "sub/.gitattributes",
        ".gitmodules",
        ".gitconfig",
        ".git/hooks/pre-commit",
        "sub/.git/config",
        ".npmrc",
        ".yarnrc",
        ".yarnrc.yml",
        ".yarn/releases/yarn.cjs",
        ".pnp.cjs",
        ".mise.toml",
        "mise.local.toml",
        ".tool-versions",
        ".devcontainer/devcontainer.json",
        ".devcontainer.json",
        ".github/workflows/ci.yml",
        ".gitlab-ci.yml",
        ".circleci/config.yml",
        "Jenkinsfile",
        ".cargo/config",
        ".cargo/config.toml",
        "rust-toolchain",
        "rust-toolchain.toml",
        "sitecustomize.py",
        "lib/x.pth",
        ".bazelrc",
        ".zed/tasks.json",
        ".nvimrc",
        ".exrc",
        ".vimrc",
        ".nvim.lua",
        ".dir-locals.el",
        ".env",
        "leanfile.toml",
        ".bashrc",
        // The name alone, for a file or a link in place of a folder.
        ".husky",
        ".vscode",
    ] {
        assert!(runs_on_user_side(path).is_some(), "{path}");
    }
}

#[test]
fn normal_code_and_build_files_have_no_reason() {
    for path in [
        "Makefile",
        "build.rs",
        "package.json",
        "setup.py",
        "Cargo.toml",
        "src/main.rs",
        "src/git/mod.rs",
        "docs/agents-and-tools.md",
        "git.rs",
        ".gitignore",
        ".github/ISSUE_TEMPLATE.md",
        ".github/dependabot.yml",
        "vscode/tasks.json",
        "src/claude.rs",
        "environment.rs",
        ".env.example",
        "a~1",
        "src/..../x",
        "",
    ] {
        assert_eq!(runs_on_user_side(path), None, "{path}");
    }
}

#[test]
fn another_spelling_of_a_name_is_the_same_name() {
    for path in [
        ".GIT/hooks/x",
        ".Git /config",
        ".git./config",
        ".git. . /config",
        ".git::$INDEX_ALLOCATION/config",
        "GIT~1/config",
        "gitatt~1",
        "HUSKY~1/pre-commit",
        "PRE-CO~1.YAM",
        ".g\u{200c}it/config",
        ".gi\u{feff}t/config",
        "\u{ff0e}git/config",
        ".\u{ff47}it/config",
        ".en\u{ad}vrc",
        ".ENVRC",
        "claude.MD",
        "\u{ff23}LAUDE.md",
        ".vſcode/tasks.json",
        "sub\\.vscode\\tasks.json",
        "./.envrc",
        "x//.envrc",
        ".envrc.",
        ".envrc ",
    ] {
        assert!(runs_on_user_side(path).is_some(), "{path:?}");
    }
}

#[test]
fn links_that_lead_out_submodules_and_new_executables_have_a_reason() {
    let changed = |path: &str, old: Option<u32>, new: Option<u32>| {
        let [old, new] = [old, new].map(|mode| Some((mode?, "oid".to_owned())));
        TreeDifference { path: path.into(), old, new }
    };
    let link =
        |path: &str, target: &str| reason_of(&changed(path, None, Some(0o120_000)), Some(target.as_bytes()));
    for (path, target) in [
        ("a", "/etc/passwd"),
        ("a", ".."),
        ("a", "../x"),
        ("a/b", "../../x"),
        ("a/b", "x/../../../y"),
        ("a", "b/../c"),
        ("a/b/c", "d/../e"),
        ("a", ".git/config"),
        ("a/b", "../.GIT/hooks"),
        ("a", "C:\\x"),
        ("a", "~/.ssh"),
        ("a", ""),
    ] {
        assert_eq!(link(path, target), Some("a link that leads out of the project"), "{path} {target}");
    }
    for (path, target) in [("a", "b"), ("a/b", "../c"), ("a/b/c", "../../d/e"), ("a", "./b")] {
        assert_eq!(link(path, target), None, "{path} {target}");
    }
    let change = |old, new| reason_of(&changed("x", old, new), None);
    let too_long = change(None, Some(0o120_000));
    assert!(too_long.is_some(), "a target that is too long counts as one that leads out");
    assert!(change(None, Some(0o160_000)).is_some() && change(Some(0o160_000), None).is_some());
    assert!(change(None, Some(0o100_755)).is_some() && change(Some(0o100_644), Some(0o100_755)).is_some());
    assert!(change(Some(0o120_000), Some(0o100_755)).is_some());
    for (old, new) in [
        (None, Some(0o100_644)),
        (Some(0o100_755), Some(0o100_755)),
        (Some(0o100_755), Some(0o100_644)),
        (Some(0o100_644), None),
    ] {
        assert_eq!(change(old, new), None, "{old:?} {new:?}");
    }
}

#[test]
fn the_text_names_each_path_and_contains_no_control_characters() {
    let one = |path: &str| UserSidePath { path: path.to_owned(), reason: "r".to_owned() };
    assert_eq!(words(&[one("a\u{1b}[2J"), one("b")]), "a\\u{1b}[2J (r), b (r)");
    let many: Vec<UserSidePath> = (0..25).map(|n| one(&n.to_string())).collect();
    assert!(words(&many).ends_with("19 (r), and 5 more"));
}

#[test]
fn the_arguments_of_a_command_name_paths_of_the_list() {
    let argv = |args: &[&str]| -> Vec<String> { args.iter().map(|arg| (*arg).to_owned()).collect() };
    let base = Path::new("/u/.run/src");
    let named = |args: &[&str]| -> Vec<String> {
        named_by(&argv(args), &[base]).into_iter().map(|one| one.path).collect()
    };
    assert_eq!(named(&[".envrc", "a"]), [""; 0], "the program is no argument");
    assert_eq!(named(&["cp", "a", "--to=sub/.envrc"]), ["sub/.envrc"]);
    assert_eq!(named(&["sh", "-c", "cat a >.git/hooks/x; echo"]), [".git/hooks/x"]);
    assert_eq!(named(&["cp", "/u/.run/src/a", "/u/.run/src/.npmrc"]), ["/u/.run/src/.npmrc"]);
    assert_eq!(named(&["cp", ".envrc", "CLAUDE.md"]), [".envrc", "CLAUDE.md"]);
}

#[test]
fn the_list_consists_of_reasons_and_patterns() {
    let mut groups = 0;
    for line in LIST.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let Some(pattern) = line.strip_prefix("    ") else {
            groups += 1;
            continue;
        };
        assert!(groups > 0 && !pattern.contains(char::is_whitespace), "{line}");
        assert_eq!(pattern.to_lowercase(), pattern);
    }
    assert_eq!(groups, 13);
}
