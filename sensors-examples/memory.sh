#!/bin/sh
# How full memory and swap are, in three levels.
# looop: interval=60s timeout=5s
#
# Needs: Linux (/proc/meminfo), awk.
# Wakes the loop: another level of memory or of swap.

# setting: percent in use from which on it is high
HIGH='80'
# setting: and from which on it is full
FULL='95'
# setting: where the figures stand
MEMINFO='/proc/meminfo'

export LC_ALL=C # tools speak English, whatever the locale is

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

command -v awk >/dev/null || fail "awk is not installed"

[ -r "$MEMINFO" ] || fail "no figures at $MEMINFO: this sensor is for Linux"

# A machine without swap has none to fill.
awk -v high="$HIGH" -v full="$FULL" '
    $1 ~ /^(MemTotal|MemAvailable|SwapTotal|SwapFree):$/ && $2 ~ /^[0-9]+$/ { kib[$1] = $2; found++ }
    function percent(total, free) { return total > 0 ? int((total - free) * 100 / total) : 0 }
    function level(used) { return used >= full ? "full" : used >= high ? "high" : "ok" }
    END {
        if (found != 4 || kib["MemTotal:"] == 0) exit 1
        memory = percent(kib["MemTotal:"], kib["MemAvailable:"])
        swap = percent(kib["SwapTotal:"], kib["SwapFree:"])
        printf "{\"signal\":{\"memory\":\"%s\",\"swap\":\"%s\"},", level(memory), level(swap)
        printf "\"detail\":{\"memory_percent\":%d,\"swap_percent\":%d,", memory, swap
        printf "\"total_kib\":%d,\"available_kib\":%d}}\n", kib["MemTotal:"], kib["MemAvailable:"]
    }' "$MEMINFO" || fail "what stands at $MEMINFO are no figures of memory"
