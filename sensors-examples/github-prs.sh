#!/bin/sh
# Which pull requests of a GitHub repository are open, and where each one stands.
# looop: interval=300s timeout=30s trust=untrusted env=GH_TOKEN
#
# Needs: gh (https://cli.github.com) 2.23 or later, and GH_TOKEN in looop's environment. A token that can only read is
# enough.
# Wakes the loop: a pull request that opens or closes, new commits, a review, a change from draft to ready.
# Untrusted, because anyone can write a title.

REPO=""     # owner/name
LIMIT=50    # pull requests to look at
AUTHOR=""   # only those of one person, for example @me

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

[ -n "$REPO" ] || fail "set REPO=owner/name at the top of this sensor"
command -v gh >/dev/null || fail "gh is not installed: see https://cli.github.com"
export GH_PROMPT_DISABLED=1 GH_NO_UPDATE_NOTIFIER=1 NO_COLOR=1

set -- pr list --repo "$REPO" --state open --limit "$LIMIT"
[ -z "$AUTHOR" ] || set -- "$@" --author "$AUTHOR"

# gh filters by itself; the jq program need not be there. A time of the last update moves with each comment: detail.
reading=$(gh "$@" --json number,title,author,isDraft,reviewDecision,headRefName,headRefOid,updatedAt --jq '{
    signal: { open: map({
        key: (.number | tostring),
        value: { draft: .isDraft, review: .reviewDecision, head: .headRefOid[0:12] }
    }) | from_entries },
    detail: map({
        key: (.number | tostring),
        value: { title: .title, author: .author.login, branch: .headRefName, updated: .updatedAt }
    }) | from_entries
} | tojson') || fail "gh could not list the pull requests of $REPO"
[ -n "$reading" ] || fail "gh printed nothing for $REPO"

printf '%s\n' "$reading"
