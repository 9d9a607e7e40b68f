#!/bin/bash
# Makes old.tar.gz, a data dir and a config of looop 0.1, and old.json, what looop 0.1 printed about them.
#
# usage: make_0_1.sh LOOOP_0_1
#
# LOOOP_0_1 is the program as built from commit 6c2107d (2026-11-22), the last one before types, sandboxes and messages
# were changed. The data dir has: moves of several kinds, an open question, an open approval, an answered question, a
# timer, a lease, workers that ended in four ways, one that was killed with its supervisor, and a beat that was killed
# while its command ran. Nothing in it expires.
set -euo pipefail
OLD=$(realpath "$1")
HERE=$(cd "$(dirname "$0")" && pwd)
ROOT=/tmp/looop-0.1
rm -rf "$ROOT"
mkdir -p "$ROOT/home"
cd "$ROOT"
looop() {
    env -i HOME="$ROOT/home" PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 TZ=UTC USER=ada \
        LOOOP_DATA_DIR="$ROOT/data" LOOOP_CONFIG="$ROOT/looop.json" "$OLD" --color never "$@"
}
# The next decision: the runner prints this move.
decide() {
    python3 - "$1" "$ROOT/looop.json" <<'PY'
import json, sys
move, path = sys.argv[1:]
kinds = ["decide", "sensor", "run", "verify", "worker", "fix"]
config = {
    "$schema": "./looop.schema.json",
    "interval": "60s",
    "path": "/usr/local/bin:/usr/bin:/bin",
    "decide": "one",
    "worker": "one",
    "runners": {"one": {
        "decide": ["sh", "-c", "cat > /dev/null; printf '%%s\\n' '%s'" % move],
        "worker": ["sh", "-c", "cat {brief} > /dev/null; echo working; exit 0"],
        "model": "none", "env": ["MY_TOKEN"], "transient": "rate.?limit",
    }},
    "budget": {"day_usd": 20, "worker_usd": 5},
    "limits": {"approval_ttl": "366d", "noop_ttl": None, "lease_ttl": "24h"},
    "policy": {"allow": [{"argv": ["sleep", "600"]}, {"argv": ["echo", "hello from a move"]}, {"argv": ["ls", "**"]}], "free_moves": ["write_sensor"]},
    "verify": {"ok": ["true"], "bad": ["false"]},
    "sandbox": {kind: "none" for kind in kinds},
}
json.dump(config, open(path, "w"), indent=1)
PY
}
tick() { decide "$1"; looop tick; }
field() { python3 -c 'import json, sys; print(eval("json.load(sys.stdin)" + sys.argv[1]))' "$1"; }
wait_for() { for _ in $(seq 100); do looop ls --all --json | grep -q "$1" && return; sleep 0.1; done; exit 1; }

decide '{"move":"noop","why":"nothing"}'
looop init
rm data/goals/playbook-daily.md data/sensors/today.sh
looop goal write release <<< $'---\ngoal: the release is out\nverify: ok\n---\nBy Friday.'
printf '#!/bin/sh\n# looop: trust=untrusted\necho %s\n' "'{\"signal\":{\"mails\":2},\"detail\":[\"hello\"]}'" > data/sensors/mail.sh
printf '#!/bin/sh\necho %s\n' "'{\"disk\":\"ok\"}'" > data/sensors/disk.sh
chmod +x data/sensors/*.sh
# A worker as it is while it runs, beside the data dir.
looop worker start live -- sh -c 'echo hello; exec sleep 600'
for _ in $(seq 100); do grep -q hello data/workers/live/transcript.raw && break; sleep 0.1; done
mkdir live
cp data/workers/live/{spec.json,state.json,transcript.raw,transcript.idx,brief.md} live/
looop kill live
looop prune --older 0s live
tick '{"move":"write_goal","id":"notes","body":"---\ngoal: notes\n---\nWritten by a move.\n","goal":"release","why":"keep notes"}'
tick '{"move":"run","argv":["echo","hello from a move"],"goal":"release","why":"say it"}'
tick '{"move":"ask","text":"Which branch?","options":["main","next"],"ref":"pr/1","goal":"release","why":"two fit"}'
tick '{"move":"ask","text":"When?","why":"no date"}'
looop answer "$(looop asks --json | field '["asks"][-1]["id"]')" 'on Monday'
# Without the untrusted sensor, so that the timer, the worker and the approval are clean.
rm data/sensors/mail.sh
tick '{"move":"schedule","name":"later","in_s":3000000000,"note":"look again","why":"in time"}'
looop schedule set yearly --cron '0 9 1 1 *' look at the year
tick '{"move":"run","argv":["true"],"goal":"release","why":"needs a yes"}'
tick '{"move":"archive_goal","id":"notes","why":"done"}' || true
looop worker start done-ok 'do it' --goal release --verify ok
looop worker start done-bad 'do it' --verify bad
looop worker start failed -- sh -c 'echo broke; exit 3'
looop worker start killed -- sleep 600
for id in done-ok done-bad failed; do wait_for "\"id\":\"$id\""; looop wait --timeout 5s > /dev/null || true; done
looop kill killed
looop worker start lost --claim deploy -- sleep 600 2> /dev/null || looop worker start lost -- sleep 600
sleep 1
kill -9 $(python3 -c 'import json; s = json.load(open("data/workers/lost/state.json")); print(s["supervisor"]["pid"], s["child"]["pid"])')
sleep 1
looop claim site --ttl 24h || true
tick '{"move":"noop","why":"wait for the answers"}'
# A decision that fails, and one that is killed while its command runs.
decide 'no move'
looop run release || true
looop goal write release <<< $'---\ngoal: the release is out\nverify: ok\n---\nBy Monday.'
decide '{"move":"run","argv":["sleep","600"],"goal":"release","why":"takes long"}'
env -i HOME="$ROOT/home" PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 TZ=UTC USER=ada \
    LOOOP_DATA_DIR="$ROOT/data" LOOOP_CONFIG="$ROOT/looop.json" "$OLD" --color never tick &
BEAT=$!
started() { python3 -c 'import json; print(json.load(open("data/beat.json"))["intent"]["started"]["pid"])' 2> /dev/null; }
for _ in $(seq 100); do started > /dev/null && break; sleep 0.1; done
CHILD=$(started)
kill -9 "$BEAT" "$CHILD"
decide '{"move":"noop","why":"nothing"}'
sleep 1

# The approval never expires.
sed -i 's/"expires_ms": [0-9]*/"expires_ms": 253402300799000/' data/asks/ap-*.json

