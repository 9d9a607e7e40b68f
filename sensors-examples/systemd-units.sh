#!/bin/sh
# Which systemd units have failed.
# looop: interval=60s timeout=10s env=XDG_RUNTIME_DIR
#
# Needs: systemctl, on a machine that runs systemd.
# Wakes the loop: a unit that fails or recovers. What systemd says of each is detail.

# setting: whose units: --system, or --user for your own
SCOPE='--system'

export LC_ALL=C # bytes are bytes, and tools speak English, whatever the locale is

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

for tool in cut grep paste sed sort tr; do
    command -v "$tool" >/dev/null || fail "$tool is not installed"
done

# Lines of stdin as JSON strings with commas between: without control bytes and broken UTF-8, and each of at most 100
# bytes, because names and texts come from other people.
json_strings() {
    cut -b 1-100 | utf8 | tr -d '\000-\011\013-\037\177' | sed -e 's/["\\]/\\&/g' -e 's/.*/"&"/' | paste -s -d , -
}
utf8() {
    if command -v iconv >/dev/null; then iconv -c -f UTF-8 -t UTF-8 2>/dev/null; else tr -d '\200-\377'; fi
}

command -v systemctl >/dev/null || fail "systemctl is not available: this machine does not run systemd"
list=$(SYSTEMD_COLORS=0 systemctl "$SCOPE" list-units --state=failed --plain --no-legend --no-pager --full) ||
    fail "systemctl could not list the failed units"

# Sorted, so that the order in which systemd lists them cannot wake the loop.
lines=$(printf '%s\n' "$list" | sed -e 's/^ *//' -e '/^$/d' | sort)
count=$(printf '%s' "$lines" | grep -c '')
names=$(printf '%s' "$lines" | sed -n -e '1,20s/ .*//' -e '1,20p' | json_strings)
details=$(printf '%s' "$lines" | sed -n '1,20p' | json_strings)

printf '{"signal":{"count":%d,"failed":[%s]},"detail":{"units":[%s]}}\n' "$count" "$names" "$details"
