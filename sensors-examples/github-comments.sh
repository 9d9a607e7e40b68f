#!/bin/sh
# Reviews and open threads on my open pull requests.
# looop: interval=300s timeout=30s trust=untrusted
# looop: env=GH_TOKEN,GH_HOST,GH_ENTERPRISE_TOKEN,HTTP_PROXY,HTTPS_PROXY,NO_PROXY,SSL_CERT_FILE
#
# Needs: gh 2.23 or later, logged in or with GH_TOKEN; reading is enough.
# Wakes the loop: a review, a comment in an open thread, a thread that is opened or resolved. The words are detail.
# Untrusted, because anyone can comment.

# setting: which pull requests, in the words of GitHub's search
QUERY='is:open is:pr author:@me archived:false'

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

command -v gh >/dev/null || fail "gh is not installed: see https://cli.github.com"
export GH_PROMPT_DISABLED=1 GH_NO_UPDATE_NOTIFIER=1 NO_COLOR=1

# shellcheck disable=SC2016 # the dollar is GraphQL's
graphql='query($q: String!) { search(query: $q, type: ISSUE, first: 25) { nodes { ... on PullRequest {
    number title url reviewDecision repository { nameWithOwner }
    reviewThreads(first: 50) { nodes { isResolved path
        comments(last: 1) { totalCount nodes { body createdAt author { login } } } } } } } } }'

# gh filters by itself; the jq program need not be there. The detail gives way where the reading would be large.
# shellcheck disable=SC2016 # the dollars are the filter's
reading=$(gh api graphql -f q="$QUERY" -f query="$graphql" --jq '
    def text($n): tostring | .[0:$n] | gsub("\\p{Cc}"; " ");
    def fit: until((tojson | utf8bytelength) <= 8000 or .detail.items == []; .detail.items |= .[:-1]);
    if (.data.search.nodes | type) != "array" then error("no list of pull requests") else .data.search.nodes end
    | .[:25] | map({
        id: ("\(.repository.nameWithOwner)#\(.number)" | text(50)),
        review: (.reviewDecision // "NONE" | text(20)),
        title: (.title | text(80)), url: (.url | text(150)),
        threads: [.reviewThreads.nodes[] | select(.isResolved | not)]
    }) | sort_by(.id)
    | {
        signal: (map({ key: .id, value: {
            review, open_threads: (.threads | length), comments: (.threads | map(.comments.totalCount) | add // 0)
        } }) | from_entries),
        detail: { items: ([.[] | . as $pr | .threads[] | {
            pr: $pr.id, title: $pr.title, url: $pr.url, file: (.path | text(80)),
            by: (.comments.nodes[-1].author.login | text(40)), at: (.comments.nodes[-1].createdAt | text(30)),
            says: (.comments.nodes[-1].body | text(240))
        }] | sort_by(.at) | reverse | .[:20]) }
    } | fit | tojson') || fail "gh could not read the reviews: is it logged in, or GH_TOKEN set?"
[ -n "$reading" ] || fail "gh printed nothing"

printf '%s\n' "$reading"
