#!/bin/sh
# Which systemd units have failed.
# looop: interval=60s timeout=10s
#
# Needs: systemctl, on a machine that runs systemd. Elsewhere it fails and says so.
# Wakes the loop: a unit that fails or recovers. What systemd says of each is detail.

SCOPE="--system" # or --user, which needs env=XDG_RUNTIME_DIR in the looop line above

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

command -v systemctl >/dev/null || fail "systemctl is not available: this machine does not run systemd"
list=$(SYSTEMD_COLORS=0 systemctl "$SCOPE" list-units --state=failed --plain --no-legend --no-pager --full) ||
    fail "systemctl could not list the failed units"

# Sorted, so that the order in which systemd lists them cannot wake the loop.
lines=$(printf '%s\n' "$list" | sed -e 's/^ *//' -e '/^$/d' | sort)
units="" details=""
if [ -n "$lines" ]; then
    units=$(printf '%s\n' "$lines" | sed 's/ .*//' | tr '\n' '\0' | json_strings)
    details=$(printf '%s\n' "$lines" | tr '\n' '\0' | json_strings)
fi

printf '{"signal":{"failed":[%s]},"detail":{"units":[%s]}}\n' "$units" "$details"
