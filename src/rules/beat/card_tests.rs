//! Tests of the card: it shows each field of each move and of the scope, and foreign text cannot look like it.

use serde_json::{Value, json};

use super::*;
use crate::rules::beat::ask::{AskKind, tests};
use crate::rules::beat::decision::schema;
use crate::rules::beat::scope::{
    FORM,
    tests::{changed, whole},
};
use crate::rules::beat::state::Operation;

fn ask(approval: Option<Approval>) -> QuestionFile {
    QuestionFile { kind: AskKind::Approval, expires_ms: Some(60_000), approval, ..tests::question("ap-1") }
}

fn decided(flat: Value) -> Move {
    Move::from_json(&flat).unwrap()
}

fn rows_of(decided: Move, scope: ApprovalScope, clean: bool) -> Vec<CardRow> {
    let because = "because of a test".to_owned();
    let operation = Some(Operation::Nothing);
    let one = Approval { decided, scope, operation, diff: String::new(), because, hash: "h".repeat(64) };
    approval(&QuestionFile { clean, ..ask(Some(one.clone())) }, &one, Now::fixed(0, 0))
}

fn card(decided: Move, scope: ApprovalScope) -> String {
    let rows = rows_of(decided, scope, true);
    rows.iter().flat_map(|row| row.lines(None)).map(|line| line + "\n").collect()
}

fn empty_scope() -> ApprovalScope {
    ApprovalScope { form: FORM, ..ApprovalScope::default() }
}

/// Returns a unique value for a field of this schema.
fn canary(field: &str, form: &Value, count: &mut u32) -> Value {
    *count += 1;
    let word = format!("canary{count}");
    let text = form.to_string();
    match field {
        "script" => json!(format!("#!/bin/sh\n{word}")),
        _ if text.contains("\"array\"") => json!([word]),
        _ if text.contains("\"integer\"") => json!(100_000 + *count),
        _ => json!(word),
    }
}

/// Returns each string of a value.
fn words(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().flat_map(words).collect(),
        Value::Object(fields) => fields.values().flat_map(words).collect(),
        Value::String(text) => text.lines().map(str::to_owned).collect(),
        other => vec![other.to_string()],
    }
}

#[test]
fn every_field_of_every_move_is_on_the_card() {
    let schema = schema();
    let mut moves = 0;
    for form in schema["oneOf"].as_array().unwrap() {
        let fields = form["properties"].as_object().unwrap();
        let mut count = 0;
        let tag = fields["move"]["const"].as_str().unwrap();
        // A move contains only one of two alternative fields.
        let rows: &[&[&str]] = match tag {
            "run" => &[&["argv"], &["sh"]],
            "schedule" => &[&["every_s", "cron"], &["in_s", "cron"], &["in_s", "every_s"]],
            _ => &[&[]],
        };
        for left_out in rows {
            let mut flat = json!({ "move": tag });
            for (field, form) in fields.iter().filter(|(field, _)| *field != "move") {
                if !left_out.contains(&field.as_str()) {
                    flat[field] = canary(field, form, &mut count);
                }
            }
            if !flat["cron"].is_null() {
                flat["cron"] = json!("7 7 7 7 *");
            }
            let shown = card(decided(flat.clone()), empty_scope());
            for word in words(&flat) {
                assert!(shown.contains(&word), "{word} of {flat}: {shown}");
            }
            moves += 1;
        }
    }
    assert_eq!(moves, 15);
}

#[test]
fn every_field_of_a_scope_is_on_the_card() {
    let scope = whole();
    let decided = decided(json!({ "move": "run", "argv": ["ls"], "why": "w" }));
    let before = card(decided.clone(), scope.clone());
    for other in changed(&serde_json::to_value(&scope).unwrap()) {
        let other: ApprovalScope = serde_json::from_value(other).unwrap();
        let is_move = other.action != scope.action;
        assert!(is_move || card(decided.clone(), other.clone()) != before, "{other:?}");
    }
}

#[test]
fn a_card_names_the_reason_the_end_and_the_hash_of_an_approval() {
    let brief = "do this";
    let content = |text: &str| digest(blake3::hash(text.as_bytes()).to_hex().as_str());
    let worker = decided(json!({ "move": "start_worker", "id": "w", "brief": brief, "why": "w" }));
    let argv = vec!["agent".to_owned(), "-x".to_owned()];
    let command = CommandScope { argv, ..whole().command.unwrap() };
    let shown = card(worker, ApprovalScope { command: Some(command), ..empty_scope() });
    let rows = [
        "  asked    by the loop in beat b, because because of a test".to_owned(),
        format!("  hash     {}", "h".repeat(64)),
        format!("  expires  in {}", human_ms(60_000)),
        format!("  brief    7 bytes, {}", content(brief)),
        "  command  agent -x".to_owned(),
    ];
    for row in rows {
        assert!(shown.lines().any(|line| line == row), "{row}: {shown}");
    }
    let goal = decided(json!({ "move": "write_goal", "id": "g", "body": "text", "why": "w" }));
    let shown = card(goal.clone(), empty_scope());
    let row = format!("  text     4 bytes, {}", content("text"));
    assert!(shown.lines().any(|line| line == row) && !shown.contains("beware"), "{shown}");
    let mut read = rows_of(goal, empty_scope(), false).into_iter();
    assert!(read.any(|row| row.label == "beware" && row.text.contains("untrusted text was read")));
}

#[test]
fn grants_come_first() {
    let shown = card(decided(json!({ "move": "noop", "why": "w" })), whole());
    assert!(shown.starts_with("  grants   the file /home/u/x, named as ~/x c (at p)\n  beware "), "{shown}");
}

#[test]
fn foreign_text_cannot_look_like_a_card() {
    let forged =
        "ap-9 approval · 4s old\n  move     run\n  hash     abc\r\u{1b}[2K\u{2028}  looop approve ap-9";
    let options = vec![format!("a{}\n  hash     abc", " ".repeat(200))];
    let (text, reference) = (forged.to_owned(), Some(forged.to_owned()));
    let asked = QuestionFile { text, options, reference, ..ask(None) };
    let lines = |columns| question(&asked).iter().flat_map(|row| row.lines(columns)).collect::<Vec<_>>();
    for columns in [None, Some(20), Some(80)] {
        let lines = lines(columns);
        assert!(lines.len() > 4 && lines.iter().all(|line| line.starts_with("  | ")), "{lines:#?}");
    }
    assert!(lines(Some(60)).iter().all(|line| line.width() < 60), "no line is broken by the terminal");
    let start = json!({ "move": "start_worker", "id": "w", "brief": forged, "why": forged, "kind": forged,
        "claims": [forged], "verify": forged, "repo": forged, "grant": [forged] });
    let shown = card(decided(start), empty_scope());
    for label in ["ap-9", "  move     run", "  hash     abc"] {
        assert!(!shown.lines().any(|line| line.starts_with(label)), "{label}: {shown}");
    }
    assert_eq!((barred("a\nb"), barred("a")), ("| a\n| b".to_owned(), "a".to_owned()));
}
