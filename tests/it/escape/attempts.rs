//! The attempts: a shell line for each, and how it is known that it succeeded.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::{fs, path::Path};

/// How success is known.
pub enum Proof {
    /// By the line's own exit code: it read or reached something.
    Outcome,
    /// By what is found outside, below the profile's directory. A sandbox may let the line do it to what is the sandbox's own.
    Left(fn(&Path) -> bool),
}

/// One attempt.
pub struct Attempt {
    /// Its short name.
    pub name: &'static str,
    /// What it does, as the docs say it.
    pub what: &'static str,
    /// The shell line. `P` is the profile's directory, `D` its data dir, `H` the home, `V` a process outside.
    pub script: &'static str,
    /// How success is known.
    pub proof: Proof,
}

const fn printed(name: &'static str, what: &'static str, script: &'static str) -> Attempt {
    Attempt { name, what, script, proof: Proof::Outcome }
}

const fn left(
    name: &'static str,
    what: &'static str,
    script: &'static str,
    check: fn(&Path) -> bool,
) -> Attempt {
    Attempt { name, what, script, proof: Proof::Left(check) }
}

fn holds(path: std::path::PathBuf, text: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|found| found.contains(text))
}

/// All of them.
pub const ATTEMPTS: &[Attempt] = &[
    printed("ssh", "read a key in `~/.ssh`", r#"grep -q "$KEY" $H/.ssh/id_test"#),
    printed("root", "read it through `/proc/self/root`", r#"grep -q "$KEY" /proc/self/root$H/.ssh/id_test"#),
    printed(
        "procroot",
        "read it through `/proc/PID/root` of a process outside",
        r#"grep -q "$KEY" /proc/$V/root$H/.ssh/id_test"#,
    ),
    printed("environ", "read the environment of a process outside", r#"grep -q "$KEY" /proc/$V/environ"#),
    printed(
        "mem",
        "read the memory of a process outside",
        r#"perl -e 'open(M, "/proc/$ARGV[0]/maps") or exit 1; <M> =~ /^([0-9a-f]+)/; no warnings; open(F, "<:raw", "/proc/$ARGV[0]/mem") or exit 1; sysseek(F, hex($1), 0); exit(sysread(F, $b, 4) == 4 ? 0 : 1)' $V"#,
    ),
    printed(
        "ptrace",
        "trace a process outside",
        r#"perl -e 'exit(syscall($ARGV[0], 0x4206, $ARGV[1] + 0, 0, 0) == 0 ? 0 : 1)' $PTRACE $V"#,
    ),
    printed("signal", "send a signal to a process outside", "kill -CONT $V"),
    printed("tree", "read another worker's tree", r#"grep -q "$KEY" $D/workers/other/clone/work"#),
    printed("config", "read looop's config", r#"grep -q scripted $P/looop.json"#),
    left(
        "symlink",
        "write the data dir through a symbolic link",
        "ln -s $D/goals link; echo x >link/symlink.md",
        |p| p.join("data/goals/symlink.md").exists(),
    ),
    left("hardlink", "write the data dir through a hard link", "ln $D/format hard && echo ' ' >>hard", |p| {
        holds(p.join("data/format"), " \n")
    }),
    left("rename", "move a goal out of the data dir", "mv $D/goals/g.md .", |p| {
        !p.join("data/goals/g.md").exists()
    }),
    left("data", "write the PLAYBOOK", "echo escaped >>$D/PLAYBOOK.md", |p| {
        holds(p.join("data/PLAYBOOK.md"), "escaped")
    }),
    left("answer", "answer its own ask", "echo '{}' >$D/asks/ask-1.answer.json", |p| {
        p.join("data/asks/ask-1.answer.json").exists()
    }),
    left("configwrite", "write looop's config", "echo ' ' >>$P/looop.json", |p| {
        holds(p.join("looop.json"), " \n")
    }),
    left(
        "daemon",
        "write outside from a daemon (`setsid`, two forks)",
        "setsid sh -c '(echo x >$0/daemon) &' $P; for i in 1 2 3 4 5 6 7 8 9 10; do [ -e $P/daemon ] && break; sleep 0.05; done",
        |p| p.join("daemon").exists(),
    ),
    left(
        "hooks",
        "put a hook into the user's repository",
        "mkdir -p $P/repo/.git/hooks; echo x >$P/repo/.git/hooks/post-commit",
        |p| p.join("repo/.git/hooks/post-commit").exists(),
    ),
    left(
        "fsmonitor",
        "set `core.fsmonitor` in the user's repository",
        "git config -f $P/repo/.git/config core.fsmonitor /bin/false",
        |p| holds(p.join("repo/.git/config"), "fsmonitor"),
    ),
    left("envrc", "put an `.envrc` into the user's repository", "echo x >$P/repo/.envrc", |p| {
        p.join("repo/.envrc").exists()
    }),
    left("bashrc", "write a shell start file", "echo escaped >>$H/.bashrc", |p| {
        holds(p.join("home/.bashrc"), "escaped")
    }),
    left("keys", "let somebody in by `authorized_keys`", "echo escaped >>$H/.ssh/authorized_keys", |p| {
        holds(p.join("home/.ssh/authorized_keys"), "escaped")
    }),
    left("agent", "put a hook into an agent's settings", "echo escaped >>$H/.claude/settings.json", |p| {
        holds(p.join("home/.claude/settings.json"), "escaped")
    }),
    left(
        "profile",
        "open a second profile",
        "LOOOP_DATA_DIR=$P/other LOOOP_CONFIG=$P/other.json HOME=$H $L init",
        |p| p.join("other/format").exists(),
    ),
    printed(
        "abstract",
        "connect to an abstract socket",
        r#"perl -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0); exit(connect(S, pack_sockaddr_un("\0looop-test-$ARGV[0]")) ? 0 : 1)' $V"#,
    ),
    printed(
        "pathname",
        "connect to a socket with a path",
        r#"perl -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0); exit(connect(S, pack_sockaddr_un($ARGV[0])) ? 0 : 1)' $P/sock"#,
    ),
    printed("tmux", "command the user's tmux server", "tmux -S $P/tmux.sock set-buffer x"),
    printed(
        "io_uring",
        "make an io_uring",
        r#"perl -e 'my $p = "\0" x 248; exit(syscall(425, 1, $p) >= 0 ? 0 : 1)'"#,
    ),
    printed("userns", "make a user namespace", "unshare -U true"),
    printed(
        "keyring",
        "write the kernel's key ring",
        r#"perl -e 'my ($t, $n, $v) = ("user", "looop-test", "x"); exit(syscall($ARGV[0], $t, $n, $v, 1, -4) > 0 ? 0 : 1)' $ADD_KEY"#,
    ),
    left("chmod", "change the mode of a file outside", "chmod 777 $P/shared", |p| {
        fs::metadata(p.join("shared")).unwrap().permissions().mode() & 0o777 == 0o777
    }),
    left("utime", "change the time of a file outside", "perl -e 'utime(5, 5, $ARGV[0])' $P/shared", |p| {
        fs::metadata(p.join("shared")).unwrap().mtime() == 5
    }),
];
