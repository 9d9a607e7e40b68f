//! Tests of the configuration from the config file and the environment.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::rules::beat::settings::{FreeMove, WorkerRunner};

/// A config file in its own directory, and an environment that names it.
fn env_with(text: Option<&str>, vars: &[(&str, &str)]) -> (tempfile::TempDir, Env) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("looop.json");
    if let Some(text) = text {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
    let mut all: BTreeMap<String, String> =
        vars.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    all.entry("LOOOP_CONFIG".to_owned()).or_insert(path.display().to_string());
    let home = dir.path().join("home");
    let env = Env {
        vars: all,
        cwd: dir.path().to_owned(),
        is_dir_gone: false,
        config_dir: home.join(".config"),
        state_dir: home.join(".local/state"),
        cache_dir: home.join(".cache"),
        home,
    };
    (dir, env)
}

fn loaded(text: &str, vars: &[(&str, &str)]) -> Config {
    let (_dir, env) = env_with(Some(text), vars);
    load(&env).unwrap()
}

fn error(text: &str, vars: &[(&str, &str)]) -> Fault {
    let (_dir, env) = env_with(Some(text), vars);
    load(&env).unwrap_err().downcast().unwrap()
}

#[test]
fn without_a_file_everything_has_its_default() {
    let (_dir, env) = env_with(None, &[("PATH", "/a:/b")]);
    let none = load(&env).unwrap();
    let empty = loaded("{}", &[("PATH", "/a:/b")]);
    for config in [none, empty] {
        assert_eq!((config.interval_ms, config.decide.as_str()), (60_000, "pi"));
        assert_eq!(config.settings.limits, Limits::default());
        assert_eq!((config.settings.path.as_str(), config.settings.budget.day_micros), ("/a:/b", None));
        assert!(config.settings.rules.allow.is_empty() && config.warnings.is_empty());
    }
}

/// An example with every key.
const EXAMPLE: &str = r#"{
  "$schema": "./looop.schema.json",
  "interval": "90s",  "path": "/usr/local/bin:/usr/bin:/bin",
  "decide": "mine",   "worker": "claude",
  "runners": {
    "mine":   { "decide": ["sh", "decide.sh"], "worker": ["sh", "work.sh", "{brief}"], "format": "text", "env": ["MY_TOKEN"], "transient": "rate.?limit|5[0-9][0-9]" },
    "claude": { "model": "sonnet", "effort": "low" },
    "local":  { "http": "openai", "base_url": "http://127.0.0.1:8080/v1", "model": "qwen3", "health": "/health" }
  },
  "limits":  { "decides_per_hour": 12, "workers": 3, "sensor_timeout": "61s", "decide_timeout": "11m", "run_timeout": "9m", "noop_ttl": "7h", "approval_ttl": "2d", "worker_idle": "15m", "worker_wall": "12h" },
  "budget":  { "day_usd": 20.5, "goal_usd": null, "worker_usd": 5 },
  "policy":  { "allow": [ { "argv": ["gh", "pr", "list"], "cwd": ["~/src/app"] } ], "free_moves": ["write_sensor", "write_playbook"] },
  "verify":  { "tests": ["cargo", "test"] },
  "sandbox": { "decide": "auto", "sensor": "auto", "run": "none", "verify": "auto", "worker": "auto" },
  "notify":  ["ntfy", "publish", "looop"]
}"#;

#[test]
fn every_key_of_the_contract_is_read() {
    let (dir, env) = env_with(Some(EXAMPLE), &[]);
    let config = load(&env).unwrap();
    let limits = Limits {
        decides_per_hour: 12,
        workers: 3,
        sensor_timeout_ms: 61_000,
        decide_timeout_ms: 660_000,
        run_timeout_ms: 540_000,
        noop_ttl_ms: Some(25_200_000),
        approval_ttl_ms: 172_800_000,
    };
    assert_eq!((config.interval_ms, &config.settings.limits), (90_000, &limits));
    assert_eq!(config.settings.budget.day_micros, Some(20_500_000));
    let rules = &config.settings.rules;
    assert_eq!(rules.allow[0].cwd, [dir.path().join("home/src/app")]);
    assert_eq!(rules.free_moves, [FreeMove::WriteSensor, FreeMove::WritePlaybook]);
    let decider = config.decider().unwrap();
    assert_eq!((decider.name(), decider.program()), ("mine", "sh"));
}

