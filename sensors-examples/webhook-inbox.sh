#!/bin/sh
# What Sentry or another webhook left in a file.
# looop: interval=30s timeout=20s trust=untrusted
#
# Needs: jq, and a program that appends each request's body as one line.
# Wakes the loop: a subject that is new among the last ones, or gets another state. How often, when and what is detail.
# Untrusted, because whoever causes an event chooses its words.

# setting: the file with one JSON object a line
FILE="$HOME/.local/share/webhooks/inbox.jsonl"

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

for tool in jq tail; do
    command -v "$tool" >/dev/null || fail "$tool is not installed"
done
[ -f "$FILE" ] || fail "no file at $FILE"
[ -r "$FILE" ] || fail "the file $FILE cannot be read"

# The end of the file, so that an old and long one costs no more. A line that began before it, or is still being
# written, is not JSON and only counted. What Sentry sends names an issue or an event; of others the first of some
# usual words is the subject, and the first of others the state.
reading=$(tail -c 2000000 "$FILE" | tail -n 500 | jq -R 'fromjson? // null | objects // null' | jq -s -c '
    def text($n): tostring | .[0:$n] | gsub("\\p{Cc}"; " ");
    def fit: until((tojson | utf8bytelength) <= 8000 or .detail.items == []; .detail.items |= .[:-1]);
    def inner: if (.data | type) == "object" then .data.issue // .data.event // .data.error // .data else . end
        | objects // {};
    def subject: (inner | .shortId // .issue_id // .key // .title // .subject // .message // .id // .name)
        // .event // .type // "event";
    def state: .action // (inner | .status // .state // .level) // "";
    if length > 0 and all(. == null) then error("no line is a JSON object") else . end
    | (map(select(. == null)) | length) as $unreadable
    | map(select(. != null) | { subject: (subject | text(60)), state: (state | text(20)),
        says: (inner | .title // .message // .text // "" | text(200)),
        at: (inner | .lastSeen // .datetime // .timestamp // .time // .date // "" | text(30)) })
    | to_entries | map(.value + { n: .key }) | group_by(.subject) | map(.[-1] + { times: length })
    | sort_by(.n) | reverse | map(del(.n))
    | {
        signal: { subjects: (.[:20] | map({ key: .subject, value: .state }) | from_entries) },
        detail: { unreadable_lines: $unreadable, items: .[:20] }
    } | fit') || fail "$FILE holds no JSON lines"
[ -n "$reading" ] || fail "nothing could be read from $FILE"

printf '%s\n' "$reading"
