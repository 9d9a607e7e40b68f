//! The installer for real: a release folder made from this very program, and everything that can be wrong with one.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{collections::BTreeSet, fs, net::TcpListener, sync::LazyLock};

use crate::support::pi::skipped;
use crate::support::profile::{LOOOP, Ran, program};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const USUAL: &str = "/usr/local/bin:/usr/bin:/bin";

/// A release of this program for this machine, made as releases are.
static RELEASE: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let small = dir.path().join("small");
    // Without what a debugger needs it is a fifth, and read as often.
    let stripped = Command::new("strip").arg("-o").arg(&small).arg(LOOOP).status();
    let binary = if stripped.is_ok_and(|status| status.success()) { small.to_str().unwrap() } else { LOOOP };
    let out = dir.path().join("out");
    let made = Command::new("sh").arg(format!("{ROOT}/scripts/release.sh")).arg(&out).arg(binary).output();
    let ran: Ran = made.unwrap().into();
    assert!(ran.ok().stdout.contains(env!("CARGO_PKG_VERSION")));
    drop(fs::remove_file(small));
    dir
});

fn asset() -> &'static str {
    if cfg!(target_arch = "aarch64") { "looop-linux-aarch64" } else { "looop-linux-x86_64" }
}

/// A home in which looop is installed.
struct Home {
    dir: tempfile::TempDir,
    vars: Vec<(&'static str, String)>,
}

impl Home {
    fn new() -> Home {
        let home = Home { dir: tempfile::tempdir().unwrap(), vars: Vec::new() };
        fs::create_dir(home.path("fake")).unwrap();
        home
    }

    /// One whose releases are here.
    fn with(release: &str) -> Home {
        let mut home = Home::new();
        home.vars.push(("LOOOP_RELEASE_URL", release.to_owned()));
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn target(&self) -> PathBuf {
        self.path(".local/bin/looop")
    }

    /// A program that is found before the machine's own.
    fn fake(&self, name: &str, lines: &str) {
        script(&self.path("fake").join(name), lines);
    }

    fn sh(&self, script: &Path, args: &[&str]) -> Ran {
        let mut sh = Command::new("sh");
        sh.arg(script).args(args).env_clear().current_dir(self.dir.path()).stdin(Stdio::null());
        sh.env("HOME", self.dir.path()).env("PATH", format!("{}:{USUAL}", self.path("fake").display()));
        sh.envs(self.vars.iter().map(|(key, value)| (key, value))).output().unwrap().into()
    }

    fn install(&self, args: &[&str]) -> Ran {
        self.sh(&Path::new(ROOT).join("install.sh"), args)
    }

    /// Every file of the home but the fake programs.
    fn files(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut open = vec![self.dir.path().to_owned()];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
                let name = entry.path().strip_prefix(self.dir.path()).unwrap().to_str().unwrap().to_owned();
                match entry.file_type().unwrap().is_dir() {
                    true if name != "fake" => open.push(entry.path()),
                    true => {}
                    false => drop(found.insert(name)),
                }
            }
        }
        found
    }

    /// Runs the installed program.
    fn looop(&self, args: &[&str]) -> Ran {
        let mut looop = Command::new(self.target());
        looop.args(args).env_clear().env("HOME", self.dir.path()).env("PATH", USUAL).output().unwrap().into()
    }
}

fn script(path: &Path, lines: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    program(path, format!("#!/bin/sh\n{lines}\n"));
}

pub fn released() -> String {
    RELEASE.path().join("out").to_str().unwrap().to_owned()
}

/// A release of one file with these bytes; its checksum is right unless another is given.
fn release_of(dir: &Path, bytes: &[u8], sum: Option<&str>) -> String {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join(asset()), bytes).unwrap();
    let made = Command::new("sha256sum").arg(asset()).current_dir(dir).output().unwrap();
    let right = String::from_utf8(made.stdout).unwrap();
    let text = sum.map_or(right, |sum| format!("{sum}  {}\n", asset()));
    fs::write(dir.join("SHA256SUMS"), text).unwrap();
    dir.to_str().unwrap().to_owned()
}

