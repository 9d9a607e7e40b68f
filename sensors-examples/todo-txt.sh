#!/bin/sh
# What is open in a todo.txt file: how many tasks, how many of priority A, how many due today or before.
# looop: interval=60s timeout=5s trust=untrusted env=LOOOP_SENSOR_TODO
#
# Needs: a todo.txt (one task per line, "x " before a done one, "(A) " before a priority, due:2026-11-30 anywhere).
# Wakes the loop: any edit of the open tasks, and a day on which a task falls due.
# Untrusted, because such a file is often shared. If you alone write yours, you may take that word out.

TODO_FILE="${LOOOP_SENSOR_TODO:-$HOME/todo.txt}"
TASKS_MAX=20 # open tasks named in detail, by priority

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

[ -f "$TODO_FILE" ] || fail "no todo.txt at $TODO_FILE"
[ -r "$TODO_FILE" ] || fail "the file $TODO_FILE cannot be read"

open_tasks() { tr -d '\0\r' <"$TODO_FILE" | grep -v -e '^x ' -e '^[[:space:]]*$'; }

# In the order of the bytes, "(A) …" comes before "(B) …" and both before most words: that is the order wanted.
figures=$(open_tasks | awk -v today="$(date +%Y-%m-%d)" '
    /^\(A\) / { first++ }
    match($0, /(^| )due:[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]/) {
        if (substr($0, RSTART + RLENGTH - 10, 10) <= today) due++
    }
    END { printf "\"open\":%d,\"priority_a\":%d,\"due\":%d", NR, first, due }')
sum=$(open_tasks | cksum | tr -c '0-9\n' '-')
tasks=$(open_tasks | sort | sed -n "1,${TASKS_MAX}p" | tr '\n' '\0' | json_strings)

printf '{"signal":{%s,"sum":"%s"},"detail":{"file":%s,"tasks":[%s]}}\n' \
    "$figures" "$sum" "$(json_string "$TODO_FILE")" "$tasks"
