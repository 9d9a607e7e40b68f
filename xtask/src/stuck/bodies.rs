//! Pure. Texts that scripted agents write: bodies of functions that are wrong in many ways, and events of a call.

use fastrand::Rng;

use serde_json::json;

use super::project::Function;

/// How many ways there are to write a function that differ.
pub const WAYS: usize = 10;
const WORDS: [&str; 12] = [
    "value", "result", "sum", "out", "current", "answer", "amount", "acc", "first", "total", "item", "level",
];
const REMARKS: [&str; 6] = [
    "try this",
    "adjusted once more",
    "the offset was wrong",
    "should be right now",
    "handle the edge",
    "as the check wants it",
];

/// A number that no check expects.
pub fn off(rng: &mut Rng) -> usize {
    rng.usize(20_000..90_000)
}

fn word(rng: &mut Rng) -> &'static str {
    rng.choice(WORDS).unwrap_or("value")
}

/// What stands there with another number, name or remark.
pub fn tweaked(rng: &mut Rng, function: &Function) -> Vec<String> {
    let expression = match rng.usize(0..3) {
        0 => format!("{} + {}", function.stands, off(rng)),
        1 => format!("{} + {}", function.right, off(rng)),
        _ => format!("{} + {}", off(rng), function.stands),
    };
    reworded(rng, &expression)
}

/// A body that prints this expression.
pub fn reworded(rng: &mut Rng, expression: &str) -> Vec<String> {
    let name = word(rng);
    let remark = rng.choice(REMARKS).unwrap_or_default();
    match rng.usize(0..4) {
        0 => vec![format!("echo $(({expression}))")],
        1 => vec![format!("echo $(({expression})) # {remark}")],
        2 => vec![format!("{name}=$(({expression}))"), format!("echo \"${name}\"")],
        _ => vec![format!("# {remark}"), format!("printf '%s\\n' \"$(({expression}))\"")],
    }
}

/// One of the ways, with names and numbers of its own. None of them is right.
pub fn way(rng: &mut Rng, which: usize) -> Vec<String> {
    let (one, k) = (word(rng), off(rng));
    let other = format!("{}_{}", word(rng), rng.usize(1..9));
    let text = match which % WAYS {
        0 => format!(
            "{one}={k}\n{other}=0\nwhile [ \"${other}\" -lt \"$2\" ]; do\n    {one}=$(({one} + $1))\n    {other}=$(({other} + 1))\ndone\necho \"${one}\""
        ),
        1 => format!(
            "awk -v left=\"$1\" -v right=\"$2\" 'BEGIN {{ print int(left * {k} / (right + 1)) + {k} }}'"
        ),
        2 => format!(
            "case \"$1:$2\" in\n*:0) echo {k} ;;\n[1-5]*) echo {} ;;\n*) echo {} ;;\nesac",
            k + 7,
            k + 19
        ),
        3 => format!("expr \"$1\" \\* {k} + \"$2\""),
        4 => format!(
            "set -- \"$@\" {k}\n{one}=0\nfor {other} in \"$@\"; do\n    {one}=$(({one} + {other}))\ndone\nprintf '%d\\n' \"${one}\""
        ),
        5 => "seq \"$1\" 99999 | sed -n \"$2{s/^/9000/;p;q;}\" | tr -d ' '".to_owned(),
        6 => format!(
            "if [ \"$1\" -gt \"$2\" ]; then\n    echo $(($1 + {k}))\nelif [ \"$1\" -eq \"$2\" ]; then\n    echo {k}\nelse\n    echo $(({k} - $2))\nfi"
        ),
        7 => format!(
            "{one}=$1\nuntil [ \"${{#{one}}}\" -ge 6 ]; do\n    {one}=\"${{{one}}}$2\"\ndone\nprintf '%s\\n' \"${one}\""
        ),
        8 => format!(
            "printf '%s %s\\n' \"$1\" \"$2\" | while read -r {one} {other}; do\n    echo \"$(({other} * {k} + {one}))\"\ndone"
        ),
        _ => format!("echo \"$1 $2 {k} * + p\" | tr ' ' '\\n' | sort -n | tail -n 1 | cut -c1-6"),
    };
    text.lines().map(str::to_owned).collect()
}

/// What is put on top of each file: code, or words.
pub fn header(rng: &mut Rng) -> String {
    let number = rng.usize(1..90);
    match rng.usize(0..4) {
        0 => format!("LIMIT={number}"),
        1 => format!("[ -n \"$RATE\" ] || RATE={number}"),
        2 => format!("# Part of the shop, revision {number}."),
        _ => format!("trace() {{\n    [ -z \"$TRACE\" ] || echo \"$1 {number}\" >&2\n}}"),
    }
}

/// A command of an agent and what it printed, as events.
pub fn event(id: &str, command: &str, output: &str) -> String {
    let used = json!({ "type": "tool_use", "id": id, "name": "Bash", "input": { "command": command } });
    let outcome = json!({ "type": "tool_result", "tool_use_id": id, "content": output });
    let of = |kind: &str, part: serde_json::Value| json!({ "type": kind, "message": { "content": [part] } });
    format!("{}\n{}\n", of("assistant", used), of("user", outcome))
}

/// The end of a call, as an event.
pub fn result(text: &str) -> String {
    format!("{}\n", json!({ "type": "result", "result": text }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::seeded;

    #[test]
    fn ways_differ_and_numbers_are_off() {
        let mut rng = seeded(1, "ways");
        let all: std::collections::BTreeSet<Vec<String>> = (0..WAYS).map(|at| way(&mut rng, at)).collect();
        assert_eq!(all.len(), WAYS);
        assert!((0..100).all(|_| off(&mut rng) >= 20_000));
    }
}
