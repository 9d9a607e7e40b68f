#!/bin/sh
# Whether the builds of a branch pass, per GitHub Actions workflow.
# looop: interval=120s timeout=30s trust=untrusted
# looop: env=GH_TOKEN,GH_HOST,GH_ENTERPRISE_TOKEN,HTTP_PROXY,HTTPS_PROXY,NO_PROXY,SSL_CERT_FILE
#
# Needs: gh 2.23 or later, logged in or with GH_TOKEN; reading is enough.
# Wakes the loop: the last finished run of a workflow ended otherwise than the one before. Runs that go on are detail.
# Untrusted, because commit subjects and workflow names come from the repository.

# needed setting: the repository, as owner/name
REPO=''
# setting: the branch to look at
BRANCH='main'

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

[ -n "$REPO" ] || fail "set REPO=owner/name at the top of this sensor"
command -v gh >/dev/null || fail "gh is not installed: see https://cli.github.com"
export GH_PROMPT_DISABLED=1 GH_NO_UPDATE_NOTIFIER=1 NO_COLOR=1

# gh filters by itself; the jq program need not be there. The detail gives way where the reading would be large.
# shellcheck disable=SC2016 # the dollars are the filter's
reading=$(gh api -X GET "repos/$REPO/actions/runs" -f branch="$BRANCH" -f per_page=60 --jq '
    def text($n): tostring | .[0:$n] | gsub("\\p{Cc}"; " ");
    def fit: until((tojson | utf8bytelength) <= 8000 or .detail.items == []; .detail.items |= .[:-1]);
    if (.workflow_runs | type) != "array" then error("no list of runs") else .workflow_runs end
    | group_by(.name) | map(sort_by(.run_number) | reverse) | .[:30]
    | map({
        name: (.[0].name | text(50)),
        last: (map(select(.status == "completed")) | .[0].conclusion // "none yet" | text(20)),
        running: (map(select(.status != "completed")) | length),
        newest: (.[0] | {
            title: (.display_title | text(100)), commit: (.head_sha | text(12)),
            started: (.created_at | text(30)), url: (.html_url | text(150))
        })
    })
    | {
        signal: { last: (map({ key: .name, value: .last }) | from_entries) },
        detail: { items: (sort_by(.last == "success")) }
    } | fit | tojson') || fail "gh could not list the runs of $REPO: does it exist, is gh logged in or GH_TOKEN set?"
[ -n "$reading" ] || fail "gh printed nothing for $REPO"

printf '%s\n' "$reading"
