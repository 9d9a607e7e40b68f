#!/bin/sh
# Whether web addresses answer, and with which status.
# looop: interval=60s timeout=60s env=HTTPS_PROXY,NO_PROXY,SSL_CERT_FILE
#
# Needs: curl and jq.
# Wakes the loop: an address that answers with another status, or ceases to answer. How long it took is detail.

# needed setting: the addresses, at most 10, with spaces between
URLS=''
# setting: seconds to wait for each
WAIT='5'

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

for tool in curl jq; do
    command -v "$tool" >/dev/null || fail "$tool is not installed"
done
[ -n "$URLS" ] || fail "set URLS at the top of this sensor"

# A site that is down is a reading, not a failure of this sensor; curl's exit code says in which way it is. The body is
# not kept, and goes on no longer than WAIT.
look() {
    figures=$(curl -sS --location --max-redirs 5 --max-time "$WAIT" --output /dev/null \
        --write-out '%{http_code} %{time_total}' --url "$1" 2>/dev/null)
    case $? in
        0) word="" ;;
        5 | 6) word="no such host" ;;
        7) word="refused" ;;
        28) word="too slow" ;;
        35 | 51 | 58 | 59 | 60) word="bad certificate" ;;
        1 | 2 | 3) fail "curl does not understand the address $1" ;;
        *) word="broken answer" ;;
    esac
    jq -n -c --arg url "$1" --arg status "${word:-${figures%% *}}" --arg seconds "${figures##* }" \
        '{ url: $url[0:200], status: $status, seconds: $seconds }'
}

# The addresses hold no pattern that would be a file's name here.
set -f
readings=$(left=10
    for url in $URLS; do
        [ "$left" -gt 0 ] || break
        look "$url" || exit 1
        left=$((left - 1))
    done) || exit 1
reading=$(printf '%s\n' "$readings" | jq -s -c '{
    signal: (map({ key: .url, value: .status }) | from_entries),
    detail: { items: map({ url, seconds }) }
}') || fail "the results could not be put together"

printf '%s\n' "$reading"
