#!/bin/sh
# Which issues of a GitHub repository are open, by label.
# looop: interval=300s timeout=60s trust=untrusted
# looop: env=GH_TOKEN,GH_HOST,GH_ENTERPRISE_TOKEN,HTTP_PROXY,HTTPS_PROXY,NO_PROXY,SSL_CERT_FILE
#
# Needs: gh 2.23 or later, logged in or with GH_TOKEN; reading is enough.
# Wakes the loop: an issue that gets or loses one of the labels, opens or closes. Titles and times are detail.
# Untrusted, because anyone can write a title.

# needed setting: the repository, as owner/name
REPO=''
# setting: the labels, at most 6, with commas between
LABELS='bug'

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

[ -n "$REPO" ] || fail "set REPO=owner/name at the top of this sensor"
command -v gh >/dev/null || fail "gh is not installed: see https://cli.github.com"
export GH_PROMPT_DISABLED=1 GH_NO_UPDATE_NOTIFIER=1 NO_COLOR=1

# One label as two lines, the insides of JSON objects. gh filters by itself; the jq program need not be there.
one() {
    # shellcheck disable=SC2016 # the dollars are the filter's
    LABEL=$1 gh api -X GET search/issues -f q="repo:$REPO is:issue is:open label:\"$1\"" -f per_page=50 --jq '
        def text($n): tostring | .[0:$n] | gsub("\\p{Cc}"; " ");
        (env.LABEL | text(50) | tojson) as $label
        | if (.items | type) != "array" or .incomplete_results then error("the search was cut off") else . end
        | "\($label):\({ count: .total_count, newest: (.items | map(.number) | sort | .[-20:]) } | tojson)\n" +
          "\($label):\(.items | map({
              number, title: (.title | text(80)), by: (.user.login | text(40)), updated: (.updated_at | text(30))
          }) | until((tojson | utf8bytelength) <= 900; .[:-1]) | tojson)"'
}

signal="" detail="" comma="" left=6
while [ -n "$LABELS" ] && [ "$left" -gt 0 ]; do
    label=${LABELS%%,*}
    case $LABELS in *,*) LABELS=${LABELS#*,} ;; *) LABELS="" ;; esac
    text=$(one "$label") || fail "gh could not search $REPO: does it exist, is gh logged in or GH_TOKEN set?"
    [ -n "$text" ] || fail "gh printed nothing for $REPO"
    { read -r one_signal && read -r one_detail; } <<LINES
$text
LINES
    signal="$signal$comma$one_signal" detail="$detail$comma$one_detail"
    comma=, left=$((left - 1))
done
[ -n "$signal" ] || fail "LABELS at the top of this sensor names no label"

printf '{"signal":{%s},"detail":{%s}}\n' "$signal" "$detail"
