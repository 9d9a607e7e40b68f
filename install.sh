#!/bin/sh
# Builds looop from the clone that this file stands in, and installs the one binary.

set -eu

usage() {
    cat <<'USAGE'
usage: sh install.sh [--prefix DIR] [--dry-run]

Builds looop from this clone and puts it into DIR/bin.

  --prefix DIR   where to install (default: $LOOOP_PREFIX, else ~/.local)
  --dry-run      print the command and run nothing
  --help         print this
USAGE
}

# stop CODE WHAT HINT
stop() {
    printf 'error: %s\n' "$2" >&2
    printf 'hint: %s\n' "$3" >&2
    exit "$1"
}

prefix=${LOOOP_PREFIX:-}
dry_run=no
while [ $# -gt 0 ]; do
    case $1 in
    --prefix)
        [ $# -ge 2 ] || stop 2 "--prefix needs a folder" "sh install.sh --prefix ~/.local"
        prefix=$2
        shift
        ;;
    --prefix=*) prefix=${1#--prefix=} ;;
    --dry-run) dry_run=yes ;;
    -h | --help)
        usage
        exit 0
        ;;
    *) stop 2 "could not understand '$1'" "sh install.sh --help" ;;
    esac
    shift
done
if [ -z "$prefix" ]; then
    [ -n "${HOME:-}" ] || stop 1 "could not choose where to install: HOME is not set" "name a folder with --prefix DIR"
    prefix=$HOME/.local
fi

clone=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
[ -f "$clone/Cargo.toml" ] || stop 1 "could not find Cargo.toml beside this script" "run it from a clone of looop"

set -- cargo install --path "$clone" --locked --root "$prefix"
if [ "$dry_run" = yes ]; then
    # In quotes, so that the line can be pasted whatever the folders are called.
    for word; do
        printf "'%s' " "$(printf '%s' "$word" | sed "s/'/'\\\\''/g")"
    done
    printf '\n'
    exit 0
fi

command -v cargo >/dev/null 2>&1 ||
    stop 1 "could not build looop: cargo is not on PATH" "install Rust (https://rustup.rs) and run this in a new shell"
needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$clone/Cargo.toml")
"$@" || stop 1 "could not build looop: cargo says why above" "looop needs Rust $needed or later; see rustc --version"

printf '\nlooop is installed: %s/bin/looop\n' "$prefix"
# A relative prefix stands on PATH by its whole name, if at all.
bin=$(CDPATH='' cd -- "$prefix/bin" && pwd)
case ":${PATH:-}:" in
*":$bin:"*) ;;
*)
    printf '\nThat folder is not on your PATH. Add this line to the start-up file of your shell:\n'
    printf "    export PATH=\"%s:\$PATH\"\n" "$bin"
    ;;
esac
cat <<'NEXT'

Next:
    looop demo    watch a few beats in a scratch folder
    looop init    make your own data dir, then write your first goal
NEXT
