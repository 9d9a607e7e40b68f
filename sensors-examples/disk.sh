#!/bin/sh
# How full the disks are, in steps.
# looop: interval=300s timeout=10s
#
# Needs: df and awk.
# Wakes the loop: a disk that passes a step, up or down. Bytes are detail.

# setting: one path per file system to watch, with spaces between them
PATHS='/'
# setting: how wide a step is, in percent
STEP='5'

export LC_ALL=C # bytes are bytes, and tools speak English, whatever the locale is

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

for tool in awk cut df paste sed tr; do
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
json_string() { printf '%s' "$1" | { tr '\n' ' ' && echo; } | json_strings; }

# `df -P` has one line per file system whose columns hold no spaces, save for the two names at its ends: the
# percent sign finds the middle.
row() {
    df -P -k -- "$1" | awk -v step="$STEP" '
        NR == 2 {
            for (i = 4; i <= NF; i++) if ($i ~ /^[0-9]+%$/) break
            if (i > NF || step < 1) exit
            used = $i + 0
            printf "%d %.0f %.0f %.0f", used - used % step, $(i - 3) * 1024, $(i - 2) * 1024, $(i - 1) * 1024
        }'
}

signal="" detail="" comma=""
set -f # no pattern in a path
for path in $PATHS; do
    figures=$(row "$path")
    [ -n "$figures" ] || fail "df has no figures for $path"
    read -r percent total used free <<FIGURES
$figures
FIGURES
    name=$(json_string "$path")
    signal="$signal$comma$name:$percent"
    detail="$detail$comma$name:{\"total_bytes\":$total,\"used_bytes\":$used,\"free_bytes\":$free}"
    comma=,
done
[ -n "$signal" ] || fail "PATHS at the top of this sensor names no path"

printf '{"signal":{"used_percent":{%s}},"detail":{%s}}\n' "$signal" "$detail"
