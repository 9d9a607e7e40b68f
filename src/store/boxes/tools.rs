//! What programs of a user's own are made of: folders of the PATH, toolchains, and what builds have downloaded.

use std::path::{Path, PathBuf};

/// Where toolchains and the caches of builds are, below the home directory. None of them holds a login.
const HOME: [&str; 27] = [
    ".cargo/bin",
    ".cargo/registry",
    ".cargo/git",
    ".cargo/config.toml",
    ".cargo/env",
    ".rustup",
    ".pyenv",
    ".local/bin",
    ".local/lib",
    ".local/pipx",
    ".local/share/pipx",
    ".local/share/uv",
    ".local/share/mise",
    ".local/share/pnpm",
    ".local/share/fnm",
    ".nvm",
    ".fnm",
    ".volta",
    ".asdf",
    ".bun",
    ".deno",
    ".npm/_cacache",
    ".cache/uv",
    ".cache/pip",
    ".m2/repository",
    ".sdkman",
    "go",
];
/// Those of them that builds write into.
const CACHES: [&str; 8] = [
    ".cargo/registry",
    ".cargo/git",
    ".npm/_cacache",
    ".cache/uv",
    ".cache/pip",
    ".local/share/pnpm",
    ".m2/repository",
    "go",
];
/// Names of folders whose programs need what lies beside the folder.
const BINS: [&str; 4] = ["bin", "sbin", "shims", ".bin"];
/// Folders below the home directory that hold more than programs, though programs are in them.
const MIXED: [&str; 2] = [".local", ".cargo"];

/// All that is there. A folder of the PATH that holds one of `own` is left out: it would open what is looop's.
pub(super) fn found(path: &str, home: &Path, own: &[&Path]) -> Vec<PathBuf> {
    let on_path = path.split(':').filter(|dir| dir.starts_with('/')).map(|dir| {
        let dir = Path::new(dir);
        let is_bin = dir.file_name().and_then(|name| name.to_str()).is_some_and(|name| BINS.contains(&name));
        match dir.parent().filter(|_| is_bin) {
            Some(parent) if !holds_more(parent, home) => parent.to_owned(),
            _ => dir.to_owned(),
        }
    });
    let in_home = HOME.iter().map(|dir| home.join(dir));
    let fits = |dir: &PathBuf| {
        dir.exists()
            && !home.starts_with(dir)
            && !own.iter().any(|own| own.starts_with(dir) || dir.starts_with(own))
    };
    let mut all: Vec<PathBuf> = on_path.chain(in_home).filter(fits).collect();
    all.sort();
    all.dedup();
    all
}

/// The caches that are there, and a name for each.
pub(super) fn layers(home: &Path) -> impl Iterator<Item = (PathBuf, String)> {
    let all = CACHES.iter().map(|dir| (home.join(dir), dir.replace('/', "+")));
    all.filter(|(dir, _)| dir.is_dir())
}

fn holds_more(dir: &Path, home: &Path) -> bool {
    dir.parent().is_none() || home.starts_with(dir) || MIXED.iter().any(|mixed| dir == home.join(mixed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_opens_its_programs_and_not_the_home_around_them() {
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
