//! The real pi CLI, where there is one: a fresh home for it, whose only model is a scripted server.
//!
//! `.ci/run` installs pi and names it in `LOOOP_TEST_PI`, and a node that is new enough in `LOOOP_TEST_NODE_BIN`. Without
//! them a test says that it was skipped and returns; the gate does not let that pass.

use serde_json::json;
use std::env;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The model that a fresh home knows, with the prices below.
pub const MODEL: &str = "mock/mock-model";

/// Where pi and its node are.
pub struct PiInstall {
    pi: PathBuf,
    node_bin: PathBuf,
}

/// A home that pi was never started in. It goes away when it is dropped.
pub struct PiHome {
    dir: TempDir,
    pi: PathBuf,
    search_path: OsString,
}

/// The installed pi, or `None` after saying that the test is skipped.
pub fn pi() -> Option<PiInstall> {
    let pi = installed("LOOOP_TEST_PI")?;
    let node_bin = PathBuf::from(env::var_os("LOOOP_TEST_NODE_BIN").expect("LOOOP_TEST_NODE_BIN is set"));
    assert!(node_bin.join("node").is_file(), "LOOOP_TEST_NODE_BIN has no node: {node_bin:?}");
    Some(PiInstall { pi, node_bin })
}

/// The program that a variable names, or `None` after saying that the test is skipped.
pub fn installed(variable: &str) -> Option<PathBuf> {
    let Some(program) = env::var_os(variable).map(PathBuf::from) else {
        skipped(&format!("{variable} is not set"));
        return None;
    };
    // Named but not there is a mistake in the set-up, not a machine without it.
    assert!(program.is_file(), "{variable} is not a file: {program:?}");
    Some(program)
}

/// Says that a test could not run here, to the reader and, in the gate, to the file that must stay empty.
pub fn skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("skipped: {test}: {why}\n");
    eprint!("{line}");
    if let Some(file) = env::var_os("LOOOP_TEST_SKIPS") {
        // One write in append mode, since tests run side by side.
        OpenOptions::new().create(true).append(true).open(file).unwrap().write_all(line.as_bytes()).unwrap();
    }
}

impl PiInstall {
    /// A fresh home whose only model is the server at `url`. pi's own retries are off: a failure shows at once.
    pub fn home(&self, url: &str) -> PiHome {
        let dir = TempDir::new().unwrap();
        let agent = dir.path().join(".pi/agent");
        fs::create_dir_all(&agent).unwrap();
        fs::create_dir(dir.path().join("tmp")).unwrap();
        let model = json!({
            "id": "mock-model", "name": "Mock", "reasoning": false, "input": ["text"],
            "contextWindow": 200_000, "maxTokens": 8_000,
            // Dollars for a million tokens.
            "cost": {"input": 3.0, "output": 15.0, "cacheRead": 0.5, "cacheWrite": 4.0},
        });
        let provider = json!({
            "baseUrl": url, "api": "anthropic-messages", "apiKey": "sk-test", "models": [model],
        });
        let models = json!({"providers": {"mock": provider}});
        fs::write(agent.join("models.json"), models.to_string()).unwrap();
        fs::write(agent.join("settings.json"), json!({"retry": {"enabled": false}}).to_string()).unwrap();

        let pi_bin = self.pi.parent().unwrap();
        let folders = [&self.node_bin, pi_bin, Path::new("/usr/bin"), Path::new("/bin")];
        let search_path = env::join_paths(folders).unwrap();
        PiHome { dir, pi: self.pi.clone(), search_path }
    }
}

impl PiHome {
    /// The home itself.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Folders in which pi, its node and the system's tools are found.
    pub fn search_path(&self) -> &str {
        self.search_path.to_str().unwrap()
    }

    /// pi itself, started in this home, with all of the environment that it needs and nothing of ours.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.pi);
        command.env_clear().current_dir(self.path()).env("HOME", self.path()).env("PATH", self.search_path());
        command.env("TMPDIR", self.path().join("tmp")).env("LANG", "C.UTF-8");
        command.env("PI_OFFLINE", "1").env("PI_TELEMETRY", "0");
        command
    }
}

mod tests {
    use super::*;
    use crate::support::model_server::{ModelServer, Reply};
    use serde_json::Value;
    use std::process::{Output, Stdio};

    fn ask(home: &PiHome, prompt: &str, more: &[&str]) -> Output {
        let mut command = home.command();
        command.args(["-p", "--mode", "json", "-ne", "--model", MODEL]).args(more);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(prompt.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// The last thing that the assistant said, as pi reports it.
    fn last_message(output: &Output) -> Value {
        let text = String::from_utf8_lossy(&output.stdout);
        let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let ends = events.filter(|event| event["type"] == "message_end");
        let mut assistants = ends.filter(|event| event["message"]["role"] == "assistant");
        assistants.next_back().unwrap_or_else(|| panic!("no answer: {output:?}"))["message"].clone()
    }

    #[test]
    fn pi_answers_what_the_script_says() {
        let Some(install) = pi() else { return };
        let server = ModelServer::start(vec![Reply::text(r#"{"move":"noop"}"#).usage(100, 10, 1000, 50)]);
        let home = install.home(&server.url());

        let output = ask(&home, "Say the answer.", &["-nt", "-ns", "-np", "-nc", "--no-session"]);
        assert!(output.status.success(), "{output:?}");
        let message = last_message(&output);
        assert_eq!(message["content"][0]["text"], r#"{"move":"noop"}"#);
        let usage = &message["usage"];
        let counts = ["input", "output", "cacheRead", "cacheWrite"].map(|key| &usage[key]);
        assert_eq!(counts, [100, 10, 1000, 50]);
        // 100 * 3 + 10 * 15 + 1000 * 0.5 + 50 * 4, in millionths.
        let dollars = usage["cost"]["total"].as_f64().unwrap();
        assert!((dollars - 0.001_150).abs() < 1e-9, "{dollars}");

        let requests = server.requests();
        assert_eq!(requests.len(), 1);
        assert!(requests[0].path.starts_with("/v1/messages"));
        assert!(requests[0].body["messages"].to_string().contains("Say the answer."));
    }

    #[test]
    fn pi_does_what_the_script_calls_for() {
        let Some(install) = pi() else { return };
        let write = Reply::tool("write", json!({"path": "out.txt", "content": "hello\n"}));
        let server = ModelServer::start(vec![write, Reply::text("done")]);
        let home = install.home(&server.url());

        let output = ask(&home, "Write the file.", &[]);
        assert_eq!(last_message(&output)["content"][0]["text"], "done");
        assert_eq!(fs::read_to_string(home.path().join("out.txt")).unwrap(), "hello\n");
        assert_eq!(server.requests().len(), 2);
    }

    #[test]
    fn pi_reports_a_failure_at_once() {
        let Some(install) = pi() else { return };
        let body = r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}"#;
        let server = ModelServer::start(vec![Reply::status(429, body)]);
        let home = install.home(&server.url());

        let output = ask(&home, "Say the answer.", &[]);
        assert_eq!(last_message(&output)["stopReason"], "error", "{output:?}");
        assert_eq!(server.requests().len(), 1);
    }

    #[test]
    fn pi_waits_while_the_model_hangs() {
        let Some(install) = pi() else { return };
        let server = ModelServer::start(vec![Reply::hang()]);
        let home = install.home(&server.url());

        let mut command = home.command();
        command.args(["-p", "--mode", "json", "-ne", "--model", MODEL, "Say the answer."]);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        server.wait_for_requests(1);
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
