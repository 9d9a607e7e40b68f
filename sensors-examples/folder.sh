#!/bin/sh
# How many files lie in a folder: scans, downloads, a queue.
# looop: interval=60s timeout=10s trust=untrusted
#
# Needs: a shell and the usual tools.
# Wakes the loop: a file that comes or goes. Hidden files and folders in it do not count. Names are detail.
# Untrusted, because whoever puts a file there chooses its name.

# setting: the folder
FOLDER="$HOME/Downloads"

export LC_ALL=C # bytes are bytes, and tools speak English, whatever the locale is

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

for tool in cksum cut paste sed tr wc; do
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

[ -d "$FOLDER" ] || fail "no folder at $FOLDER"
if [ ! -r "$FOLDER" ] || [ ! -x "$FOLDER" ]; then fail "the folder $FOLDER cannot be read"; fi

# The shell's own pattern hands over any name whole, which a list of lines would not.
names() {
    for file in "$FOLDER"/*; do
        [ ! -f "$file" ] || printf '%s\0' "${file##*/}"
    done
}
count=$(names | tr -dc '\0' | wc -c)
sum=$(names | cksum | tr -c '0-9\n' '-')

printf '{"signal":{"files":%d,"sum":"%s"},"detail":{"folder":%s,"names":[%s]}}\n' \
    "$count" "$sum" "$(json_string "$FOLDER")" "$(names | tr '\n\0' '?\n' | sed -n '1,20p' | json_strings)"
