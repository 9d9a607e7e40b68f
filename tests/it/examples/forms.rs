//! What the servers answer, in the shape in which it was recorded.

use serde_json::{Value, json};

/// One thing of a world: what names it, what is told of it, and what moves by itself.
pub struct Item<'a> {
    /// Its number.
    pub id: usize,
    /// Its name, where such a thing has one.
    pub name: &'a str,
    /// Its title, body or message.
    pub says: &'a str,
    /// A time of it, or a value.
    pub moves: &'a str,
}

/// The answer for an example, about these things.
pub fn body(example: &str, items: &[Item]) -> String {
    let all = |form: fn(&Item) -> Value| items.iter().map(form).collect::<Vec<Value>>();
    match example {
        "github-prs" | "github-issues" => {
            json!({ "total_count": items.len(), "incomplete_results": false, "items": all(found) })
                .to_string()
        }
        "github-ci" => json!({ "total_count": items.len(), "workflow_runs": all(run) }).to_string(),
        "github-comments" => {
            let page = json!({ "hasNextPage": false });
            json!({ "data": { "search": { "nodes": all(reviewed), "pageInfo": page } } }).to_string()
        }
        "linear" => {
            json!({ "data": { "viewer": { "assignedIssues": { "nodes": all(linear) } } } }).to_string()
        }
        "grafana-alerts" => json!(all(alert)).to_string(),
        "prometheus" => {
            json!({ "status": "success", "data": { "resultType": "vector", "result": all(series) } })
                .to_string()
        }
        "kubernetes-pods" => {
            json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": all(pod) }).to_string()
        }
        "rss" => feed(items),
        other => panic!("no form for {other}"),
    }
}

fn found(item: &Item) -> Value {
    json!({
        "number": item.id, "title": item.says, "user": { "login": item.name }, "draft": false, "state": "open",
        "repository_url": format!("https://api.github.com/repos/{}/app", item.name),
        "html_url": "https://github.com/o/app/pull/1", "updated_at": item.moves, "labels": [{ "name": "bug" }],
    })
}

fn run(item: &Item) -> Value {
    json!({
        "name": item.name, "run_number": item.id, "status": "completed", "conclusion": "failure",
        "display_title": item.says, "head_sha": "0123456789abcdef0123", "created_at": item.moves,
        "html_url": "https://github.com/o/app/actions/runs/1",
    })
}

fn reviewed(item: &Item) -> Value {
    let comment = json!({ "body": item.says, "createdAt": item.moves, "author": { "login": item.name } });
    let thread = json!({ "isResolved": false, "path": "src/a.rs", "comments": { "totalCount": 2, "nodes": [comment] } });
    let done = json!({ "isResolved": true, "path": "b", "comments": { "totalCount": 9, "nodes": [] } });
    json!({
        "number": item.id, "title": "t", "url": "https://github.com/o/app/pull/1",
        "reviewDecision": "CHANGES_REQUESTED", "repository": { "nameWithOwner": item.name },
        "reviewThreads": { "nodes": [thread, done] },
    })
}

fn linear(item: &Item) -> Value {
    json!({
        "identifier": format!("{}-{}", item.name, item.id), "title": item.says, "url": "https://linear.app/x",
        "priority": 2, "dueDate": null, "updatedAt": item.moves, "state": { "name": "In Progress" },
    })
}

fn alert(item: &Item) -> Value {
    json!({
        "labels": { "alertname": item.name, "severity": "critical", "instance": item.says },
        "annotations": { "summary": item.says }, "startsAt": item.moves, "status": { "state": "active" },
        "fingerprint": format!("{:016x}", item.id), "generatorURL": "http://grafana/alerting/1",
    })
}

fn series(item: &Item) -> Value {
    json!({
        "metric": { "__name__": "up", "job": item.name, "id": item.id.to_string() },
        "value": [1_700_000_000.5, item.moves],
    })
}

fn pod(item: &Item) -> Value {
    let waiting = json!({ "waiting": { "reason": "CrashLoopBackOff", "message": item.says } });
    let container = json!({
        "restartCount": item.moves.len(), "state": waiting, "lastState": { "terminated": { "exitCode": 1 } },
    });
    json!({
        "metadata": {
            "namespace": "default", "name": format!("{}-{}", item.name, item.id),
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": { "nodeName": "n1" },
        "status": {
            "phase": "Running", "containerStatuses": [container],
            "conditions": [{ "type": "Ready", "status": "False", "message": item.moves }],
        },
    })
}

fn feed(items: &[Item]) -> String {
    let escape = |text: &str| {
        // Of control characters XML can hold only these.
        let text: String =
            text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\u{7f}' | '\u{85}')).collect();
        text.replace('&', "&amp;").replace('<', "&lt;")
    };
    let entries: Vec<String> = items
        .iter()
        .map(|item| {
            format!(
                "<item><title>{}</title><link>https://example.org/{}</link><guid>{}-{}</guid><pubDate>{}</pubDate></item>",
                escape(item.says), item.id, escape(item.name), item.id, escape(item.moves)
            )
        })
        .collect();
    let entries = entries.concat();
    format!(
        "<?xml version=\"1.0\"?>\n<rss version=\"2.0\"><channel><title>x</title>{entries}</channel></rss>"
    )
}
