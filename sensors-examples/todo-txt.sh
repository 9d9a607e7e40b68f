#!/bin/sh
# What is open in a todo.txt, and what is due.
# looop: interval=60s timeout=5s trust=untrusted
#
# Needs: awk, and a todo.txt.
# A task a line, "x " before a done one, "(A) " before a priority, due:2026-11-30 anywhere.
# Wakes the loop: any edit of the open tasks, and a day on which a task falls due. The tasks are detail.
# Untrusted, because such a file is often shared. If you alone write yours, you may take that word out.

# setting: the file
TASKS_FILE="$HOME/todo.txt"

export LC_ALL=C # bytes are bytes, and tools speak English, whatever the locale is

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

for tool in awk cksum cut date grep paste sed sort tr; do
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

[ -f "$TASKS_FILE" ] || fail "no todo.txt at $TASKS_FILE"
[ -r "$TASKS_FILE" ] || fail "the file $TASKS_FILE cannot be read"

open_tasks() { tr -d '\0\r' <"$TASKS_FILE" | grep -v -e '^x ' -e '^[[:space:]]*$'; }

# In the order of the bytes, "(A) …" comes before "(B) …" and both before most words: that is the order wanted.
figures=$(open_tasks | awk -v today="$(date +%Y-%m-%d)" '
    /^\(A\) / { first++ }
    match($0, /(^| )due:[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]/) {
        if (substr($0, RSTART + RLENGTH - 10, 10) <= today) due++
    }
    END { printf "\"open\":%d,\"priority_a\":%d,\"due\":%d", NR, first, due }')
sum=$(open_tasks | cksum | tr -c '0-9\n' '-')
tasks=$(open_tasks | sort | sed -n '1,20p' | json_strings)

printf '{"signal":{%s,"sum":"%s"},"detail":{"file":%s,"tasks":[%s]}}\n' \
    "$figures" "$sum" "$(json_string "$TASKS_FILE")" "$tasks"
