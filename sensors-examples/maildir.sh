#!/bin/sh
# New mail in a maildir: how much, from whom, about what.
# looop: interval=60s timeout=20s trust=untrusted
#
# Needs: awk, and a maildir.
# A maildir is filled by mbsync, getmail, offlineimap or a mail server.
# Wakes the loop: mail that comes, or leaves new/ because it was read. Senders and subjects are detail.
# Untrusted, because anybody can send mail.

# setting: the maildir, the folder with new/ and cur/ in it
MAILDIR="$HOME/Maildir"

export LC_ALL=C # bytes are bytes, and tools speak English, whatever the locale is

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

for tool in awk cksum cut grep head paste sed sort tail tr wc; do
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

new=$MAILDIR/new
[ -d "$new" ] || fail "no maildir at $MAILDIR: it has no folder new/"
if [ ! -r "$new" ] || [ ! -x "$new" ]; then fail "the folder $new cannot be read"; fi

names() {
    for file in "$new"/*; do
        [ ! -f "$file" ] || printf '%s\0' "${file##*/}"
    done
}
count=$(names | tr -dc '\0' | wc -c)
sum=$(names | cksum | tr -c '0-9\n' '-')

# The names begin with the time of delivery, so the last ones are the newest. A header may go on in a second line, which
# is left out; what it holds is shown as it stands.
headers() {
    for file in "$new"/*; do
        [ ! -f "$file" ] || printf '%s\n' "${file##*/}" | grep -v '/' # a name with a line break is no mail's
    done | sort | tail -n 10 | while read -r name; do
        [ -f "$new/$name" ] || continue
        head -c 20000 "$new/$name" | tr -d '\000\r' | sed -e '/^$/q' |
            awk 'tolower($0) ~ /^from:/ && !from { from = substr($0, 6, 40) }
                tolower($0) ~ /^subject:/ && !subject { subject = substr($0, 9, 55) }
                END { sub(/^ */, "", from); sub(/^ */, "", subject); print from " | " subject }'
    done
}

printf '{"signal":{"new":%d,"sum":"%s"},"detail":{"maildir":%s,"newest":[%s]}}\n' \
    "$count" "$sum" "$(json_string "$MAILDIR")" "$(headers | json_strings)"
