#!/bin/sh
# Installs looop for one user: a released binary whose checksum holds, or one that cargo builds from this clone. It never
# installs from a registry, where the name may be another project's. `--help` says more.

set -eu

# Where releases are looked for when LOOOP_RELEASE_URL does not say. Empty: nowhere, so cargo builds it.
releases=
# Every service file that looop has made says this.
mark='Written by looop service'

usage() {
    cat <<'USAGE'
usage: sh install.sh [OPTION]...

Puts one binary, its shell completions and its manual pages into your home. In a release folder it installs the binary
for this machine after a check against SHA256SUMS, and so it does with a release that LOOOP_RELEASE_URL names. In a
clone cargo builds it. Anywhere else it installs nothing and says how to build. A second run changes nothing; an older
looop is replaced in one step, and a running pulse goes on with the new one at its next beat.

  --version V        install this version, not the newest
  --from-source      build this clone with cargo, whatever is released
  --no-completions   install the binary alone, without completions and manual pages
  --prefix DIR       install into DIR/bin and DIR/share
  --dry-run          say what would be done, and do nothing
  --uninstall        remove what this script has installed, and services that looop made; never your data
  --help             print this

  LOOOP_INSTALL_DIR  the folder of the binary (default: ~/.local/bin)
  LOOOP_RELEASE_URL  where releases are: an address, file:///a/folder, or a folder
USAGE
}

# stop CODE WHAT HINT...
stop() {
    code=$1
    printf 'error: %s\n' "$2" >&2
    shift 2
    for hint; do printf 'hint: %s\n' "$hint" >&2; done
    exit "$code"
}

say() { printf '%s\n' "$*"; }

# In quotes, so that the line can be pasted whatever the folders are called.
quoted() {
    for word; do
        printf "'%s' " "$(printf '%s' "$word" | sed "s/'/'\\\\''/g")"
    done
}

# Runs a command, or says it where nothing is to be done.
run() {
    if [ "$dry_run" = yes ]; then
        say "would run: $(quoted "$@")"
    else
        "$@"
    fi
}

value() { [ $# -ge 2 ] || stop 2 "$1 needs a value" "sh install.sh --help"; }

prefix=${LOOOP_PREFIX:-}
version=
dry_run=no
what=install
extras=yes
from_source=no
changed=no
while [ $# -gt 0 ]; do
    case $1 in
    --prefix)
        value "$@"
        prefix=$2
        shift
        ;;
    --prefix=*) prefix=${1#--prefix=} ;;
    --version)
        value "$@"
        version=${2#v}
        shift
        ;;
    --version=*)
        version=${1#--version=}
        version=${version#v}
        ;;
    --from-source) from_source=yes ;;
    --no-completions) extras=no ;;
    --dry-run) dry_run=yes ;;
    --uninstall) what=uninstall ;;
    -h | --help)
        usage
        exit 0
        ;;
    *) stop 2 "could not understand '$1'" "sh install.sh --help" ;;
    esac
    shift
done

if [ -z "$prefix" ] && [ -z "${HOME:-}" ]; then
    stop 1 "could not choose where to install: HOME is not set" "name a folder with --prefix DIR"
fi
if [ -n "$prefix" ]; then
    share=$prefix/share
    bin=$prefix/bin
else
    share=${XDG_DATA_HOME:-$HOME/.local/share}
    bin=${LOOOP_INSTALL_DIR:-$HOME/.local/bin}
fi
target=$bin/looop
# What was installed beside the binary, one path a line.
list=$share/looop/installed.txt
scratch=
trap 'if [ -n "$scratch" ]; then rm -rf "$scratch"; fi' EXIT
trap 'exit 1' HUP INT TERM

# The folder of this script; empty where it comes through a pipe and is no file.
here=
[ ! -f "$0" ] || here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || here=

# True in a clone of looop: by the name of its package, which no other project has.
is_clone() { [ -n "$here" ] && grep -qs '^name = "looop-loop"$' "$here/Cargo.toml"; }

# The checksum of a file; nothing where there is no such file.
sum() {
    if [ ! -f "$1" ]; then
        :
    elif command -v sha256sum >/dev/null 2>&1; then
        sha256sum <"$1" | cut -d ' ' -f 1
    else
        shasum -a 256 <"$1" | cut -d ' ' -f 1
    fi
}

