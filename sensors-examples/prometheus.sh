#!/bin/sh
# What a Prometheus query returns: which series, and how many.
# looop: interval=60s timeout=30s trust=untrusted env=PROMETHEUS_TOKEN,HTTPS_PROXY,NO_PROXY
#
# Needs: curl, jq, and PROMETHEUS_TOKEN if the server asks for one.
# Wakes the loop: a series that comes or goes. Values are detail, so put the limit into the query: `disk_free < 1e9`.
# Untrusted, because labels come from what is watched.

# setting: the address of Prometheus
URL='http://127.0.0.1:9090'
# setting: the query, in PromQL
QUERY='up == 0'

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

for tool in curl jq; do
    command -v "$tool" >/dev/null || fail "$tool is not installed"
done

# The answer goes into a file of at most 8 MB, since a server may send without end; the token into no list of arguments.
answer=$(mktemp) || fail "no temporary file can be made"
trap 'rm -f "$answer"' EXIT
trap 'exit 1' INT TERM
(
    ulimit -f 16384
    { [ -z "${PROMETHEUS_TOKEN:-}" ] || printf 'header = "Authorization: Bearer %s"\n' "$PROMETHEUS_TOKEN"; } |
        curl -sS --fail --max-time 20 --config - --output "$answer" \
            --get --data-urlencode "query=$QUERY" "${URL%/}/api/v1/query"
) || fail "Prometheus did not answer at $URL, or refused the query"

# The detail gives way where the reading would be large.
reading=$(jq -c --arg query "$QUERY" '
    def text($n): tostring | .[0:$n] | gsub("\\p{Cc}"; " ");
    def fit: until((tojson | utf8bytelength) <= 8000 or .detail.items == []; .detail.items |= .[:-1]);
    def series: .metric | to_entries | sort_by(.key) | map("\(.key)=\(.value | text(60))") | join(" ") | text(90);
    if .status != "success" or .data.resultType != "vector"
    then error("no vector: \(.error // .data.resultType | text(200))")
    else .data.result end
    | map({ series: series, value: (.value[1] | text(30)) }) | sort_by(.series)
    | {
        signal: { count: length, series: (map(.series) | .[:20]) },
        detail: { query: ($query | text(300)), items: .[:30] }
    } | fit' "$answer") || fail "what came from $URL is no vector"
[ -n "$reading" ] || fail "nothing came from $URL"

printf '%s\n' "$reading"
