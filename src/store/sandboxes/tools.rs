//! The files that the user's programs consist of: folders of the PATH, toolchains, and downloads of builds.

use std::path::{Path, PathBuf};

use crate::os::program::{find_program, head_of, interpreter_in};
use crate::rules::beat::policy::lexical;

/// Toolchains and build caches, below the home directory, and whether builds write into each. None of them holds a login.
const HOME: [(&str, bool); 27] = [
    (".cargo/bin", false),
    (".cargo/registry", true),
    (".cargo/git", true),
    (".cargo/config.toml", false),
    (".cargo/env", false),
    (".rustup", false),
    (".pyenv", false),
    (".local/bin", false),
    (".local/lib", false),
    (".local/pipx", false),
    (".local/share/pipx", false),
    (".local/share/uv", false),
    (".local/share/mise", false),
    (".local/share/pnpm", true),
    (".local/share/fnm", false),
    (".nvm", false),
    (".fnm", false),
    (".volta", false),
    (".asdf", false),
    (".bun", false),
    (".deno", false),
    (".npm/_cacache", true),
    (".cache/uv", true),
    (".cache/pip", true),
    (".m2/repository", true),
    (".sdkman", false),
    ("go", true),
];
/// Names of folders whose programs need the files beside the folder.
const BINS: [&str; 4] = ["bin", "sbin", "shims", ".bin"];
/// Folders below the home directory that hold programs and also other files.
const MIXED: [&str; 2] = [".local", ".cargo"];

/// Lists all of them that exist. A PATH folder that holds one of `own` is left out: it would expose looop's files.
pub(super) fn found(path: &str, home: &Path, own: &[&Path]) -> Vec<PathBuf> {
    let on_path = path.split(':').filter(|dir| dir.starts_with('/')).map(|dir| {
        let dir = Path::new(dir);
        match dir.parent().filter(|_| is_bin(dir)) {
            Some(parent) if !holds_more(parent, home) => parent.to_owned(),
            _ => dir.to_owned(),
        }
    });
    let in_home = HOME.iter().map(|(dir, _)| home.join(dir));
    let all = on_path.chain(in_home).filter(|dir| dir.exists() && may_be_shown(dir, home, own));
    let mut all: Vec<PathBuf> = all.collect();
    all.sort();
    all.dedup();
    all
}

/// Lists the caches that exist, with a name for each.
pub(super) fn layers(home: &Path) -> impl Iterator<Item = (PathBuf, String)> {
    let caches = HOME.iter().filter(|(_, is_cache)| *is_cache);
    caches.map(|(dir, _)| (home.join(dir), dir.replace('/', "+"))).filter(|(dir, _)| dir.is_dir())
}

/// The most links and interpreters of one program that are followed.
const MAX_HOPS: usize = 12;

/// Lists all that a program needs besides itself: each link on the way to its file, the real file, the directory it was
/// installed with, and the same for the interpreter in its first line. Leaves out what holds one of `own` or the home
/// directory.
pub(super) fn program(program: &Path, path: &str, home: &Path, own: &[&Path]) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut next = Some(program.to_owned());
    for _ in 0..4 {
        let Some(program) = next.take().filter(|program| program.is_absolute()) else { break };
        let Ok(real) = program.canonicalize() else { break };
        for link in links(&program) {
            // A program may look for its own place and find a link among its directories.
            all.extend(install_dir(&link, home));
            all.push(link);
        }
        all.extend(install_dir(&real, home));
        all.push(real.clone());
        next = interpreter(&real, path);
    }
    all.retain(|path| may_be_shown(path, home, own));
    all.sort();
    all.dedup();
    all
}

/// Lists the path and each path that a link in its place leads to, up to the file.
fn links(path: &Path) -> Vec<PathBuf> {
    let mut all = vec![path.to_owned()];
    for _ in 0..MAX_HOPS {
        let Some(last) = all.last().filter(|last| last.is_symlink()) else { break };
        let Ok(target) = std::fs::read_link(last) else { break };
        let Some(base) = last.parent().and_then(|dir| dir.canonicalize().ok()) else { break };
        let joined = lexical(&base.join(target));
        let Some(name) = joined.file_name().map(std::ffi::OsStr::to_owned) else { break };
        let Some(dir) = joined.parent().and_then(|dir| dir.canonicalize().ok()) else { break };
        let next = dir.join(name);
        // A directory on the way may be a link too: the sandbox shows the file at both paths.
        all.push(joined);
        all.push(next);
    }
    all
}

/// Finds the directory that a program was installed with: the whole `node_modules`, or the parent of its `bin`.
fn install_dir(real: &Path, home: &Path) -> Option<PathBuf> {
    let modules = real.ancestors().filter(|dir| dir.file_name().is_some_and(|name| name == "node_modules"));
    if let Some(modules) = modules.last() {
        return Some(modules.to_owned());
    }
    let bin = real.parent()?;
    bin.parent().filter(|dir| is_bin(bin) && !holds_more(dir, home)).map(Path::to_owned)
}

