#!/bin/sh
# How busy this machine is, in three levels.
# looop: interval=60s timeout=5s
#
# Needs: /proc/loadavg or uptime, getconf or nproc, awk.
# Wakes the loop: another level. The average of 5 minutes decides, so that one build does not.

# setting: percent of the cores from which on it is busy
BUSY='50'
# setting: and from which on it is overloaded
OVERLOADED='150'

export LC_ALL=C # bytes are bytes, and tools speak English, whatever the locale is

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

for tool in awk cat sed tr; do
    command -v "$tool" >/dev/null || fail "$tool is not installed"
done

if [ -r /proc/loadavg ]; then
    averages=$(cat /proc/loadavg)
else
    # "load average: 0.10, 0.20, 0.30" on most systems, "load averages: 0.10 0.20 0.30" on BSD and macOS.
    averages=$(uptime | sed -n 's/.*load averages\{0,1\}: *//p' | tr -d ',')
fi
cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || nproc) || fail "the number of cores cannot be found out"

printf '%s\n' "$averages" | awk -v cores="$cores" -v busy="$BUSY" -v overloaded="$OVERLOADED" '
    NR == 1 && $1 ~ /^[0-9]+\.[0-9]+$/ && $2 ~ /^[0-9]+\.[0-9]+$/ && $3 ~ /^[0-9]+\.[0-9]+$/ && cores > 0 {
        percent = $2 * 100 / cores
        level = percent >= overloaded ? "overloaded" : percent >= busy ? "busy" : "idle"
        printf "{\"signal\":{\"level\":\"%s\"},", level
        printf "\"detail\":{\"cores\":%d,\"load_1m\":%s,\"load_5m\":%s,\"load_15m\":%s}}\n", cores, $1, $2, $3
        found = 1
    }
    END { exit !found }' || fail "no load average to be read on this machine"
