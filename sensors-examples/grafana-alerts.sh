#!/bin/sh
# Which Grafana alerts fire.
# looop: interval=60s timeout=30s trust=untrusted env=GRAFANA_TOKEN,HTTPS_PROXY,NO_PROXY
#
# Needs: curl, jq, and GRAFANA_TOKEN in the environment.
# The token is one of a service account that may view.
# Wakes the loop: an alert that begins or ends. Since when, and what it says, is detail.
# Untrusted, because labels and summaries come from what is watched.

# needed setting: the address of Grafana, as https://grafana.example.org
URL=''

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

for tool in curl jq; do
    command -v "$tool" >/dev/null || fail "$tool is not installed"
done
[ -n "$URL" ] || fail "set URL at the top of this sensor"
[ -n "${GRAFANA_TOKEN:-}" ] || fail "GRAFANA_TOKEN is not set in looop's environment"

# The answer goes into a file of at most 8 MB, since a server may send without end; the token into no list of arguments.
answer=$(mktemp) || fail "no temporary file can be made"
trap 'rm -f "$answer"' EXIT
trap 'exit 1' INT TERM
(
    ulimit -f 16384
    printf 'header = "Authorization: Bearer %s"\n' "$GRAFANA_TOKEN" |
        curl -sS --fail --max-time 20 --config - --output "$answer" \
            "${URL%/}/api/alertmanager/grafana/api/v2/alerts?active=true&silenced=false&inhibited=false"
) || fail "Grafana did not answer at $URL"

# One alert may fire for many things: each is one of the count. The detail gives way where the reading would be large.
reading=$(jq -c '
    def text($n): tostring | .[0:$n] | gsub("\\p{Cc}"; " ");
    def fit: until((tojson | utf8bytelength) <= 8000 or .detail.items == []; .detail.items |= .[:-1]);
    if type != "array" then error("no list of alerts") else . end
    | map(. + { alert: (.labels.alertname | text(60)) })
    | {
        signal: {
            count: length,
            firing: (group_by(.alert) | .[:25] | map({ key: .[0].alert, value: length }) | from_entries)
        },
        detail: { items: (sort_by(.startsAt) | reverse | .[:15] | map({
            alert, severity: (.labels.severity // "" | text(20)), since: (.startsAt | text(30)),
            says: (.annotations.summary // .annotations.description // "" | text(200)),
            labels: (.labels | del(.alertname, .severity) | text(200)), url: (.generatorURL // "" | text(150))
        })) }
    } | fit' "$answer") || fail "what came from $URL is no list of alerts"
[ -n "$reading" ] || fail "nothing came from $URL"

printf '%s\n' "$reading"