const OLDER: &str = "echo looop 0.0.1";

#[test]
#[ignore = "slow"]
fn a_release_is_installed_once_and_taken_away_again() {
    let mut home = Home::with(&released());
    let first = home.install(&[]).ok();
    let version = env!("CARGO_PKG_VERSION");
    assert!(first.stdout.contains(&format!("installed looop {version} as ")), "{first:?}");
    assert!(first.stdout.contains("export PATH="), "{first:?}");
    let files = home.files();
    for name in [
        ".local/bin/looop",
        ".local/share/bash-completion/completions/looop",
        ".local/share/zsh/site-functions/_looop",
        ".local/share/fish/vendor_completions.d/looop.fish",
        ".local/share/man/man1/looop.1",
        ".local/share/man/man1/looop-goal-write.1",
    ] {
        assert!(files.contains(name), "{name}: {files:?}");
    }
    home.looop(&["init"]).ok();
    let with_data = home.files();
    let modified = || fs::metadata(home.target()).unwrap().modified().unwrap();
    let before = modified();
    let second = home.install(&[]).shows(&[&format!("looop {version} is installed already")]);
    assert_eq!(second.stdout.lines().count(), 1, "{second:?}");
    assert_eq!((home.files(), modified()), (with_data.clone(), before));
    // Where the checksum says so nothing is downloaded.
    fs::create_dir(home.path("sums")).unwrap();
    fs::copy(Path::new(&released()).join("SHA256SUMS"), home.path("sums/SHA256SUMS")).unwrap();
    home.vars = vec![("LOOOP_RELEASE_URL", home.path("sums").display().to_string())];
    home.install(&[]).ok();
    fs::remove_dir_all(home.path("sums")).unwrap();
    home.vars = vec![("LOOOP_RELEASE_URL", released())];
    // A page that an older one had goes with the next.
    let list = home.path(".local/share/looop/installed.txt");
    let old = home.path(".local/share/man/man1/looop-old.1");
    fs::write(&old, "").unwrap();
    fs::write(&list, format!("{}{}\n", fs::read_to_string(&list).unwrap(), old.display())).unwrap();
    script(&home.target(), OLDER);
    home.install(&[]).ok();
    assert_eq!(home.files(), with_data);

    let unit = home.path(".config/systemd/user/looop.service");
    fs::create_dir_all(unit.parent().unwrap()).unwrap();
    home.fake("systemctl", &format!("echo \"$@\" >> {}", home.path("fake/said").display()));
    home.looop(&["service", "install"]).ok();
    fs::write(unit.with_file_name("looop-mine.service"), "[Unit]\n").unwrap();
    home.install(&["--uninstall"]).ok();
    let left = home.files();
    assert!(left.contains(".config/systemd/user/looop-mine.service"), "it is not looop's: {left:?}");
    let left: Vec<_> = left.iter().filter(|name| !name.contains("looop-mine")).collect();
    let data: Vec<_> = with_data.iter().filter(|name| !files.contains(*name)).collect();
    assert_eq!(left, data, "the data is where it was, and nothing else");
    let printed = fs::read_to_string(home.path("fake/said")).unwrap();
    assert_eq!(printed, "--user disable --now looop.service\n");
    home.install(&["--uninstall"]).shows(&["there is no "]);
}

#[test]
fn a_dry_run_says_and_does_nothing() {
    let home = Home::with(&released());
    home.install(&["--dry-run"]).shows(&[&format!("would download {}/{}", released(), asset())]);
    assert_eq!(home.files(), BTreeSet::new());
    home.install(&["--no-completions"]).ok();
    let only = BTreeSet::from([".local/bin/looop".to_owned()]);
    assert_eq!(home.files(), only);
    home.install(&["--uninstall", "--dry-run"]).shows(&["would run: 'rm' '-f'"]);
    assert_eq!(home.files(), only);
    let other = Home::new();
    other
        .install(&["--dry-run"])
        .shows(&[&format!("would run: 'cargo' 'install' '--path' '{ROOT}' '--locked'")]);
    assert_eq!(other.files(), BTreeSet::new());
}

