//! A leanfile with the real qwen CLI behind the wrapper contract, against the scripted model server.

use std::env;
use std::path::PathBuf;

use serde_json::json;

use super::adder::{CHECK, LIB};
use super::fixture::{Fixture, of, program};
use crate::support::model_server::{ModelServer, Reply};
use crate::support::pi::skipped;

#[test]
#[ignore = "needs agent CLIs"]
fn qwen_edits_the_clone_and_the_tests_decide() {
    let (Some(qwen), Some(node)) = (env::var_os("LOOOP_TEST_QWEN"), env::var_os("LOOOP_TEST_NODE_BIN"))
    else {
        return skipped("no qwen: LOOOP_TEST_QWEN and LOOOP_TEST_NODE_BIN are not set");
    };
    let (qwen, node) = (PathBuf::from(qwen), PathBuf::from(node));
    assert!(qwen.is_file(), "LOOOP_TEST_QWEN is not a file: {qwen:?}");
    let command = "sed -i 's/\\$1 - \\$2/$1 + $2/' lib.sh && echo edited";
    let call = json!({ "command": command, "is_background": false, "description": "edit" });
    let server =
        ModelServer::start(vec![Reply::tool("run_shell_command", call), Reply::text("add adds now")]);
    let fixture = Fixture::new(&[("lib.sh", LIB), ("check.sh", CHECK)]);
    let wrapper = fixture.profile.path("lean-qwen");
    let (bin, qwen) = (node.display(), qwen.display());
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = -p ] || exit 64\nexport PATH={bin}:$PATH QWEN_CODE_SUPPRESS_YOLO_WARNING=1\n\
         export ANTHROPIC_BASE_URL=$LEAN_BASE_URL ANTHROPIC_API_KEY=$LEAN_API_KEY ANTHROPIC_MODEL=$LEAN_MODEL\n\
         exec {qwen} -p \"$2\" --bare --approval-mode \"$LEAN_APPROVAL_MODE\" --auth-type \"$LEAN_AUTH_TYPE\"\n"
    );
    program(&wrapper, &script);
    let rest = "[[tasks]]\nname = \"add\"\nprompt = \"ADD-MUST-ADD\"\nfiles = [\"lib.sh\"]\n";
    let path = fixture.leanfile("command = \"sh\"\nargs = [\"check.sh\"]", rest);
    let lean = format!(
        "binary = {wrapper:?}\nbase_url = \"{}\"\napi_key = \"sk-test\"\nmodel = \"mock-model\"\napproval_mode = \"yolo\"\nauth_type = \"anthropic\"\n",
        server.url()
    );
    let text = std::fs::read_to_string(&path).unwrap();
    let own = text.lines().find(|line| line.starts_with("binary")).unwrap().to_owned();
    std::fs::write(&path, text.replace(&own, &lean)).unwrap();
    let ran = fixture.fix(&[]).ok();
    assert!(fixture.read("lib.sh").contains("$1 + $2"), "{}", ran.stdout);
    let lines = fixture.ledger("add");
    assert_eq!(of(&lines, "attempt").len(), 1);
    let asked = server.requests()[0].body.to_string();
    assert!(asked.contains("ADD-MUST-ADD") && asked.contains("expected 5, got -1"), "{asked}");
}