#[test]
fn null_is_not_absence() {
    assert_eq!(loaded(r#"{"limits":{"noop_ttl":null}}"#, &[]).settings.limits.noop_ttl_ms, None);
    assert_eq!(loaded(r#"{"limits":{}}"#, &[]).settings.limits.noop_ttl_ms, Some(21_600_000));
    assert_eq!(loaded(r#"{"budget":{"day_usd":null}}"#, &[]).settings.budget.day_micros, None);
    assert_eq!(loaded(r#"{"budget":{"day_usd":0}}"#, &[]).settings.budget.day_micros, Some(0));
}

#[test]
fn the_environment_overrides_the_file() {
    let text = r#"{"interval":"30s","decide":"a"}"#;
    let config = loaded(text, &[("LOOOP_INTERVAL", "5s"), ("LOOOP_DECIDE", "b")]);
    assert_eq!((config.interval_ms, config.decide.as_str()), (5_000, "b"));
    // An empty variable counts as unset.
    let config = loaded(text, &[("LOOOP_INTERVAL", ""), ("LOOOP_DECIDE", "")]);
    assert_eq!((config.interval_ms, config.decide.as_str()), (30_000, "a"));
    for short in ["0s", "999ms"] {
        let config = loaded("{}", &[("LOOOP_INTERVAL", short)]);
        assert_eq!((config.interval_ms, config.warnings.len()), (1_000, 1));
    }
    let fault = error("{}", &[("LOOOP_INTERVAL", "1 minute")]);
    let why = "could not read LOOOP_INTERVAL: `1 minute` is not a duration; write it as 90s, 15m, 12h or 2d";
    assert_eq!(fault.what, why);
}

#[test]
fn an_error_names_the_place_and_the_nearest_key() {
    let allow = |rules: &str| format!(r#"{{"policy":{{"allow":[{rules}]}}}}"#);
    let rows: [(&str, &str, &str); 16] = [
        ("{\n \"intervall\": \"1s\"}", ":2:12: `intervall` is not a key here", "did you mean `interval`?"),
        (r#"{"limits":{"noop_tll":"1s"}}"#, "`noop_tll` is not a key here", "did you mean `noop_ttl`?"),
        (r#"{"runners":{"a":{"bade_url":"x"}}}"#, "`bade_url` is not a key here", "did you mean `base_url`?"),
        (r#"{"policy":{"alow":[]}}"#, "`alow` is not a key here", "did you mean `allow`?"),
        (&allow(r#"{"argv":[],"dir":[]}"#), "`dir` is not a key here", "Keys here are: argv, cwd"),
        (r#"{"sandbox":{"sensors":"auto"}}"#, "`sensors` is not a key here", "did you mean `sensor`?"),
        (&allow(r#"{"cwd":[]}"#), "missing field `argv`", ""),
        (r#"{"limits":{"workers":1.5}}"#, "1.5", ""),
        (r#"{"interval":"1w"}"#, "`1w` is not a duration", ""),
        (&allow(r#"{"argv":[]}"#), "policy.allow[0].argv: it names no program", ""),
        (&allow(r#"{"argv":["a"]},{"argv":["**","b"]}"#), "policy.allow[1].argv: `**` matches", ""),
        (&allow(r#"{"argv":["git","lo*"]}"#), "policy.allow[0].argv: \"lo*\" is not a pattern", ""),
        (&allow(r#"{"argv":["ls"],"cwd":["~/src/*"]}"#), "policy.allow[0].cwd: \"~/src/*\"", ""),
        (r#"{"budget":{"day_usd":1e10}}"#, "budget.day_usd is 10000000000", ""),
        (r#"{"interval":"1s","interval":"2s"}"#, "duplicate field `interval`", ""),
        ("[]", ":1:1: it is not a JSON object", ""),
    ];
    for (text, what, hint) in rows {
        let fault = error(text, &[]);
        assert!(fault.what.contains(what) && fault.what.contains("looop.json"), "{text}: {fault}");
        assert!(fault.hints.join("\n").contains(hint), "{text}: {:?}", fault.hints);
        assert_eq!(fault.kind.exit_code(), 2);
    }
}

#[test]
fn sandboxes_are_read_with_their_network() {
    use crate::rules::sandbox::{NetworkAccess, SandboxMode, SandboxRequest, SandboxSubject};
    let config = loaded(
        r#"{"sandbox":{"worker":"full","run":"none","network":{"worker":[443,53],"sensor":"off"},"read":["/srv/data"]}}"#,
        &[],
    );
    let sandboxes = &config.settings.sandbox;
    for (kind, mode, net) in [
        (SandboxSubject::Worker, SandboxMode::Full, NetworkAccess::Ports(vec![443, 53])),
        (SandboxSubject::Run, SandboxMode::None, NetworkAccess::Auto),
        (SandboxSubject::Sensor, SandboxMode::Auto, NetworkAccess::Off),
        (SandboxSubject::Verify, SandboxMode::Auto, NetworkAccess::Auto),
    ] {
        assert_eq!(sandboxes.request(kind), SandboxRequest { mode, net }, "{kind:?}");
    }
    assert_eq!(sandboxes.read, [Path::new("/srv/data")]);
    for (text, what) in [
        (r#"{"sandbox":{"worker":"none","network":{"worker":"off"}}}"#, "sandbox.network.worker"),
        (r#"{"sandbox":{"read":["data"]}}"#, "sandbox.read"),
        (r#"{"sandbox":{"write":["/a/../b"]}}"#, "sandbox.write"),
        (r#"{"runners":{"pi":{"write":["x"]}}}"#, "runners.pi.write"),
    ] {
        assert!(error(text, &[]).what.contains(what), "{text}");
    }
}

#[test]
fn a_built_in_worker_takes_a_model_and_an_effort_and_more_variables() {
    let text = r#"{"runners":{"claude":{"model":"m","effort":"low","env":["A"]},"pi":{"effort":"high"}}}"#;
    let config = loaded(text, &[]);
    let workers = &config.settings.workers;
    let (_, claude) = workers.runner(None).unwrap();
    assert_eq!(claude.argv[..5], ["claude", "--model", "m", "--effort", "low"]);
    assert!(claude.env.contains(&"A".to_owned()) && claude.env.contains(&"ANTHROPIC_API_KEY".to_owned()));
    let (_, pi) = workers.runner(Some("pi")).unwrap();
    assert_eq!(
        pi.argv[..7],
        ["pi", "--thinking", "high", "--session-id", "{session}", "--extension", "{status}"]
    );
    assert_eq!(pi.resume[..5], ["pi", "--thinking", "high", "--session-id", "{session}"]);
    assert!(config.warnings.is_empty());
    let config = loaded(r#"{"runners":{"qwen":{"effort":"low"},"gemini":{"effort":"low"}}}"#, &[]);
    assert!(config.warnings[0].contains("gemini has no such option") && config.warnings.len() == 2);
    let notified =
        |runners: &BTreeMap<String, WorkerRunner>| runners["qwen"].argv.contains(&"low".to_owned());
    assert!(!notified(&config.settings.workers.runners) && !notified(&config.settings.fixes.runners));
}

#[test]
fn a_worker_command_without_the_brief_is_refused() {
    let fault = error(r#"{"runners":{"mine":{"worker":["sh","work.sh"]}}}"#, &[]);
    let is_named = fault.what.contains("runners.mine.worker has no `{brief}`");
    assert!(is_named && !fault.hints.is_empty(), "{fault}");
}

#[test]
fn a_decider_is_found_or_the_error_lists_the_choices() {
    let program = |text: &str| loaded(text, &[]).decider().unwrap().program().to_owned();
    let own = r#"{"decide":"pi","runners":{"pi":{"decide":["mypi"]}}}"#;
    assert_eq!(program(own), "mypi", "one's own argv wins over the built-in one");
    assert_eq!(program(r#"{"runners":{"pi":{"model":"m"}}}"#), "pi");
    let rows = [
        (r#"{"decide":"nosuch"}"#, "could not find the runner `nosuch`"),
        (r#"{"decide":"e","runners":{"e":{"http":"openai","model":"m"}}}"#, "`http` needs a `base_url`"),
        (
            r#"{"decide":"e","runners":{"e":{"http":"openai","base_url":"x","model":"m"}}}"#,
            "is not an address",
        ),
        (
            r#"{"decide":"e","runners":{"e":{"http":"openai","base_url":"http://x"}}}"#,
            "`http` needs a `model`",
        ),
        (r#"{"decide":"pi","runners":{"pi":{"price":{"input":-1,"output":1}}}}"#, "runners.pi.price.input"),
        (r#"{"decide":"w","runners":{"w":{"worker":["x","{brief}"]}}}"#, "it has no `decide` command"),
        (r#"{"decide":"m","runners":{"m":{"decide":["x"],"transient":"("}}}"#, "runners.m.transient"),
    ];
    let Err(error) = loaded(r#"{"decide":"cluade"}"#, &[]).decider() else { panic!("there is none") };
    let hints = &error.downcast_ref::<Fault>().unwrap().hints;
    assert!(hints.contains(&"did you mean `claude`?".to_owned()), "{hints:?}");
    for (text, what) in rows {
        let Err(error) = loaded(text, &[]).decider() else { panic!("{text}") };
        assert!(error.to_string().contains(what), "{text}: {error}");
    }
}

#[test]
fn children_get_only_the_listed_variables() {
    let vars = [("HOME", "/h"), ("LANG", "C"), ("SECRET", "s"), ("LOOOP_INTERVAL", "5s"), ("PATH", "/env")];
    let config = loaded(r#"{"path":"/file"}"#, &vars);
    let keys: Vec<&str> = config.settings.base_env.iter().map(|(key, _)| key.as_str()).collect();
    let has = ["HOME", "SECRET", "LOOOP_INTERVAL"].map(|key| keys.contains(&key));
    assert_eq!(has, [true, false, false], "{keys:?}");
    let value = |key: &str| config.settings.base_env.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
    assert_eq!((value("PATH"), value("GIT_CONFIG_KEY_1")), (Some("/file"), Some("core.hooksPath")));
    let is_kept = config.settings.full_env.iter().any(|(key, _)| key == "SECRET");
    assert!(is_kept, "for those that ask for it by name");
    assert!(config.settings.protected.contains(&config.path));
}

#[test]
fn paths_are_absolute_and_the_user_name_is_safe_for_git() {
    let (dir, env) = env_with(None, &[("LOOOP_DATA_DIR", "data"), ("USER", "Ada <x@y>\n")]);
    assert_eq!(env.layout().root(), dir.path().join("data"));
    assert_eq!(env.user_name(), "Ada xy");
    let (dir, env) =
        env_with(None, &[("LOOOP_DATA_DIR", "~/state"), ("USER", "<>"), ("LOOOP_CONFIG", "~/c.json")]);
    assert_eq!(env.layout().root(), dir.path().join("home/state"));
    assert_eq!((env.user_name().as_str(), env.config_path()), ("human", dir.path().join("home/c.json")));
    let (_, env) = env_with(None, &[]);
    let (_, other) = env_with(None, &[]);
    assert!(env.layout().root().ends_with(".local/state/looop"));
    assert_ne!(env.layout().cache(), other.layout().cache(), "profiles of one name do not share a cache");
}

#[test]
fn a_runner_whose_program_gets_its_address_in_a_variable_has_that_endpoint() {
    let vars = [("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1"), ("OTHER_BASE_URL", "http://127.0.0.1:9")];
    let text = r#"{"runners":{
        "mine":{"worker":["x","{brief}"],"env":["A","OPENAI_BASE_URL"]},
        "said":{"worker":["x","{brief}"],"env":["OPENAI_BASE_URL"],"base_url":"http://127.0.0.1:1"},
        "none":{"worker":["x","{brief}"]}}}"#;
    let sandboxes = loaded(text, &vars).settings.sandbox;
    let port = |name: &str| sandboxes.endpoint(&[name]).map(|endpoint| endpoint.port);
    assert_eq!((port("mine"), port("said"), port("none")), (Some(8080), Some(1), None));
    assert_eq!(port("codex"), Some(8080));
}

#[test]
fn a_program_that_works_is_refused_where_its_key_comes_from_a_command() {
    let text = r#"{"runners":{
        "claude":{"token_cmd":["pass"],"key_env":"ANTHROPIC_API_KEY"},
        "mine":{"worker":["x","{brief}"],"token_cmd":["pass"],"key_env":"K"},
        "plain":{"worker":["x","{brief}"]},
        "api":{"http":"openai","base_url":"http://x","model":"m","token_cmd":["pass"]}}}"#;
    let config = loaded(text, &[]);
    for name in ["claude", "mine"] {
        let why = config.settings.workers.runner(Some(name)).unwrap_err();
        assert!(why.contains(&format!("runners.{name}.token_cmd works for a runner that decides")), "{why}");
        assert!(config.settings.fixes.runners[name].check_key(name).is_err(), "{name}");
    }
    assert!(config.settings.workers.runner(Some("plain")).is_ok());
    assert!(config.decider_named("claude").is_ok(), "it decides");
    assert_eq!(config.endpoints().unwrap().len(), 1, "an endpoint fixes");
}
