#!/bin/sh
# How many things lie in an inbox: unread mail of a maildir, or the files of a folder.
# looop: interval=60s timeout=10s trust=untrusted env=LOOOP_SENSOR_INBOX
#
# Needs: od, tr and awk.
# Wakes the loop: another number of things. Their names are detail.
# Untrusted, because whoever sends mail or a file also chooses its name.

INBOX="${LOOOP_SENSOR_INBOX:-$HOME/Maildir}" # a maildir (its new/ is counted) or any folder
NAMES_MAX=20                                 # names in detail

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

folder=$INBOX kind=folder
if [ -d "$INBOX/new" ] && [ -d "$INBOX/cur" ]; then folder=$INBOX/new kind=maildir; fi
[ -d "$folder" ] || fail "no folder at $folder"
if [ ! -r "$folder" ] || [ ! -x "$folder" ]; then fail "the folder $folder cannot be read"; fi

# The shell's own pattern hands over any name whole, which a list of lines would not. Hidden files do not count.
count=0
for file in "$folder"/*; do
    [ ! -f "$file" ] || count=$((count + 1))
done

first_names() {
    left=$NAMES_MAX
    for file in "$folder"/*; do
        [ "$left" -gt 0 ] || return 0
        [ -f "$file" ] || continue
        left=$((left - 1))
        printf '%s\0' "${file##*/}"
    done
}

printf '{"signal":{"count":%d},"detail":{"inbox":%s,"kind":"%s","names":[%s]}}\n' \
    "$count" "$(json_string "$INBOX")" "$kind" "$(first_names | json_strings)"