fn is_bin(dir: &Path) -> bool {
    dir.file_name().is_some_and(|name| BINS.iter().any(|bin| name == *bin))
}

/// Returns false for a path that holds the home directory, or that holds one of `own` or is inside it.
fn may_be_shown(path: &Path, home: &Path, own: &[&Path]) -> bool {
    !home.starts_with(path) && !own.iter().any(|own| own.starts_with(path) || path.starts_with(own))
}

/// Finds the interpreter in the first line of a script, also through `env`.
fn interpreter(script: &Path, path: &str) -> Option<PathBuf> {
    match interpreter_in(&head_of(script)?)? {
        (_, Some(name)) => find_program(name, path, Path::new("/")),
        (program, None) => Some(program),
    }
}

fn holds_more(dir: &Path, home: &Path) -> bool {
    dir.parent().is_none() || home.starts_with(dir) || MIXED.iter().any(|mixed| dir == home.join(mixed))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a file, and the directories above it.
    fn file(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }

    fn link(path: &Path, target: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, path).unwrap();
    }

    #[test]
    fn a_linked_program_opens_its_file_and_its_install_directory() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let home = root.join("home");
        let at = |name: &str| root.join(name);
        let holds = |found: &[PathBuf], paths: &[&str]| {
            paths.iter().for_each(|path| assert!(found.contains(&at(path)), "{path}: {found:?}"));
        };
        // The agent's own installer: one file per version, reached by a chain of links and a linked directory.
        file(&at("home/.local/share/claude/versions/2.1"), "binary");
        link(&at("home/.local/share/claude/current"), "versions");
        link(&at("home/.local/bin/claude"), "claude-2");
        link(&at("home/.local/bin/claude-2"), "../share/claude/current/2.1");
        let found = program(&at("home/.local/bin/claude"), "", &home, &[]);
        let version = "home/.local/share/claude/versions/2.1";
        holds(&found, &["home/.local/bin/claude", "home/.local/bin/claude-2", version]);
        assert!(!found.contains(&at("home/.local")), "{found:?}");
        // npm: the package and its dependencies.
        file(&at("npm/lib/node_modules/tool/cli.js"), "#!/usr/bin/env -S node --x\n");
        link(&at("home/bin/tool"), "../../npm/lib/node_modules/tool/cli.js");
        file(&at("node/bin/node"), "binary");
        link(&at("path/node"), "../node/bin/node");
        let found = program(&at("home/bin/tool"), at("path").to_str().unwrap(), &home, &[]);
        holds(&found, &["npm/lib/node_modules", "path/node", "node", "node/bin/node"]);
        // A virtual environment whose python is a link to another place.
        file(&at("python/bin/python3.12"), "binary");
        link(&at("venvs/tool/bin/python"), at("python/bin/python3.12").to_str().unwrap());
        let python = at("venvs/tool/bin/python");
        file(&at("venvs/tool/bin/tool"), &format!("#!{}\n", python.display()));
        link(&at("home/.local/bin/pytool"), at("venvs/tool/bin/tool").to_str().unwrap());
        let found = program(&at("home/.local/bin/pytool"), "", &home, &[]);
        holds(&found, &["venvs/tool", "python", "python/bin/python3.12"]);
        // A directory on the way is a link, but the file is not.
        file(&at("opt/v1/bin/tool"), "binary");
        file(&at("opt/v1/alone"), "binary");
        link(&at("opt/now"), "v1");
        for (name, real) in [("opt/now/bin/tool", "opt/v1"), ("opt/now/alone", "opt/v1/alone")] {
            holds(&program(&at(name), "", &home, &[]), &[real]);
        }
        // A link must not expose looop's own files or the home directory.
        link(&at("home/bin/data"), "../data/x");
        file(&at("home/data/x"), "binary");
        assert!(!program(&at("home/bin/data"), "", &home, &[&at("home/data")]).contains(&at("home/data/x")));
        link(&at("home/bin/loop"), "loop");
        assert!(program(&at("home/bin/loop"), "", &home, &[]).is_empty(), "a link to itself leads nowhere");
    }

    #[test]
    fn the_path_opens_programs_but_not_the_home_directory() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        for made in
            ["home/bin", "home/.cargo/bin", "home/.local/bin", "home/tool/bin", "pkg/.bin", "home/data/bin"]
        {
            std::fs::create_dir_all(dir.path().join(made)).unwrap();
        }
        let at = |name: &str| dir.path().join(name);
        let listed =
            ["home/bin", "home/.cargo/bin", "home/tool/bin", "pkg/.bin", "home/data/bin", "home", "nowhere"];
        let path = listed.map(|name| at(name).to_str().unwrap().to_owned()).join(":");
        let found = found(&path, &home, &[&home.join("data")]);
        let wanted = ["home/.cargo/bin", "home/.local/bin", "home/bin", "home/tool", "pkg"].map(at);
        assert_eq!(found, wanted);
    }
}
