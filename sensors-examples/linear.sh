#!/bin/sh
# My open issues in Linear.
# looop: interval=300s timeout=30s trust=untrusted env=LINEAR_API_KEY,HTTPS_PROXY,NO_PROXY
#
# Needs: curl, jq, and LINEAR_API_KEY in the environment.
# The key is a personal one; one that may only read is enough.
# Wakes the loop: an issue of mine that comes, goes, or gets another state, priority or due date. Titles are detail.
# Untrusted, because everybody in the workspace writes titles.

# setting: the states that do not count, in Linear's words, with commas between
DONE='completed,canceled'
# setting: the address of Linear's GraphQL
URL='https://api.linear.app/graphql'

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

for tool in curl jq; do
    command -v "$tool" >/dev/null || fail "$tool is not installed"
done
[ -n "${LINEAR_API_KEY:-}" ] || fail "LINEAR_API_KEY is not set in looop's environment"

# The answer goes into a file of at most 8 MB, since a server may send without end; the key not into a list of arguments.
answer=$(mktemp) || fail "no temporary file can be made"
trap 'rm -f "$answer"' EXIT
trap 'exit 1' INT TERM
# shellcheck disable=SC2016 # the dollar is GraphQL's
query='query($done: [String!]) { viewer { assignedIssues(first: 50, filter: { state: { type: { nin: $done } } }) {
    nodes { identifier title url priority dueDate updatedAt state { name } } } } }'
body=$(jq -n -c --arg query "$query" --arg without "$DONE" '{ query: $query, variables: { done: ($without | split(",")) } }')
(
    ulimit -f 16384
    printf 'header = "Authorization: %s"\n' "$LINEAR_API_KEY" |
        curl -sS --fail --max-time 20 --config - --output "$answer" \
            --header 'Content-Type: application/json' --data "$body" "$URL"
) || fail "Linear did not answer at $URL"

# The detail gives way where the reading would be large.
reading=$(jq -c '
    def text($n): tostring | .[0:$n] | gsub("\\p{Cc}"; " ");
    def fit: until((tojson | utf8bytelength) <= 8000 or .detail.items == []; .detail.items |= .[:-1]);
    if .errors then error(.errors | text(300)) else .data.viewer.assignedIssues.nodes end
    | if type != "array" then error("no list of issues") else sort_by(.identifier) end
    | {
        signal: (.[:25] | map({ key: (.identifier | text(20)), value: {
            state: (.state.name | text(30)), priority: (.priority | text(3)), due: (.dueDate // "" | text(12))
        } }) | from_entries),
        detail: { count: length, items: (sort_by(.updatedAt) | reverse | .[:20] | map({
            issue: (.identifier | text(20)), title: (.title | text(120)), url: (.url | text(150)),
            updated: (.updatedAt | text(30))
        })) }
    } | fit' "$answer") || fail "what came from $URL is not an answer of Linear"
[ -n "$reading" ] || fail "nothing came from $URL"

printf '%s\n' "$reading"
