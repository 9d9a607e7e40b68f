//! The sensors that ask a server: `gh`, `kubectl`, `curl` and Python's client, against a server on the loopback.

use serde_json::{Value, json};

use super::forms::{Item, body};
use super::{Bench, HOSTILE, TOOLS, has};
use crate::support::web::{Answer, Web};

/// An example that asks a server, what its client is, and what it reads of one thing named `o/app`.
pub struct Asker {
    pub name: &'static str,
    tool: &'static str,
    signal: Value,
}

/// All of them.
pub fn askers() -> Vec<Asker> {
    let row = |name, tool, signal| Asker { name, tool, signal };
    vec![
        row("github-prs", "gh", json!({ "count": 1, "waiting": ["o/app#7"] })),
        row("github-issues", "gh", json!({ "bug": { "count": 1, "newest": [7] } })),
        row("github-ci", "gh", json!({ "last": { "o": "failure" } })),
        row(
            "github-comments",
            "gh",
            json!({ "o#7": { "review": "CHANGES_REQUESTED", "open_threads": 1, "comments": 2 } }),
        ),
        row("linear", "curl", json!({ "o-7": { "state": "In Progress", "priority": "2", "due": "" } })),
        row("grafana-alerts", "curl", json!({ "count": 1, "firing": { "o": 1 } })),
        row("prometheus", "curl", json!({ "count": 1, "series": ["__name__=up id=7 job=o"] })),
        row("kubernetes-pods", "kubectl", json!({ "ill": 1, "pods": { "default/o-7": "crashing" } })),
        row("rss", "python3", Value::Null),
    ]
}

impl Asker {
    /// False, and it is said, where the client is not there.
    fn is_ready(&self) -> bool {
        has(self.tool) && has("jq")
    }

    /// The settings that lead it to the server.
    pub fn settings(&self, web: &Web) -> Vec<(&'static str, String)> {
        match self.name {
            "github-issues" | "github-ci" => vec![("REPO", "o/app".to_owned())],
            "linear" => vec![("URL", format!("{}/graphql", web.url()))],
            "grafana-alerts" | "prometheus" => vec![("URL", web.url())],
            "rss" => vec![("FEEDS", format!("{}/feed", web.url()))],
            _ => Vec::new(),
        }
    }

    /// The variables that it gets; a kubeconfig is written to this file.
    pub fn vars(&self, web: &Web, kubeconfig: &std::path::Path) -> Vec<(&'static str, String)> {
        let cluster = json!({ "name": "c", "cluster": { "server": web.url() } });
        let context = json!({ "name": "c", "context": { "cluster": "c", "user": "u" } });
        let user = json!({ "name": "u", "user": { "token": "k8s-s3cret" } });
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "clusters": [cluster], "contexts": [context], "users": [user],
            "current-context": "c",
        });
        let own = |text: &str| text.to_owned();
        match self.name {
            // gh speaks plain HTTP with a host of this name alone, and finds it by the proxy.
            name if name.starts_with("github") => vec![
                ("GH_HOST", own("github.localhost")),
                ("HTTP_PROXY", web.url()),
                ("GH_TOKEN", own("gh-s3cret")),
            ],
            "kubernetes-pods" => {
                std::fs::write(kubeconfig, config.to_string()).unwrap();
                vec![("KUBECONFIG", own(kubeconfig.to_str().unwrap()))]
            }
            "linear" => vec![("LINEAR_API_KEY", own("lin-s3cret"))],
            "grafana-alerts" => vec![("GRAFANA_TOKEN", own("gra-s3cret"))],
            "prometheus" => vec![("PROMETHEUS_TOKEN", own("pro-s3cret"))],
            _ => Vec::new(),
        }
    }

    fn bench(&self, web: &Web) -> Bench {
        let settings = self.settings(web);
        let settings: Vec<(&str, &str)> = settings.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let mut bench = Bench::new(self.name, &settings);
        for (key, value) in self.vars(web, &bench.path("kubeconfig")) {
            bench.var(key, &value);
        }
        bench
    }

    /// What the server says about these things.
    pub fn page(&self, items: &[Item]) -> Answer {
        Answer::Page(200, body(self.name, items))
    }
}

fn item<'a>(says: &'a str, moves: &'a str) -> Item<'a> {
    Item { id: 7, name: "o", says, moves }
}

/// Runs a check on each of them, side by side: most of their time they wait for a child.
fn each(check: impl Fn(&Asker, &Web, &Bench) + Sync) {
    let askers = askers();
    std::thread::scope(|scope| {
        for asker in askers.iter().filter(|asker| asker.is_ready()) {
            let check = &check;
            scope.spawn(move || {
                let web = Web::start(Answer::Hang);
                let bench = asker.bench(&web);
                check(asker, &web, &bench);
            });
        }
    });
}

#[test]
#[ignore = "slow"]
fn a_good_answer_is_a_reading_and_only_its_detail_moves() {
    each(|asker, web, bench| {
        web.answer(asker.page(&[item("the title", "2026-11-20T10:00:00Z")]));
        let first = bench.reads();
        if !asker.signal.is_null() {
            assert_eq!(first["signal"], asker.signal, "{}", asker.name);
        }
        web.answer(asker.page(&[item("another title", "2026-11-22T22:22:22Z!")]));
        let second = bench.reads();
        assert_eq!(first["signal"], second["signal"], "{}: nothing to think about", asker.name);
        assert_ne!(first["detail"], second["detail"], "{}: and all the same it is told", asker.name);
        web.answer(asker.page(&[item("the title", "t"), Item { id: 8, name: "p", says: "", moves: "" }]));
        assert_ne!(bench.reads()["signal"], first["signal"], "{}: one more is a change", asker.name);
        web.answer(asker.page(&[]));
        assert_ne!(bench.reads()["signal"], first["signal"], "{}: nothing is a reading, too", asker.name);
    });
}

