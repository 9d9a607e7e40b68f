#!/bin/sh
# Whether the builds of a branch pass, per GitHub Actions workflow.
# looop: interval=120s timeout=30s trust=untrusted env=GH_TOKEN
#
# Needs: gh (https://cli.github.com) 2.23 or later, and GH_TOKEN in looop's environment. A token that can only read is
# enough.
# Wakes the loop: the last finished run of a workflow ended otherwise than the one before. Runs that go on are detail.
# Untrusted, because commit subjects and workflow names come from the repository.

REPO=""         # owner/name
BRANCH="main"   # the branch to look at
LIMIT=40        # runs to look back

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

[ -n "$REPO" ] || fail "set REPO=owner/name at the top of this sensor"
command -v gh >/dev/null || fail "gh is not installed: see https://cli.github.com"
export GH_PROMPT_DISABLED=1 GH_NO_UPDATE_NOTIFIER=1 NO_COLOR=1

# gh filters by itself; the jq program need not be there. It lists the newest run first, and grouping keeps that order.
reading=$(gh run list --repo "$REPO" --branch "$BRANCH" --limit "$LIMIT" \
    --json workflowName,status,conclusion,displayTitle,headSha,createdAt,url --jq 'group_by(.workflowName) | {
    signal: { last: map({
        key: .[0].workflowName,
        value: (map(select(.status == "completed")) | .[0].conclusion)
    }) | from_entries },
    detail: map({
        key: .[0].workflowName,
        value: {
            running: (map(select(.status != "completed")) | length),
            newest: (.[0] | { title: .displayTitle, status, commit: .headSha[0:12], started: .createdAt, url })
        }
    }) | from_entries
} | tojson') || fail "gh could not list the runs of $REPO"
[ -n "$reading" ] || fail "gh printed nothing for $REPO"

printf '%s\n' "$reading"