# What 0.1 says, and what its next beat does: in a copy.
python3 - "$OLD" "$ROOT" "$HERE/old.json" <<'PY'
import json, os, shutil, subprocess, sys
old, root, out = sys.argv[1:]
views = [
    ["status"], ["asks", "--all"], ["ls", "--all"], ["claims"], ["schedule", "list"], ["goal", "list"],
    ["sensor", "list"], ["log", "-n", "100"], ["cost", "all"], ["cost", "all", "--by", "goal"], ["attempts"],
]
def run(data, args):
    env = {"HOME": root + "/home", "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC", "USER": "ada",
           "LOOOP_DATA_DIR": data, "LOOOP_CONFIG": root + "/looop.json"}
    return subprocess.run([old, "--color", "never", *args], env=env, capture_output=True, text=True)
shutil.copytree(root + "/data", root + "/copy", symlinks=True, ignore=shutil.ignore_patterns("*.sock"))
facts = {"views": {}, "texts": {}}
for args in views:
    ran = run(root + "/data", args + ["--json"])
    assert ran.returncode in (0, 1), (args, ran)
    facts["views"][" ".join(args)] = json.loads(ran.stdout)
for args in [["goal", "show", "release"], ["playbook", "show"], ["sensor", "show", "disk"], ["logs", "failed"]]:
    facts["texts"][" ".join(args)] = run(root + "/data", args).stdout
ran = run(root + "/copy", ["tick"])
facts["tick"] = ran.stdout
facts["after"] = json.loads(run(root + "/copy", ["log", "-n", "100", "--json"]).stdout)
def keys(node, path, schema):
    """The keys of a schema, with `*` for a name of the user's."""
    node = schema["$defs"][node["$ref"].split("/")[-1]] if "$ref" in node else node
    for name, value in node.get("properties", {}).items():
        yield path + name
        yield from keys(value, path + name + ".", schema)
    for value in [node.get("additionalProperties"), node.get("items"), *node.get("anyOf", []), *node.get("oneOf", [])]:
        if isinstance(value, dict):
            star = "*." if value is node.get("additionalProperties") else ""
            yield from keys(value, path + star, schema)
config = json.loads(run(root + "/data", ["schema", "config"]).stdout)
facts["keys"] = sorted(set(keys(config, "", config)))
moves = json.loads(run(root + "/data", ["schema", "move"]).stdout)["oneOf"]
facts["moves"] = {form["properties"]["move"]["const"]: sorted(form["properties"]) for form in moves}
json.dump(facts, open(out, "w"), indent=1, ensure_ascii=False, sort_keys=True)
PY
git -C data gc -q --prune=now
rm -rf data/.git/hooks home copy
find data -type s -delete
tar --sort=name --owner=0 --group=0 -czf "$HERE/old.tar.gz" data live looop.json
ls -l "$HERE"/old.*
rm -rf "$ROOT"
