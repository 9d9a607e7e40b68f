//! Pure. Resolves imports to files, for each language by its own rules, from names alone.

use std::collections::HashMap;

/// The project's files by path, and the names in its manifests.
#[derive(Default)]
pub(super) struct Files<'a> {
    pub(super) by_path: HashMap<&'a str, usize>,
    /// The Go directories that contain files.
    pub(super) go_dirs: HashMap<&'a str, Vec<usize>>,
    /// The names of Go modules and Rust packages, with their directories.
    pub(super) packages: HashMap<&'a str, &'a str>,
}

/// The files to which an import in `from` resolves; empty if it is not in the project.
pub(super) fn resolve(family: &str, from: &str, import: &str, files: &Files) -> Vec<usize> {
    match family {
        "python" => python(from, import, files).into_iter().collect(),
        "rust" => rust(from, import, files).into_iter().collect(),
        "go" => go(import, files),
        _ => script(from, import, files).into_iter().collect(),
    }
}

/// The directory of a path; empty at the top.
pub(super) fn dir(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

/// Joins `a` and `b` to one path; either may be empty.
fn join(a: &str, b: &str) -> String {
    match (a, b) {
        ("", b) => b.to_owned(),
        (a, "") => a.to_owned(),
        (a, b) => format!("{a}/{b}"),
    }
}

/// A directory and its parents, up to the top.
fn upwards(dir: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(dir), |dir| (!dir.is_empty()).then(|| self::dir(dir)))
}

/// The longest of `base/a/b/c`, `base/a/b`, `base/a` that is a module; `ends` are the possible names of a
/// module's file.
fn longest(base: &str, parts: &[&str], ends: &[&str], files: &Files) -> Option<usize> {
    (1..=parts.len()).rev().find_map(|length| {
        let module = join(base, &parts[..length].join("/"));
        ends.iter().find_map(|end| files.by_path.get(format!("{module}{end}").as_str()).copied())
    })
}

/// Looks for a dotted path from the importing file's directory upwards, because the program may be run from any
/// of them.
fn python(from: &str, import: &str, files: &Files) -> Option<usize> {
    const ENDS: [&str; 3] = [".py", "/__init__.py", ".pyi"];
    let rest = import.trim_start_matches('.');
    let dots = import.len() - rest.len();
    let parts: Vec<&str> = rest.split('.').filter(|part| !part.is_empty()).collect();
    if dots > 0 {
        let base = upwards(dir(from)).nth(dots - 1)?;
        return longest(base, &parts, &ENDS, files)
            .or_else(|| files.by_path.get(join(base, "__init__.py").as_str()).copied());
    }
    upwards(dir(from)).chain(["src", "lib"]).find_map(|base| longest(base, &parts, &ENDS, files))
}

const RUST_ENDS: [&str; 2] = [".rs", "/mod.rs"];

fn rust(from: &str, import: &str, files: &Files) -> Option<usize> {
    let parts: Vec<&str> = import.split("::").map(|part| part.trim().trim_start_matches("r#")).collect();
    let (first, rest) = parts.split_first()?;
    let (base, mut parts, is_known) = match (*first, files.packages.get(first)) {
        ("crate", _) => (crate_root(from, files)?.to_owned(), rest, true),
        ("self", _) => (module_dir(from), rest, true),
        ("super", _) => (module_dir(from), parts.as_slice(), true),
        (_, Some(package)) => (join(package, "src"), rest, true),
        // A path may begin with a module that the same file declares.
        (_, None) => (module_dir(from), parts.as_slice(), false),
    };
    let mut base = base.as_str();
    while let ["super", below @ ..] = parts {
        (base, parts) = (dir(base), below);
    }
    longest(base, parts, &RUST_ENDS, files).or_else(|| {
        let roots = [join(base, "lib.rs"), join(base, "main.rs"), join(base, "mod.rs"), format!("{base}.rs")];
        roots.iter().filter(|_| is_known).find_map(|path| files.by_path.get(path.as_str()).copied())
    })
}

/// The directory of the child modules of a file's module.
fn module_dir(path: &str) -> String {
    let stem = path.strip_suffix(".rs").unwrap_or(path);
    match stem.rsplit('/').next() {
        Some("mod" | "lib" | "main") => dir(path).to_owned(),
        _ => stem.to_owned(),
    }
}

fn crate_root<'a>(path: &'a str, files: &Files) -> Option<&'a str> {
    let has = |dir: &str, name: &str| files.by_path.contains_key(join(dir, name).as_str());
    upwards(dir(path)).find(|dir| has(dir, "lib.rs") || has(dir, "main.rs"))
}

/// True for a path that begins in its own crate.
pub(super) fn is_own_path(path: &str) -> bool {
    ["crate::", "self::", "super::"].iter().any(|start| path.starts_with(start))
}

/// Calls `found` with each path of a `use`, with groups expanded.
pub(super) fn spell_out(tree: &str, found: &mut dyn FnMut(&str)) {
    branches("", tree, 0, found);
}

fn branches(before: &str, tree: &str, depth: usize, found: &mut dyn FnMut(&str)) {
    let tree = tree.trim();
    match tree.split_once('{') {
        Some((start, rest)) if depth < 20 => {
            let before = format!("{before}{}", start.trim());
            let mut level = 0_usize;
            let inside = rest.rsplit_once('}').map_or(rest, |(inside, _)| inside);
            let each = inside.split(|c| {
                level = match c {
                    '{' => level + 1,
                    '}' => level.saturating_sub(1),
                    _ => level,
                };
                c == ',' && level == 0
            });
            each.filter(|part| !part.trim().is_empty())
                .for_each(|part| branches(&before, part, depth + 1, found));
        }
        _ => {
            let name = tree.split(" as ").next().unwrap_or(tree).trim_end_matches("::*").trim();
            found(format!("{before}{name}").trim_end_matches("::"));
        }
    }
}

