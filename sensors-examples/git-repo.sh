#!/bin/sh
# What state a git checkout is in: branch, open changes, distance to its upstream, and how many marks are left to do.
# looop: interval=60s timeout=20s trust=untrusted env=LOOOP_SENSOR_REPO
#
# Needs: git. It only reads, and takes no lock that a git command of yours could run into.
# Wakes the loop: another branch, another number of changed files, of commits ahead or behind, or of marks.
# Untrusted, because branch names, file names and subjects may be written by other people.

REPO="${LOOOP_SENSOR_REPO:-$HOME/src/app}" # the checkout to look at
MARK="TODO"                                # the word that counts as left to do
FILES_MAX=20                               # changed files named in detail

export LC_ALL=C # bytes are bytes, and tools speak English, whatever the locale is

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

# Whatever the repository's config says, reading it starts no program of its choice.
in_repo() {
    GIT_OPTIONAL_LOCKS=0 git -C "$REPO" -c core.fsmonitor=false -c core.quotePath=false -c log.showSignature=false "$@"
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

top=$(in_repo rev-parse --show-toplevel) || fail "no git checkout at $REPO"
REPO=$top # status and grep then see the whole tree, also if REPO named a folder in it

# A detached HEAD has no branch, a branch may have no upstream, a new repository has no commit: null, not a failure.
branch=null ahead=null behind=null subject=null
if name=$(in_repo symbolic-ref --quiet --short HEAD); then branch=$(json_string "$name"); fi
if counts=$(in_repo rev-list --left-right --count 'HEAD...@{upstream}' 2>/dev/null); then
    ahead=${counts%%[!0-9]*} behind=${counts##*[!0-9]}
fi
if text=$(in_repo log -1 --format=%s 2>/dev/null); then subject=$(json_string "$text"); fi

# git quotes a name with a newline in it, so a line is a file.
changes=$(in_repo status --porcelain) || fail "git status failed in $REPO"
dirty=$(printf '%s' "$changes" | grep -c '')
files=""
if [ -n "$changes" ]; then
    files=$(printf '%s\n' "$changes" | sed -n "1,${FILES_MAX}p" | tr '\n' '\0' | json_strings)
fi

marks=$(in_repo grep -I -c -w -F -e "$MARK")
[ $? -le 1 ] || fail "git grep failed in $REPO" # 1 only says that there are none
todo=$(printf '%s\n' "$marks" | awk -F: '{ n += $NF } END { printf "%d", n }')

printf '{"signal":{"branch":%s,"dirty_files":%d,"ahead":%s,"behind":%s,"todo":%d},' \
    "$branch" "$dirty" "$ahead" "$behind" "$todo"
printf '"detail":{"repo":%s,"last_commit":%s,"dirty":[%s]}}\n' "$(json_string "$REPO")" "$subject" "$files"