#[test]
fn an_older_one_is_replaced_in_one_step() {
    let home = Home::with(&released());
    script(&home.target(), OLDER);
    let mut old = fs::File::open(home.target()).unwrap();
    home.install(&[]).shows(&["(was 0.0.1)"]);
    assert_eq!(home.looop(&["--version"]).ok().stdout, format!("looop {}\n", env!("CARGO_PKG_VERSION")));
    let mut text = String::new();
    old.read_to_string(&mut text).unwrap();
    assert!(text.contains(OLDER), "who runs the old one keeps it");
}

#[test]
fn what_is_wrong_with_a_release_replaces_nothing() {
    let home = Home::new();
    script(&home.target(), OLDER);
    let before = home.files();
    let elf = fs::read(Path::new(&released()).join(asset())).unwrap();
    // The machine that an ELF file is for stands at byte 18; 0xf3 is RISC-V.
    let mut foreign = elf[..4096].to_vec();
    foreign[18] = 0xf3;
    let zeros = "0".repeat(64);
    let releases = tempfile::tempdir().unwrap();
    let at = |name: &str, bytes: &[u8], sum| release_of(&releases.path().join(name), bytes, sum);
    let (no_file, closed) = (releases.path().join("none"), TcpListener::bind("127.0.0.1:0").unwrap());
    let refused = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let has_client = ["curl", "wget"].iter().any(|tool| Path::new("/usr/bin").join(tool).exists());
    for (url, what, hint) in [
        (at("sum", &elf[..4096], Some(&zeros)), "should be 0000", "nothing was changed"),
        (at("foreign", &foreign, None), "it does not run on this machine", "nothing was replaced"),
        (at("torn", &elf[..4096], None), "it does not run on this machine", "--from-source"),
        (no_file.to_str().unwrap().to_owned(), "could not download ", "nothing was changed"),
        (refused, "could not download http://127.0.0.1", "is the network there?"),
    ] {
        if url.starts_with("http") && !has_client {
            skipped("install: neither curl nor wget");
            continue;
        }
        let mut home = Home { vars: vec![("LOOOP_RELEASE_URL", url)], ..Home::new() };
        script(&home.target(), OLDER);
        home.install(&[]).fails_with(1, &[what, hint]);
        assert_eq!(home.files(), before, "{what}");
        assert_eq!(home.looop(&["--version"]).ok().stdout, "looop 0.0.1\n");
        home.vars.clear();
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_reported() {
    let mut home = Home::with(&released());
    // A file where the folder should be: nobody can write into that, whoever they are.
    fs::write(home.path("file"), "mine").unwrap();
    home.vars.push(("LOOOP_INSTALL_DIR", home.path("file/bin").to_str().unwrap().to_owned()));
    home.install(&[])
        .fails_with(1, &["error: could not write into ", "hint: name another folder with LOOOP_INSTALL_DIR"]);
    assert_eq!(home.files(), BTreeSet::from(["file".to_owned()]));
    home.install(&["--frobnicate"]).fails_with(2, &["could not understand '--frobnicate'"]);
}

/// A cargo that notes what it is asked and makes the program as it would.
fn fake_cargo(home: &Home) {
    let (printed, release) = (home.path("fake/said"), released());
    let script = format!(
        "echo \"$@\" >> '{}'\nwhile [ $# -gt 1 ]; do [ \"$1\" = --root ] && root=$2; shift; done\nmkdir -p \"$root/bin\"\ncp '{release}/{}' \"$root/bin/looop\"",
        printed.display(),
        asset()
    );
    home.fake("cargo", &script);
}

#[test]
fn without_a_release_for_this_machine_cargo_builds_it() {
    let asked = |home: &Home, begin: &str| {
        let printed = fs::read_to_string(home.path("fake/said")).unwrap();
        assert!(printed.starts_with(begin), "{printed}");
    };
    // None is known at all; this one stands in a clone.
    let home = Home::new();
    fake_cargo(&home);
    home.install(&["--no-completions"]).ok();
    let root = home.path(".local/bin/.looop-install.").display().to_string();
    asked(&home, &format!("install --path {ROOT} --locked --root {root}"));
    assert_eq!(home.files(), BTreeSet::from([".local/bin/looop".to_owned()]));
    // There are releases, and none for such a machine.
    let home = Home::with(&released());
    fake_cargo(&home);
    home.fake("uname", OTHER_MACHINE);
    home.install(&["--version=0.1.0", "--no-completions"]).fails_with(1, &["v0.1.0/SHA256SUMS"]);
    home.install(&["--no-completions"]).shows(&["there is no release for Linux on riscv64"]);
    asked(&home, &format!("install --path {ROOT} --locked "));
    // What cargo cannot build is its own to explain.
    home.fake("cargo", "echo 'error[E0000]: no' >&2; exit 101");
    home.install(&["--from-source"]).fails_with(1, &["cargo says why above"]);
}

/// A `uname` of a machine that no release is for.
const OTHER_MACHINE: &str = "case $1 in -m) echo riscv64 ;; *) echo Linux ;; esac";

#[test]
fn outside_of_a_clone_and_a_release_folder_it_installs_nothing() {
    let home = Home::new();
    fake_cargo(&home);
    let script = fs::read(format!("{ROOT}/install.sh")).unwrap();
    let refused = |ran: Ran| {
        let what = "error: could not install looop: there is no release";
        ran.fails_with(1, &[what, "hint: run this script in a clone of looop"]);
        assert!(
            !home.path("fake/said").exists() && !home.target().exists(),
            "cargo was not asked for a name"
        );
    };
    // Alone in a folder, and beside a package of another project that has the program's name.
    let alone = home.path("fake/install.sh");
    fs::write(&alone, &script).unwrap();
    for args in [&[][..], &["--from-source"], &["--dry-run"], &["--version=0.1.0"]] {
        refused(home.sh(&alone, args));
    }
    fs::write(home.path("fake/Cargo.toml"), "[package]\nname = \"looop\"\n").unwrap();
    refused(home.sh(&alone, &[]));
    // Through a pipe, in a folder that looks like a clone.
    fs::copy(format!("{ROOT}/Cargo.toml"), home.path("Cargo.toml")).unwrap();
    let mut sh = Command::new("sh");
    sh.arg("-s").env_clear().current_dir(home.dir.path()).stdin(Stdio::piped()).stderr(Stdio::piped());
    sh.env("HOME", home.dir.path()).env("PATH", format!("{}:{USUAL}", home.path("fake").display()));
    let mut piped = sh.stdout(Stdio::piped()).spawn().unwrap();
    piped.stdin.take().unwrap().write_all(&script).unwrap();
    refused(piped.wait_with_output().unwrap().into());
    // A release without anything for this machine.
    let other = Home::with(&released());
    fake_cargo(&other);
    other.fake("uname", OTHER_MACHINE);
    fs::write(other.path("fake/install.sh"), &script).unwrap();
    let ran = other.sh(&other.path("fake/install.sh"), &[]);
    assert!(ran.code == 1 && ran.stdout.contains("there is no release for Linux on riscv64"), "{ran:?}");
    assert!(!other.path("fake/said").exists() && !other.target().exists());
}

#[test]
fn in_a_release_folder_it_installs_what_is_there_with_its_checksum() {
    let home = Home::new();
    fake_cargo(&home);
    let folder = tempfile::tempdir().unwrap();
    for name in [asset(), "SHA256SUMS", "install.sh"] {
        fs::copy(Path::new(&released()).join(name), folder.path().join(name)).unwrap();
    }
    home.sh(&folder.path().join("install.sh"), &["--no-completions"]).shows(&["installed looop "]);
    assert!(!home.path("fake/said").exists(), "cargo was not asked");
    // A file that is not the released one is refused.
    fs::remove_file(home.target()).unwrap();
    let binary = folder.path().join(asset());
    fs::write(&binary, [&fs::read(&binary).unwrap()[..], b"x"].concat()).unwrap();
    home.sh(&folder.path().join("install.sh"), &[]).fails_with(1, &["its checksum is "]);
    assert!(!home.target().exists());
}

/// Text that installs a package of this name from a registry.
fn installs_by_name(line: &str) -> bool {
    let words: Vec<&str> = line.split(|c: char| c.is_whitespace() || "`'\"();|&".contains(c)).collect();
    let by_name = ["looop", "looop-loop", "nixpkgs#looop", "pkgs.looop"];
    let commands = "cargo install|cargo binstall|cargo add|brew install|npm install|npm i|apt install|apt-get install|\
                    pip install|pipx install|nix run|nix profile|nix-env -iA|dnf install|pacman -S";
    commands.split('|').any(|command| words.windows(2).any(|two| two.join(" ") == command))
        && words.iter().any(|word| by_name.contains(&word.split('@').next().unwrap_or_default()))
}

#[test]
fn no_script_and_no_page_installs_looop_by_a_name_in_a_registry() {
    let bad =
        "cargo install looop --locked|run `brew install looop`|apt-get install -y looop|npm i -g looop@1";
    for bad in bad.split('|') {
        assert!(installs_by_name(bad), "{bad}");
    }
    let mut seen = 0;
    let names = "README.md CHANGELOG.md SECURITY.md install.sh flake.nix docs scripts seed src".split(' ');
    let mut open: Vec<PathBuf> = names.map(|name| Path::new(ROOT).join(name)).collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        seen += 1;
        for line in String::from_utf8_lossy(&fs::read(&path).unwrap()).lines() {
            assert!(!installs_by_name(line), "{}: {line}", path.display());
        }
    }
    assert!(seen > 50, "{seen}");
    let manifest = fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).unwrap();
    let package = &toml::from_str::<toml::Value>(&manifest).unwrap()["package"];
    assert_eq!((package["name"].as_str(), package["publish"].as_bool()), (Some("looop-loop"), Some(false)));
}