# The name of this machine's binary in a release.
asset() {
    os=$(uname -s | tr '[:upper:]' '[:lower:]')
    cpu=$(uname -m)
    case $cpu in
    amd64) cpu=x86_64 ;;
    arm64) cpu=aarch64 ;;
    esac
    printf 'looop-%s-%s' "$os" "$cpu"
}

# Where the files of the wanted release are.
release_at() {
    base=${1%/}
    case $base,$version in
    */releases,) printf '%s/latest/download' "$base" ;;
    */releases,*) printf '%s/download/v%s' "$base" "$version" ;;
    *,) printf '%s' "$base" ;;
    *) printf '%s/v%s' "$base" "$version" ;;
    esac
}

# fetch FROM TO
fetch() {
    case $1 in
    file://*) cp -- "${1#file://}" "$2" ;;
    *://*)
        if command -v curl >/dev/null 2>&1; then
            curl --proto '=https,http' -fsSL --connect-timeout 20 --retry 2 -o "$2" -- "$1"
        elif command -v wget >/dev/null 2>&1; then
            wget -q -T 20 -O "$2" -- "$1"
        else
            stop 1 "could not download anything: there is neither curl nor wget" \
                "install one of them, or build with --from-source"
        fi
        ;;
    *) cp -- "$1" "$2" ;;
    esac
}

make_scratch() {
    [ -z "$scratch" ] || return 0
    command -v sha256sum >/dev/null 2>&1 || command -v shasum >/dev/null 2>&1 ||
        stop 1 "could not check anything: there is neither sha256sum nor shasum" "install coreutils"
    if ! mkdir -p -- "$bin" 2>/dev/null || ! [ -w "$bin" ] ||
        ! scratch=$(mktemp -d "$bin/.looop-install.XXXXXX" 2>/dev/null); then
        stop 1 "could not write into $bin" "name another folder with LOOOP_INSTALL_DIR or --prefix DIR"
    fi
}

# Puts a program that runs here into its place, in one step: who runs the old one keeps it.
place() {
    new=$(sum "$1")
    if [ "$new" = "$(sum "$target")" ]; then
        say "looop $("$target" --version | cut -d ' ' -f 2) is installed already: $target"
        return
    fi
    chmod 755 "$1"
    runs=$("$1" --version 2>&1) ||
        stop 1 "could not use the new looop: it does not run on this machine: $runs" \
            "nothing was replaced; build it in a clone with --from-source"
    was=
    if [ -x "$target" ]; then
        was=$("$target" --version 2>/dev/null | cut -d ' ' -f 2) || was=
        was=" (was ${was:-there, and did not run})"
    fi
    mv -f -- "$1" "$target" || stop 1 "could not replace $target" "nothing was changed"
    changed=yes
    say "installed looop ${runs#looop } as $target$was"
}

# Downloads the wanted release and puts it into its place. 3: there is none for this machine.
from_release() {
    at=$(release_at "$1")
    name=$(asset)
    if [ "$dry_run" = yes ]; then
        say "would download $at/$name, check it against $at/SHA256SUMS and put it to $target"
        return
    fi
    make_scratch
    fetch "$at/SHA256SUMS" "$scratch/sums" ||
        stop 1 "could not download $at/SHA256SUMS" "is the network there? nothing was changed" \
            "or build it in a clone with --from-source"
    # Two spaces, or a space and a star where it was read as binary.
    wanted=$(sed -n "s/^\([0-9a-f]\{64\}\) [ *]$name\$/\1/p" "$scratch/sums")
    [ -n "$wanted" ] || return 3
    if [ "$wanted" = "$(sum "$target")" ]; then
        say "looop $("$target" --version | cut -d ' ' -f 2) is installed already: $target"
        return
    fi
    fetch "$at/$name" "$scratch/looop" ||
        stop 1 "could not download $at/$name" "nothing was changed" "or build it in a clone with --from-source"
    got=$(sum "$scratch/looop")
    [ "$wanted" = "$got" ] ||
        stop 1 "could not trust $at/$name: its checksum is $got and should be $wanted" \
            "nothing was changed; try again later, or build it in a clone with --from-source"
    place "$scratch/looop"
}

