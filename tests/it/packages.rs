//! What packages are made from: each file that they name is there, and no version is written twice.

use std::{fs, path::Path};

use crate::install::released;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn every_file_of_the_debian_package_is_made() {
    let manifest = fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).unwrap();
    let manifest: toml::Value = toml::from_str(&manifest).unwrap();
    let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array().unwrap();
    for source in assets.iter().map(|asset| asset[0].as_str().unwrap()) {
        let place = match source.strip_prefix("target/packages/") {
            Some(made) => Path::new(&released()).join(made),
            None if source.starts_with("target/") => continue,
            None => Path::new(ROOT).join(source),
        };
        let (folder, name) = (place.parent().unwrap(), place.file_name().unwrap().to_str().unwrap());
        let (begin, end) = name.split_once('*').unwrap_or((name, ""));
        let fits = |found: &str| found.starts_with(begin) && found.ends_with(end);
        let found =
            fs::read_dir(folder).unwrap().any(|entry| fits(entry.unwrap().file_name().to_str().unwrap()));
        assert!(found, "{source}: nothing like that in {}", folder.display());
    }
}

/// Nix cannot be had everywhere; what the text must say can be looked at.
#[test]
fn the_flake_reads_its_version_and_checks() {
    let flake = fs::read_to_string(Path::new(ROOT).join("flake.nix")).unwrap();
    assert!(flake.contains("(builtins.fromTOML (builtins.readFile ./Cargo.toml)).package"));
    assert!(flake.contains("version = manifest.version;") && !flake.contains(env!("CARGO_PKG_VERSION")));
    assert!(flake.contains("doCheck = true;") && flake.contains("checks = forEach"));
    for (open, close) in [('{', '}'), ('(', ')'), ('[', ']')] {
        assert_eq!(flake.matches(open).count(), flake.matches(close).count(), "{open}{close}");
    }
}