#[test]
fn a_named_version_and_a_prefix() {
    let releases = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(released(), releases.path().join("v0.1.0")).unwrap();
    let home = Home::with(&format!("file://{}", releases.path().display()));
    let prefix = home.path("else where");
    home.install(&["--version", "v0.1.0", "--prefix", prefix.to_str().unwrap()]).ok();
    let files = home.files();
    assert!(files.contains("else where/bin/looop") && files.contains("else where/share/man/man1/looop.1"));
    assert!(files.iter().all(|name| name.starts_with("else where/")), "{files:?}");
    home.install(&["--uninstall", "--prefix", prefix.to_str().unwrap()]).ok();
    assert_eq!(home.files(), BTreeSet::new());
}

#[test]
fn a_release_comes_over_the_network() {
    if !["curl", "wget"].iter().any(|tool| Path::new("/usr/bin").join(tool).exists()) {
        return skipped("install: neither curl nor wget");
    }
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/app/releases", server.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in server.incoming().map_while(Result::ok) {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count > 0) {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default();
            let file = path.strip_prefix("/app/releases/latest/download/").unwrap_or("none");
            let body = fs::read(Path::new(&released()).join(file));
            let status = if body.is_ok() { "200 OK" } else { "404 Not Found" };
            let body = body.unwrap_or_default();
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            // A client that hangs up is its own affair.
            let _sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    let home = Home::with(&url);
    home.install(&["--no-completions"]).ok();
    assert_eq!(home.looop(&["--version"]).ok().code, 0);
    home.install(&["--version", "9.9.9"]).fails_with(1, &["/download/v9.9.9/SHA256SUMS"]);
}
