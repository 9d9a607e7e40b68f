#!/bin/sh
# How full the disks are, in steps of 5 percent, so that a growing log does not wake the loop at each beat.
# looop: interval=300s timeout=10s
#
# Needs: df and awk.
# Wakes the loop: a disk that passes a step, up or down.

PATHS="/"   # one path per file system to watch, with spaces between them
STEP=5      # percent

export LC_ALL=C # bytes are bytes, and tools speak English, whatever the locale is

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

# Each NUL-terminated item of stdin becomes a JSON string, with commas between them. The result is plain ASCII,
# whatever the bytes were: names and texts come from other people, and one stray byte must not cost the reading.
json_strings() {
    od -An -v -tu1 | awk '
        function put(c) {
            if (!open) { printf "%s\"", comma; comma = ","; open = 1 }
            if (c == 34 || c == 92) printf "\\%c", c
            else if (c >= 32 && c < 127) printf "%c", c
            else if (c < 65536) printf "\\u%04x", c
            else printf "\\u%04x\\u%04x", 55296 + int((c - 65536) / 1024), 56320 + c % 1024
        }
        function cut_short() { if (need) { need = 0; put(65533) } }
        function end_item() { if (!open) printf "%s\"", comma; printf "\""; comma = ","; open = 0 }
        # need: bytes of this character still to come. least: below it, the form was too long for its value.
        function take(b) {
            if (need && b >= 128 && b < 192) {
                code = code * 64 + b - 128
                if (--need) return
                put((code < least || code > 1114111 || (code >= 55296 && code < 57344)) ? 65533 : code)
                return
            }
            cut_short()
            if (b == 0) end_item()
            else if (b < 128) put(b)
            else if (b >= 192 && b < 224) { need = 1; code = b - 192; least = 128 }
            else if (b >= 224 && b < 240) { need = 2; code = b - 224; least = 2048 }
            else if (b >= 240 && b < 248) { need = 3; code = b - 240; least = 65536 }
            else put(65533)
        }
        { for (i = 1; i <= NF; i++) take($i + 0) }
        END { cut_short(); if (open) end_item() }'
}
json_string() { printf '%s\0' "$1" | json_strings; }

# `df -P` has one line per file system whose columns hold no spaces, save for the two names at its ends: the
# percent sign finds the middle.
row() {
    df -P -k -- "$1" | awk -v step="$STEP" '
        NR == 2 {
            for (i = 4; i <= NF; i++) if ($i ~ /^[0-9]+%$/) break
            if (i > NF) exit
            used = $i + 0
            printf "%d %.0f %.0f %.0f", used - used % step, $(i - 3) * 1024, $(i - 2) * 1024, $(i - 1) * 1024
        }'
}

signal="" detail="" comma=""
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
