//! A full disk: the worker goes on, what was lost is said, and nothing else is.

use super::NOOP;
use crate::support::pi::skipped;
use crate::support::profile::{LOOOP, Profile};

/// In a mount namespace of its own, where the workers' directory is a small file system.
#[test]
#[ignore = "slow"]
fn a_full_disk_costs_output_and_nothing_else() {
    let mut probe = std::process::Command::new("unshare");
    if !probe.args(["-rm", "mount", "-t", "tmpfs", "none", "/mnt"]).status().is_ok_and(|s| s.success()) {
        return skipped("no mount namespaces");
    }
    let profile = Profile::scripted(&[NOOP]);
    std::fs::create_dir_all(profile.data().join("workers")).unwrap();
    let script = r#"
        set -e; W="$LOOOP_DATA_DIR/workers"; S="$W/w1/state.json"
        mount -t tmpfs -o size=2m none "$W"
        head -c 1000000 /dev/zero >"$W/.filler"
        "$LOOOP" worker start w1 -- sh -c 'stty -opost; touch ready; head -c 5000000 /dev/zero; echo full >full
            while [ ! -e free ]; do sleep 0.02; done; echo the last words; exit 0'
        until [ -e "$W/w1/clone/full" ]; do sleep 0.02; done
        echo "free: $(df --output=avail "$W" | tail -1)"
        timeout 20 "$LOOOP" flag w1 "with a full disk"; echo "flag: $?"
        grep -c 'with a full disk' "$S" || true
        rm "$W/.filler"
        until grep -q 'with a full disk' "$S" && grep -q '"lost_bytes": [1-9]' "$S"; do sleep 0.02; done
        grep lost_bytes "$S"; : >"$W/w1/clone/free"
        until grep -q '"phase": "exited"' "$S"; do sleep 0.02; done
        tail -c 15 "$W/w1/transcript.raw"
        "$LOOOP" ls --json"#;
    let mut command = profile.other_command("unshare", &["-rm", "timeout", "100", "sh", "-c", script]);
    let ran = command.env("LOOOP", LOOOP).output().unwrap();
    let printed = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{printed}\n{}", String::from_utf8_lossy(&ran.stderr));
    assert!(printed.contains("free:     0\n") || printed.contains("free: 0\n"), "{printed}");
    assert!(printed.contains("flag: 0\n0\n"), "the state could not be written then: {printed}");
    assert!(printed.contains("the last words\n"), "{printed}");
    assert!(printed.contains(r#""state":"exited""#) || printed.contains(r#""state": "exited""#), "{printed}");
    assert!(profile.read("journal.md").contains("worker w1 — exited"));
}
