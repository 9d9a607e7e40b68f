#!/bin/sh
# Makes docs/demo.cast and docs/demo.svg anew: `looop demo` in a worker of looop, recorded by looop, drawn by svg-term.
#
#   npm install --prefix /tmp/svg-term svg-term-cli@2.1.1
#   docs/screencast.sh target/release/looop /tmp/svg-term/node_modules/.bin/svg-term
set -eu
looop=$(realpath "$1") draw=$(realpath "$2") docs=$(dirname "$(realpath "$0")")
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT
export HOME="$dir/home" LOOOP_DATA_DIR="$dir/data" LOOOP_CONFIG="$dir/looop.json"
mkdir "$HOME"
cd "$dir"
# The worker runs as you, as the demo would, and at a speed that can be read.
printf '{ "path": "/usr/local/bin:/usr/bin:/bin", "sandbox": { "worker": "none" } }\n' > "$LOOOP_CONFIG"
chmod 600 "$LOOOP_CONFIG"
"$looop" init > init.txt
cat > slow.sh <<SLOW
cd "$dir"
"$looop" --color always demo --dir "$dir/demo" 2>&1 | fold -s -w 79 | while IFS= read -r line; do
    case \$line in
    The\ files\ are*) break ;;
    '') sleep 1.6 ;;
    *'$ looop'*) sleep 0.7 ;;
    *) sleep 0.12 ;;
    esac
    printf '%s\n' "\$line" | sed "s|$dir|~|g"
done
sleep 4
SLOW
"$looop" worker start demo -- sh "$dir/slow.sh" > started.txt
until "$looop" ls | grep -Eq 'exited|done|failed'; do sleep 1; done
"$looop" logs demo --cast > "$docs/demo.cast"
"$draw" --in "$docs/demo.cast" --out "$docs/demo.svg" --window --no-cursor --padding 12
ls -l "$docs/demo.cast" "$docs/demo.svg"