#[test]
fn the_order_of_a_response_is_not_part_of_the_signal() {
    each(|asker, web, bench| {
        let item = |id| Item { id, name: "o", says: "x", moves: "t" };
        web.answer(asker.page(&[item(1), item(2), item(3)]));
        let first = bench.reads();
        web.answer(asker.page(&[item(3), item(1), item(2)]));
        assert_eq!(bench.reads()["signal"], first["signal"], "{}", asker.name);
    });
}

#[test]
#[ignore = "slow"]
fn an_error_is_an_error_whatever_it_looks_like() {
    let pages = [
        (401, "{\"message\":\"Bad credentials\"}"),
        (500, "[]"),
        (200, "<html><body>Sign in</body></html>"),
        (200, "{\"items\":[{\"number\":1,"),
        (200, "null"),
        (200, "{\"signal\":{\"forged\":1},\"detail\":{}}"),
        (200, "{\"errors\":[{\"message\":\"no\"}],\"data\":null}"),
        (200, "{\"status\":\"error\",\"error\":\"bad\u{0}\u{1}query\"}"),
        (200, ""),
    ];
    each(|asker, web, bench| {
        // It counts what the server says of itself, not only whether the page has the right form.
        let Answer::Page(_, good) = asker.page(&[item("t", "t")]) else { return };
        for (status, page) in pages.into_iter().chain([(503, good.as_str())]) {
            web.answer(Answer::Page(status, page.to_owned()));
            let printed = bench.fails();
            let printed = printed.to_lowercase();
            assert!(!printed.contains("s3cret"), "{}: {printed}", asker.name);
        }
    });
}

#[test]
#[ignore = "slow"]
fn hostile_text_stays_text_and_the_reading_stays_small() {
    let (long, many) = ("x\u{1}\"\n".repeat(60_000), HOSTILE.repeat(1_000_000 / HOSTILE.len()));
    each(|asker, web, bench| {
        let mut items = vec![Item { id: 0, name: &long, says: &many, moves: &long }];
        for id in 1..50 {
            items.push(Item { id, name: HOSTILE, says: HOSTILE, moves: HOSTILE });
        }
        web.answer(asker.page(&items));
        bench.reads();
        // Names that are all different, and as wide as they can be.
        let wide: Vec<String> =
            (0..100).map(|n| format!("{n:03}{}", "\"\u{1f600}\u{feff}".repeat(100))).collect();
        let items: Vec<Item> =
            wide.iter().enumerate().map(|(id, name)| Item { id, name, says: name, moves: name }).collect();
        web.answer(asker.page(&items));
        bench.reads();
    });
}

#[test]
fn an_answer_without_end_ends() {
    each(|asker, web, bench| {
        // gh and kubectl read what a server sends: looop's deadline is what ends them.
        if !matches!(asker.name, "linear" | "grafana-alerts" | "prometheus" | "kubernetes-pods" | "rss") {
            return;
        }
        web.answer(Answer::Endless);
        bench.fails();
        assert!(web.sent() < 200_000_000, "{}: {} bytes", asker.name, web.sent());
    });
}

#[test]
fn who_asks_says_who_it_is_and_the_secret_is_in_no_argument() {
    each(|asker, web, bench| {
        web.answer(asker.page(&[item("t", "t")]));
        bench.reads();
        let seen = web.seen().concat();
        // kubectl keeps its token to itself where the line is not encrypted, and a feed asks for none.
        if !matches!(asker.name, "rss" | "kubernetes-pods") {
            assert!(seen.contains("s3cret"), "{}: the token reached the server: {seen}", asker.name);
        }
        let script = std::fs::read_to_string(bench.path("script")).unwrap();
        assert!(!script.contains("s3cret"));
    });
}

#[test]
fn a_server_that_is_not_there_and_a_token_that_is_missing_are_reported() {
    each(|asker, web, _| {
        let gone = Web::start(Answer::Hang);
        let mut lost = asker.bench(&gone);
        drop(gone);
        lost.fails();
        let token = match asker.name {
            "linear" => "LINEAR_API_KEY",
            "grafana-alerts" => "GRAFANA_TOKEN",
            name if name.starts_with("github") => "GH_TOKEN",
            _ => return,
        };
        web.answer(asker.page(&[]));
        lost = asker.bench(web);
        lost.var(token, "");
        // gh without a token asks as nobody, where it asks at all.
        if let Err(printed) = lost.run() {
            assert!(printed.contains(token), "{}: {printed}", asker.name);
        } else {
            assert!(token == "GH_TOKEN", "{}", asker.name);
        }
    });
}

#[test]
fn a_needed_tool_that_is_missing_is_named() {
    let lacks = [
        ("gh", "github-prs github-issues github-ci github-comments"),
        ("curl", "linear grafana-alerts prometheus http-health"),
        ("kubectl", "kubernetes-pods"),
        ("jq", "webhook-inbox"),
        ("git", "git-repos"),
        ("systemctl", "systemd-units"),
    ];
    let rows = lacks.iter().flat_map(|(tool, names)| names.split(' ').map(move |name| (name, tool)));
    for (name, tool) in rows {
        let needed = ["REPO", "URL", "URLS"];
        let settings: Vec<(&str, &str)> =
            looop::rules::world::example::settings(looop::store::examples::find(name).unwrap())
                .iter()
                .filter(|setting| setting.needed)
                .map(|setting| (*needed.iter().find(|n| **n == setting.name).unwrap(), "x"))
                .collect();
        let mut bench = Bench::new(name, &settings);
        bench.only(TOOLS);
        assert!(bench.fails().contains(tool), "{name}");
    }
}
