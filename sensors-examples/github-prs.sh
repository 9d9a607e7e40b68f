#!/bin/sh
# Which pull requests wait for my review, on all of GitHub.
# looop: interval=300s timeout=30s trust=untrusted
# looop: env=GH_TOKEN,GH_HOST,GH_ENTERPRISE_TOKEN,HTTP_PROXY,HTTPS_PROXY,NO_PROXY,SSL_CERT_FILE
#
# Needs: gh 2.23 or later, logged in or with GH_TOKEN; reading is enough.
# Wakes the loop: a pull request that begins or ceases to wait. Titles and times are detail.
# Untrusted, because anyone can write a title.

# setting: what to look for, in the words of GitHub's search
QUERY='is:open is:pr review-requested:@me archived:false'

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

command -v gh >/dev/null || fail "gh is not installed: see https://cli.github.com"
export GH_PROMPT_DISABLED=1 GH_NO_UPDATE_NOTIFIER=1 NO_COLOR=1

# gh filters by itself; the jq program need not be there. The detail gives way where the reading would be large.
# shellcheck disable=SC2016 # the dollars are the filter's
reading=$(gh api -X GET search/issues -f q="$QUERY" -f per_page=50 --jq '
    def text($n): tostring | .[0:$n] | gsub("\\p{Cc}"; " ");
    def fit: until((tojson | utf8bytelength) <= 8000 or .detail.items == []; .detail.items |= .[:-1]);
    def id: "\(.repository_url | tostring | sub(".*/repos/"; ""))#\(.number)" | text(60);
    if (.items | type) != "array" or .incomplete_results then error("the search was cut off") else . end
    | {
        signal: { count: .total_count, waiting: (.items | map(id) | sort | .[:30]) },
        detail: { items: (.items | map({
            pr: id, title: (.title | text(120)), by: (.user.login | text(40)), draft: (.draft == true),
            updated: (.updated_at | text(30)), url: (.html_url | text(150))
        }) | .[:15]) }
    } | fit | tojson') || fail "gh could not search GitHub: is it logged in, or GH_TOKEN set?"
[ -n "$reading" ] || fail "gh printed nothing"

printf '%s\n' "$reading"
