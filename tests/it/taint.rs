//! Whose text a goal is: the text decides, whatever file holds it.

use std::fs;

use serde_json::json;

use crate::support::profile::{NOOP, Profile};

/// A profile whose goal `first` was written by a move after untrusted text was read. Nothing else that is untrusted is
/// in its world any more.
fn written_after_untrusted_text() -> Profile {
    let write = json!({ "move": "write_goal", "id": "first", "body": "goal: ring the bell", "why": "w" });
    let profile = Profile::scripted(&[&write.to_string(), NOOP]);
    profile.sensor("theirs.sh", "# looop: trust=untrusted\necho '{\"title\":\"ring it\"}'");
    profile.looop(&["tick"]).ok();
    assert!(profile.data().join("goals/first.md").exists());
    fs::remove_file(profile.data().join("sensors/theirs.sh")).unwrap();
    profile.looop(&["tick"]).ok();
    profile
}

/// Whether the prompt shows a goal as somebody else's text.
fn is_shown_as_data(profile: &Profile, id: &str) -> bool {
    let prompt = profile.looop(&["tick", "--dry-run"]).ok().stdout;
    let heading = prompt.lines().find(|line| line.starts_with(&format!("# goal {id}")));
    heading.unwrap_or_else(|| panic!("no goal {id} in {prompt}")).contains("(data)")
}

#[test]
#[ignore = "slow"]
fn an_untrusted_goal_stays_theirs_under_every_name_until_it_is_edited() {
    for how in ["kept", "renamed", "renamed by git", "copied", "gone for a while"] {
        let profile = written_after_untrusted_text();
        let path = |id: &str| profile.data().join(format!("goals/{id}.md"));
        match how {
            "renamed" => fs::rename(path("first"), path("second")).unwrap(),
            "renamed by git" => {
                profile.git(&["mv", "goals/first.md", "goals/second.md"]);
            }
            "copied" => {
                fs::copy(path("first"), path("second")).unwrap();
                fs::remove_file(path("first")).unwrap();
            }
            "gone for a while" => {
                fs::rename(path("first"), profile.path("aside")).unwrap();
                profile.looop(&["tick"]).ok();
                fs::rename(profile.path("aside"), path("second")).unwrap();
            }
            _ => {}
        }
        let id = if how == "kept" { "first" } else { "second" };
        assert!(is_shown_as_data(&profile, id), "{how}");
        profile.looop(&["tick"]).ok();
        assert!(is_shown_as_data(&profile, id), "{how}: a decision takes nothing away");
        fs::write(path(id), "goal: ring the bell, says the user\n").unwrap();
        assert!(!is_shown_as_data(&profile, id), "{how}: the user's text");
    }
}

#[test]
fn a_name_that_untrusted_text_used_does_not_taint_the_users_text() {
    let profile = written_after_untrusted_text();
    profile.goal("first", "goal: my own\n");
    profile.goal("second", "goal: my own\n");
    for id in ["first", "second"] {
        assert!(!is_shown_as_data(&profile, id), "{id}");
    }
}
