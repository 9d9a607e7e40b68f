#!/bin/sh
# Local git checkouts: branch, changes, distance, stale branches.
# looop: interval=60s timeout=30s trust=untrusted
#
# Needs: git and awk.
# It only reads, and takes no lock that a git command of yours could run into.
# Wakes the loop: another branch, another number of changed files, of commits ahead or behind, or of stale branches.
# Untrusted, because branch names, file names and subjects may be written by other people.

# setting: the checkouts, at most 8, with colons between
REPOS="$HOME/src/app"
# setting: days without a commit after which a local branch is stale
STALE_DAYS='30'

export LC_ALL=C # bytes are bytes, and tools speak English, whatever the locale is

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

for tool in awk cut date git grep paste sed tr; do
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

# Whatever the repository's config says, reading it starts no program of its choice.
in_repo() {
    GIT_OPTIONAL_LOCKS=0 git -C "$repo" -c core.fsmonitor=false -c core.quotePath=false -c log.showSignature=false "$@"
}

# Sets signal and detail to what one checkout, $repo, is like.
look() {
    top=$(in_repo rev-parse --show-toplevel 2>/dev/null) || fail "no git checkout at $repo"
    repo=$top # status then sees the whole tree, also if a folder in it was named

    # A detached HEAD has no branch, a branch may have no upstream, a new repository has no commit: null, not a failure.
    branch=null ahead=null behind=null subject=null
    if name=$(in_repo symbolic-ref --quiet --short HEAD); then branch=$(json_string "$name"); fi
    if counts=$(in_repo rev-list --left-right --count 'HEAD...@{upstream}' 2>/dev/null); then
        ahead=${counts%%[!0-9]*} behind=${counts##*[!0-9]}
    fi
    if text=$(in_repo log -1 --format=%s 2>/dev/null); then subject=$(json_string "$text"); fi

    # git quotes a name with a line break in it, so a line is a file.
    changes=$(in_repo status --porcelain) || fail "git status failed in $repo"
    dirty=$(printf '%s' "$changes" | grep -c '')
    files=$(printf '%s' "$changes" | sed -n '1,10p' | json_strings)

    branches=$(in_repo for-each-ref --sort=committerdate --format='%(committerdate:unix) %(refname:short)' refs/heads) ||
        fail "git could not list the branches of $repo"
    stale=$(printf '%s\n' "$branches" | awk -v before="$(($(date +%s) - STALE_DAYS * 86400))" '
        $1 != "" && $1 + 0 < before { sub(/^[0-9]* /, ""); print }')
    stale_count=$(printf '%s' "$stale" | grep -c '')

    signal="{\"branch\":$branch,\"dirty_files\":$dirty,\"ahead\":$ahead,\"behind\":$behind,\"stale_branches\":$stale_count}"
    detail="{\"last_commit\":$subject,\"dirty\":[$files],\"stale\":[$(printf '%s' "$stale" | sed -n '1,5p' | json_strings)]}"
}

signals="" details="" comma="" left=8 room=2500
while [ -n "$REPOS" ] && [ "$left" -gt 0 ]; do
    repo=${REPOS%%:*}
    case $REPOS in *:*) REPOS=${REPOS#*:} ;; *) REPOS="" ;; esac
    [ -n "$repo" ] || continue
    key=$(json_string "$repo")
    look
    # Where many have much to tell, the later ones tell only their state.
    if [ ${#detail} -gt "$room" ]; then detail='"left out"'; fi
    room=$((room - ${#detail}))
    signals="$signals$comma$key:$signal" details="$details$comma$key:$detail"
    comma=, left=$((left - 1))
done
[ -n "$signals" ] || fail "REPOS at the top of this sensor names no checkout"

printf '{"signal":{%s},"detail":{%s}}\n' "$signals" "$details"
