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
    let text = r#"{"interval":"30s","decide":"codex"}"#;
    let config = loaded(text, &[("LOOOP_INTERVAL", "5s"), ("LOOOP_DECIDE", "b")]);
    assert_eq!((config.interval_ms, config.decide.as_str()), (5_000, "b"));
    // An empty variable counts as unset.
    let config = loaded(text, &[("LOOOP_INTERVAL", ""), ("LOOOP_DECIDE", "")]);
    assert_eq!((config.interval_ms, config.decide.as_str()), (30_000, "codex"));
    let config = loaded("{}", &[("LOOOP_INTERVAL", "999ms")]);
    assert_eq!((config.interval_ms, config.warnings.len()), (1_000, 1));
    assert!(error("{}", &[("LOOOP_INTERVAL", "0s")]).what.contains("LOOOP_INTERVAL: it is 0"));
    let fault = error("{}", &[("LOOOP_INTERVAL", "1 minute")]);
    let why = "could not read LOOOP_INTERVAL: `1 minute` is not a duration; write it as 90s, 15m, 12h or 2d";
    assert_eq!(fault.what, why);
}

#[test]
fn an_error_says_the_place_and_the_key_in_the_words_of_the_config() {
    let allow = |rules: &str| format!(r#"{{"policy":{{"allow":[{rules}]}}}}"#);
    let runner = |keys: &str| format!(r#"{{"runners":{{"x":{{{keys}}}}}}}"#);
    let rows: [(&str, &str, &str); 45] = [
        ("{\n \"intervall\": \"1s\"}", ":2:15: intervall is not a key here", "did you mean `interval`?"),
        (r#"{"limits":{"noop_tll":"1s"}}"#, "limits.noop_tll is not a key here", "did you mean `noop_ttl`?"),
        (&runner(r#""bade_url":"x""#), "runners.x.bade_url is not a key here", "did you mean `base_url`?"),
        (r#"{"policy":{"alow":[]}}"#, "policy.alow is not a key here", "did you mean `allow`?"),
        (
            &allow(r#"{"argv":["a"],"dir":[]}"#),
            "policy.allow[0].dir is not a key here",
            "Keys here are: argv, cwd",
        ),
        (r#"{"sandbox":{"sensors":"auto"}}"#, "sandbox.sensors is not a key here", "did you mean `sensor`?"),
        (&allow(r#"{"cwd":[]}"#), "policy.allow[0] lacks the key `argv`", ""),
        (
            r#"{"limits":{"workers":1.5}}"#,
            ":1:22: limits.workers is 1.5; expected a whole number from 0 on",
            "",
        ),
        (r#"{"limits":{"workers":-1}}"#, "limits.workers is -1; expected a whole number", ""),
        (r#"{"interval":"1w"}"#, "interval: `1w` is not a duration", ""),
        (r#"{"interval":60}"#, "interval is 60; expected a duration in quotes, as in \"90s\"", ""),
        (r#"{"budget":{"day_usd":"5"}}"#, "budget.day_usd is \"5\"; expected a number", ""),
        (r#"{"decide":5}"#, "decide is 5; expected a text in quotes", ""),
        (r#"{"fix":{"map":"yes"}}"#, "fix.map is \"yes\"; expected true or false", ""),
        (r#"{"notify":"ntfy"}"#, "notify is \"ntfy\"; expected a list", ""),
        (r#"{"runners":[]}"#, "runners is []; expected an object", ""),
        (r#"{"limits":5}"#, "limits is 5; expected an object", ""),
        (r#"{"verify":{"t":"cargo test"}}"#, "verify.t is \"cargo test\"; expected a command, as in", ""),
        (r#"{"objects":"some"}"#, "objects is \"some\"; expected", ""),
        (r#"{"sandbox":{"worker":3}}"#, "sandbox.worker is 3; expected a text in quotes", ""),
        (r#"{"sandbox":{"network":{"run":"x"}}}"#, "sandbox.network.run: a network is", ""),
        (&runner(r#""price":{"input":1}"#), "runners.x.price lacks the key `output`", ""),
        (&allow(r#"{"argv":[]}"#), "policy.allow[0].argv: it names no program", ""),
        (&allow(r#"{"argv":["a"]},{"argv":["**","b"]}"#), "policy.allow[1].argv: `**` matches", ""),
        (&allow(r#"{"argv":["git","lo*"]}"#), "policy.allow[0].argv: \"lo*\" is not a pattern", ""),
        (&allow(r#"{"argv":["ls"],"cwd":["~/src/*"]}"#), "policy.allow[0].cwd: \"~/src/*\"", ""),
        (r#"{"budget":{"day_usd":1e10}}"#, "budget.day_usd is 10000000000", ""),
        (r#"{"interval":"1s","interval":"2s"}"#, "interval is there twice", ""),
        ("[]", ":1:1: it is not a JSON object", ""),
        ("{\"decide\":", ":1:10: the text ends within a value", ""),
        ("{\"decide\": x}", ":1:12: expected a value", ""),
        (r#"{"interval":"0s"}"#, "interval is 0", ""),
        (r#"{"limits":{"worker_wall":"0m"}}"#, "limits.worker_wall is 0", ""),
        (r#"{"limits":{"run_timeout":"0s"}}"#, "limits.run_timeout is 0", ""),
        (
            &runner(r#""http":"openai","base_url":"http://h","model":"m","idle":"0s""#),
            "runners.x.idle is 0",
            "",
        ),
        (r#"{"decide":"cluade"}"#, "decide: could not find the runner `cluade`", "did you mean `claude`?"),
        (r#"{"decide":"aider"}"#, "decide: could not use the runner `aider` to decide", "known runners: "),
        (r#"{"worker":"cluade"}"#, "worker is \"cluade\", which is no runner", "did you mean `claude`?"),
        (r#"{"fix":{"runner":"cluade"}}"#, "fix.runner is \"cluade\", which is no runner", "there are: "),
        (
            r#"{"fix":{"escalate":["pi","x"]}}"#,
            "fix.escalate[1] is \"x\", which is no runner that can fix",
            "",
        ),
        (&runner(""), "runners.x has nothing to run: set `decide`, `worker`, `fix` or `http`", ""),
        (r#"{"runners":{"cluade":{"model":"m"}}}"#, "runners.cluade has nothing", "did you mean `claude`?"),
        (&runner(r#""fix":[""]"#), "runners.x.fix names no program", ""),
        (
            &runner(r#""decide":["x"],"token_cmd":[],"key_env":"K""#),
            "runners.x.token_cmd names no program",
            "",
        ),
        (r#"{"verify":{"t":[]}}"#, "verify.t names no program", ""),
    ];
    for (text, what, hint) in rows {
        let fault = error(text, &[]);
        assert!(fault.what.contains(what) && fault.what.contains("looop.json"), "{text}: {fault}");
        assert!(fault.hints.join("\n").contains(hint), "{text}: {:?}", fault.hints);
        assert_eq!(fault.kind.exit_code(), 2);
    }
}

#[test]
fn all_problems_are_found_each_under_its_key_and_in_the_order_of_the_file() {
    let text = r#"{"decide": "nosuch", "worker": 7,
        "notify": ["a", 1, 2, "b", null],
        "policy": {"allow": [{"argv": ["a"]}, {"dir": 1}]}, "repos": ["x"],
        "runners": {"mine": {"worker": ["x"]}}, "limits": {"workers": 1.5, "run_timeout": "0s"}}"#;
    let (_dir, env) = env_with(Some(text), &[]);
    let (_, problems) = examine(&env, env.config_path(), Some(text)).unwrap();
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    let expected = "decide worker notify[1] notify[2] notify[4] policy.allow[1].dir repos[0] \
        runners.mine.worker limits.workers limits.run_timeout";
    assert_eq!(keys.join(" "), expected.split_whitespace().collect::<Vec<_>>().join(" "), "{problems:?}");
    let more = load(&env).unwrap_err().downcast::<Fault>().unwrap().hints.join(" ");
    assert!(more.contains("there are 9 more problems"), "{more}");
}

#[test]
fn a_config_may_be_a_link_and_begin_with_a_byte_order_mark() {
    let (dir, env) = env_with(None, &[]);
    let real = dir.path().join("dotfiles.json");
    std::os::unix::fs::symlink(&real, env.config_path()).unwrap();
    let error = load(&env).unwrap_err().to_string();
    assert!(error.contains("it is a link to") && error.contains("dotfiles.json"), "{error}");
    fs::write(&real, "\u{feff}{\"decide\":\"codex\"}").unwrap();
    let config = load(&env).unwrap();
    assert_eq!((config.decide.as_str(), &config.path), ("codex", &env.config_path()));
    assert!(config.settings.protected.contains(&real), "moves may not change it there either");
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
        (r#"{"decide":"e","runners":{"e":{"http":"openai","model":"m"}}}"#, "http needs a `base_url`"),
        (
            r#"{"decide":"e","runners":{"e":{"http":"openai","base_url":"x","model":"m"}}}"#,
            "is not an address",
        ),
        (r#"{"decide":"e","runners":{"e":{"http":"openai","base_url":"http://x"}}}"#, "http needs a `model`"),
        (r#"{"decide":"pi","runners":{"pi":{"price":{"input":-1,"output":1}}}}"#, "runners.pi.price.input"),
        (r#"{"decide":"w","runners":{"w":{"worker":["x","{brief}"]}}}"#, "it has no `decide` command"),
        (r#"{"decide":"m","runners":{"m":{"decide":["x"],"transient":"("}}}"#, "runners.m.transient"),
    ];
    for (text, what) in rows {
        let fault = error(text, &[]);
        assert!(fault.what.contains(what), "{text}: {fault}");
    }
    // What the environment names is found out at its use.
    let config = loaded("{}", &[("LOOOP_DECIDE", "cluade")]);
    let Err(error) = config.decider() else { panic!("there is none") };
    assert!(error.to_string().contains("could not find the runner `cluade`"), "{error}");
    let hints = &error.downcast_ref::<Fault>().unwrap().hints;
    assert!(hints.contains(&"did you mean `claude`?".to_owned()), "{hints:?}");
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