# Builds the clone with cargo and puts the result into its place.
from_cargo() {
    is_clone || stop 1 "could not install looop: there is no release for this machine here, and no clone to build" \
        "run this script in a clone of looop, where cargo builds it: sh install.sh" \
        "or in a release folder, beside SHA256SUMS; or name one with LOOOP_RELEASE_URL"
    needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$here/Cargo.toml")
    [ -z "$version" ] || stop 2 "could not build version $version: a clone has the version it has" \
        "git checkout v$version, and leave --version away"
    set -- cargo install --path "$here" --locked
    if [ "$dry_run" = yes ]; then
        say "would run: $(quoted "$@")and put the result to $target"
        return
    fi
    command -v cargo >/dev/null 2>&1 ||
        stop 1 "could not build looop: cargo is not on PATH" "install Rust (https://rustup.rs) and run this in a new shell"
    make_scratch
    "$@" --root "$scratch/built" || stop 1 "could not build looop: cargo says why above" \
        "looop needs Rust $needed or later; see rustc --version"
    place "$scratch/built/bin/looop"
}

# write PATH COMMAND...: what a command prints becomes a file.
write() {
    path=$1
    shift
    mkdir -p -- "$(dirname -- "$path")"
    "$@" >"$path.new"
    mv -f -- "$path.new" "$path"
    printf '%s\n' "$path" >>"$scratch/list"
}

# Completions and manual pages, which the new program makes itself.
install_extras() {
    if [ "$dry_run" = yes ]; then
        say "would write completions for bash, zsh and fish, and manual pages, below $share"
        return
    fi
    make_scratch
    : >"$scratch/list"
    write "$share/bash-completion/completions/looop" "$target" completions bash
    write "$share/zsh/site-functions/_looop" "$target" completions zsh
    write "$share/fish/vendor_completions.d/looop.fish" "$target" completions fish
    "$target" man "$scratch/man"
    for page in "$scratch/man"/*.1; do
        write "$share/man/man1/$(basename -- "$page")" cat -- "$page"
    done
    # What an older looop had and this one has not.
    if [ -f "$list" ]; then
        while IFS= read -r old; do
            grep -qxF -- "$old" "$scratch/list" || rm -f -- "$old"
        done <"$list"
    fi
    mkdir -p -- "$(dirname -- "$list")"
    mv -f -- "$scratch/list" "$list"
}

uninstall() {
    units=${XDG_CONFIG_HOME:-${HOME:-/nonexistent}/.config}/systemd/user
    agents=${HOME:-/nonexistent}/Library/LaunchAgents
    for unit in "$units"/looop*.service; do
        if grep -qsF "$mark" "$unit"; then
            ! command -v systemctl >/dev/null 2>&1 ||
                run systemctl --user disable --now "$(basename -- "$unit")" || :
            run rm -f -- "$unit"
        fi
    done
    for unit in "$agents"/local.looop*.plist; do
        if grep -qsF "$mark" "$unit"; then
            ! command -v launchctl >/dev/null 2>&1 || run launchctl unload -w "$unit" || :
            run rm -f -- "$unit"
        fi
    done
    if [ -f "$list" ]; then
        while IFS= read -r path; do
            run rm -f -- "$path"
        done <"$list"
        run rm -f -- "$list"
        run rmdir -- "$(dirname -- "$list")" || :
    fi
    if [ ! -e "$target" ] && [ ! -L "$target" ]; then
        say "there is no $target"
        return
    fi
    run rm -f -- "$target"
    [ "$dry_run" = yes ] || say "removed looop; your data and your config are where they were"
}

if [ "$what" = uninstall ]; then
    uninstall
    exit
fi

# A release folder has the checksums beside this script. A release that has nothing for this machine is no reason to give up.
url=${LOOOP_RELEASE_URL:-$releases}
if [ -z "$url" ] && [ -n "$here" ] && [ -f "$here/SHA256SUMS" ]; then
    url=$here
fi
code=3
if [ -n "$url" ] && [ "$from_source" = no ]; then
    code=0
    from_release "$url" || code=$?
    [ "$code" != 3 ] || say "there is no release for $(uname -s) on $(uname -m) in $url"
fi
case $code in
0) ;;
3) from_cargo ;;
*) exit "$code" ;;
esac
if [ "$extras" = yes ] && { [ "$changed" = yes ] || [ ! -f "$list" ]; }; then
    install_extras
fi
[ "$dry_run" = no ] && [ "$changed" = yes ] || exit 0

# A relative folder stands on PATH by its whole name, if at all.
bin=$(CDPATH='' cd -- "$bin" && pwd)
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
