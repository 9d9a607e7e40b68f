//! Tests of the scope of an approval: each field of it counts.

use serde_json::Value;

use super::*;

fn text(word: &str) -> String {
    word.to_owned()
}

/// A scope with a value in each field.
pub fn whole() -> ApprovalScope {
    ApprovalScope {
        form: FORM,
        action: text("{}"),
        grants: vec![GrantScope {
            name: text("~/x"),
            kind: text("file"),
            path: Some(text("/home/u/x")),
            content: Some(text("c")),
            place: Some(text("p")),
        }],
        command: Some(CommandScope {
            argv: vec![text("ls")],
            program: text("/bin/ls"),
            cwd: text("/tmp"),
            place: Some(text("p")),
            env: vec![text("PATH")],
            values: text("v"),
        }),
        checks: vec![Check { name: text("tests"), argv: vec![text("make")] }],
        files: vec![FileScope {
            role: text("program"),
            path: text("/bin/ls"),
            real: text("/usr/bin/ls"),
            place: text("p"),
            content: text("c"),
        }],
        folders: vec![FolderScope { path: text("/tmp"), entries: 7, content: text("c") }],
        beyond: vec![text("the network")],
        sandbox: SandboxScope { level: text("full"), network: text("off"), writes: vec![text("/tmp")] },
        replaces: Some(text("r")),
        goal: Some(GoalScope { id: Name::parse("g").unwrap(), content: Some(text("c")) }),
        repo: Some(RepoScope {
            path: text("/r"),
            place: text("p"),
            head: text("main"),
            base: text("b"),
            objects: text("o"),
        }),
        user_side: vec![UserSidePath { path: text(".envrc"), reason: text("a shell") }],
    }
}

/// Returns a copy of the value for each leaf, with that leaf changed.
pub fn changed(value: &Value) -> Vec<Value> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(key, inner)| changed(inner).into_iter().map(move |other| (key.clone(), other)))
            .map(|(key, other)| {
                let mut all = fields.clone();
                all.insert(key, other);
                Value::Object(all)
            })
            .collect(),
        Value::Array(items) => {
            let mut all =
                vec![Value::Array([items.clone(), items.clone()].concat()), Value::Array(Vec::new())];
            for (at, item) in items.iter().enumerate() {
                all.extend(changed(item).into_iter().map(|other| {
                    let mut items = items.clone();
                    items[at] = other;
                    Value::Array(items)
                }));
            }
            all
        }
        Value::Number(_) => vec![Value::from(8)],
        _ => vec![Value::from("other")],
    }
}

#[test]
fn every_field_of_a_scope_counts() {
    let base = whole();
    let all = changed(&serde_json::to_value(&base).unwrap());
    assert!(all.len() > 35, "{}", all.len());
    for other in all {
        let other: ApprovalScope = serde_json::from_value(other).unwrap();
        assert_ne!(other.digest(), base.digest(), "{other:?}");
    }
}

#[test]
fn a_request_is_recognized_when_other_parts_of_the_scope_have_changed() {
    let base = whole();
    let mut other = base.clone();
    other.folders[0].content = text("other");
    other.files[0].place = text("other");
    other.repo.as_mut().unwrap().base = text("other");
    other.command.as_mut().unwrap().values = text("other");
    assert!(other.request_digest() == base.request_digest() && other.digest() != base.digest());
    other.files[0].content = text("other");
    assert_ne!(other.request_digest(), base.request_digest(), "another program is another request");
}
