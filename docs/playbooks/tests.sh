#!/bin/sh
# Whether the tests of a project pass. Only a change of the verdict wakes the loop.
# looop: interval=300s timeout=50s trust=untrusted
set -eu
cd "$HOME/src/app"
if out=$(pytest -q 2>&1); then ok=true; else ok=false; fi
printf '{"signal":{"pass":%s},"detail":{"lines":%d}}\n' "$ok" "$(printf '%s\n' "$out" | wc -l)"
