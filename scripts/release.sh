#!/bin/sh
# Makes a release folder: a binary named by its platform, SHA256SUMS, and what packages add to it. `--help` says more.

set -eu

usage() {
    cat <<'USAGE'
usage: sh scripts/release.sh OUT [BINARY [OS-CPU]]

Puts looop into the folder OUT as `install.sh` looks for it: `looop-OS-CPU` and its line in SHA256SUMS. Run it once for
each platform with the same OUT. Beside it go `install.sh`, and in
OUT/extra completions and manual pages for packages.

  BINARY   the program; without it cargo builds a static one for the machine's own processor and musl
  OS-CPU   what it runs on, as linux-x86_64 or darwin-aarch64 (default: this machine)
USAGE
}

case ${1:-} in
'' | -h | --help)
    usage
    [ $# -gt 0 ] || exit 2
    exit 0
    ;;
esac
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
out=$1
binary=${2:-}
os=$(uname -s | tr '[:upper:]' '[:lower:]')
cpu=$(uname -m)
[ "$cpu" != arm64 ] || cpu=aarch64
platform=${3:-$os-$cpu}

if [ -z "$binary" ]; then
    [ "$os" = linux ] || {
        printf 'error: could not build here: static binaries are built on Linux\nhint: name a BINARY\n' >&2
        exit 1
    }
    triple=$cpu-unknown-linux-musl
    (cd "$root" && cargo build --profile dist --locked --target "$triple")
    binary=${CARGO_TARGET_DIR:-$root/target}/$triple/dist/looop
fi

mkdir -p -- "$out/extra/man" "$out/extra/completions"
name=looop-$platform
cp -- "$binary" "$out/.$name.new"
chmod 755 "$out/.$name.new"
mv -f -- "$out/.$name.new" "$out/$name"
cd -- "$out"
{
    grep -v " $name\$" SHA256SUMS 2>/dev/null || :
    if command -v sha256sum >/dev/null 2>&1; then sha256sum "$name"; else shasum -a 256 "$name"; fi
} | sort -k 2 >.sums.new
mv -f .sums.new SHA256SUMS
cp -- "$root/install.sh" .
# Only a program of this machine can say what belongs to it.
if [ "$platform" = "$os-$cpu" ]; then
    "./$name" man extra/man
    for shell in bash zsh fish; do
        "./$name" completions "$shell" >"extra/completions/looop.$shell"
    done
    "./$name" --version
fi
