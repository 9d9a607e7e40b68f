#!/bin/sh
# What day it is, so that a new day (and nothing smaller) wakes the loop.
# looop: interval=300s timeout=5s

# One call of date: two could fall on either side of midnight. English names, since goals refer to them.
LC_ALL=C exec date '+{"signal":{"date":"%Y-%m-%d","weekday":"%A"},"detail":{"time":"%H:%M","timezone":"%z"}}'