/// All files of the directory of a package path, in the module with which the path begins.
fn go(import: &str, files: &Files) -> Vec<usize> {
    let module = upwards(import).find_map(|module| Some((module, files.packages.get(module)?)));
    let Some((module, top)) = module else { return Vec::new() };
    let package = join(top, import[module.len()..].trim_start_matches('/'));
    files.go_dirs.get(package.as_str()).cloned().unwrap_or_default()
}

/// A path relative to the importing file, with the file endings that a bundler tries.
fn script(from: &str, import: &str, files: &Files) -> Option<usize> {
    const ENDS: &str =
        ".ts .tsx .js .jsx .mjs .cjs .mts .cts .d.ts /index.ts /index.tsx /index.js /index.jsx";
    if !import.starts_with('.') {
        return None;
    }
    let mut parts: Vec<&str> = dir(from).split('/').filter(|part| !part.is_empty()).collect();
    for part in import.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    let path = parts.join("/");
    // TypeScript sources are imported by the name of their compiled file.
    let stem = [".js", ".jsx", ".mjs", ".cjs"].iter().find_map(|end| path.strip_suffix(end));
    [Some(path.as_str()), stem].into_iter().flatten().find_map(|path| {
        let mut ends = std::iter::once("").chain(ENDS.split(' '));
        ends.find_map(|end| files.by_path.get(format!("{path}{end}").as_str()).copied())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'a>(family: &str, from: &str, import: &str, paths: &[&'a str]) -> Vec<&'a str> {
        let mut files = Files {
            by_path: paths.iter().enumerate().map(|(at, path)| (*path, at)).collect(),
            go_dirs: HashMap::new(),
            packages: HashMap::from([
                ("example.com/app", ""),
                ("looop", ""),
                ("other_crate", "crates/other-crate"),
            ]),
        };
        for (at, path) in paths.iter().enumerate().filter(|(_, path)| path.ends_with(".go")) {
            files.go_dirs.entry(dir(path)).or_default().push(at);
        }
        resolve(family, from, import, &files).into_iter().map(|at| paths[at]).collect()
    }

    #[test]
    fn python_modules_are_found_from_the_file_upwards() {
        let paths = ["app/auth.py", "app/db/__init__.py", "app/db/pool.py", "util.py", "src/core.py"];
        for (import, expected) in [
            ("util", "util.py"),
            ("app.db.pool.Pool", "app/db/pool.py"),
            ("db.pool", "app/db/pool.py"),
            (".db.connect", "app/db/__init__.py"),
            ("..util.helper", "util.py"),
            ("core.run", "src/core.py"),
        ] {
            assert_eq!(found("python", "app/auth.py", import, &paths), [expected], "{import}");
        }
        assert!(found("python", "app/auth.py", "os.path", &paths).is_empty());
    }

    #[test]
    fn rust_paths_are_found_by_module_and_by_package() {
        let paths = [
            "src/lib.rs",
            "src/a.rs",
            "src/a/b.rs",
            "src/c/mod.rs",
            "crates/other-crate/src/x.rs",
            "tests/it.rs",
        ];
        for (from, import, expected) in [
            ("src/a/b.rs", "crate::c::thing", "src/c/mod.rs"),
            ("src/a.rs", "self::b", "src/a/b.rs"),
            ("src/a/b.rs", "super::helper", "src/a.rs"),
            ("src/a.rs", "crate::run", "src/lib.rs"),
            ("tests/it.rs", "looop::a::b::f", "src/a/b.rs"),
            ("src/a.rs", "other_crate::x::Y", "crates/other-crate/src/x.rs"),
            ("src/lib.rs", "a::f", "src/a.rs"),
        ] {
            assert_eq!(found("rust", from, import, &paths), [expected], "{from} {import}");
        }
        assert!(found("rust", "src/a.rs", "std::fs", &paths).is_empty());
    }

    #[test]
    fn a_use_is_expanded() {
        let mut all = Vec::new();
        spell_out("crate::{a::{b, c as d, self}, e::*, f}", &mut |path| all.push(path.to_owned()));
        assert_eq!(all, ["crate::a::b", "crate::a::c", "crate::a::self", "crate::e", "crate::f"]);
    }

    #[test]
    fn go_and_scripts_are_found_by_their_own_rules() {
        let go = ["db/a.go", "db/b.go", "main.go"];
        assert_eq!(found("go", "main.go", "example.com/app/db", &go), ["db/a.go", "db/b.go"]);
        assert!(found("go", "main.go", "fmt", &go).is_empty());
        let scripts = ["src/a.ts", "src/b/index.js", "lib/c.jsx"];
        for (import, expected) in [
            ("./a", "src/a.ts"),
            ("./a.js", "src/a.ts"),
            ("./b", "src/b/index.js"),
            ("../lib/c", "lib/c.jsx"),
        ] {
            assert_eq!(found("javascript", "src/main.ts", import, &scripts), [expected], "{import}");
        }
        assert!(found("javascript", "src/main.ts", "../../out", &scripts).is_empty());
        assert!(found("javascript", "src/main.ts", "react", &scripts).is_empty());
    }
}
