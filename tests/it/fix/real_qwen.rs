//! A leanfile with the real qwen CLI behind the wrapper contract, against the scripted model server.

use serde_json::json;

use super::adder::{self, FIXED, FIXED_LIB, TASK, TESTS};
use crate::support::decider::search_path;
use crate::support::model_server::{ModelServer, Reply};
use crate::support::pi::installed;
use crate::support::profile::program;

#[test]
#[ignore = "needs agent CLIs"]
fn qwen_edits_the_clone_and_the_tests_decide() {
    let Some(qwen) = installed("LOOOP_TEST_QWEN") else { return };
    let command = format!("{FIXED} && echo edited");
    let call = json!({ "command": command, "is_background": false, "description": "edit" });
    let call = Reply::tool("run_shell_command", call);
    let server = ModelServer::start(vec![call, Reply::text("add adds now")]);
    let fixture = adder::project(&[]);
    let wrapper = fixture.profile.path("lean-qwen");
    let (path, qwen) = (search_path(&qwen), qwen.display());
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = -p ] || exit 64\nexport PATH={path} QWEN_CODE_SUPPRESS_YOLO_WARNING=1\n\
         export ANTHROPIC_BASE_URL=$LEAN_BASE_URL ANTHROPIC_API_KEY=$LEAN_API_KEY ANTHROPIC_MODEL=$LEAN_MODEL\n\
         exec {qwen} -p \"$2\" --bare --approval-mode \"$LEAN_APPROVAL_MODE\" --auth-type \"$LEAN_AUTH_TYPE\"\n"
    );
    program(&wrapper, &script);
    let lean = format!(
        "binary = {wrapper:?}\nbase_url = \"{}\"\napi_key = \"sk-test\"\nmodel = \"mock-model\"\napproval_mode = \"yolo\"\nauth_type = \"anthropic\"\n",
        server.url()
    );
    fixture.leanfile_of(&lean, TESTS, TASK);
    let ran = fixture.fix(&[]).ok();
    assert_eq!(fixture.read("lib.sh"), FIXED_LIB, "{}", ran.stdout);
    assert_eq!(fixture.attempts("add").len(), 1);
    let asked = server.requests()[0].body.to_string();
    assert!(asked.contains("ADD-ITS-TWO-ARGUMENTS") && asked.contains("expected 5, got -1"), "{asked}");
}
