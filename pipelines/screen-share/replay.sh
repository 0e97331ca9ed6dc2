#!/bin/sh
# Plays what a relay captured of a shared screen. It is H.264: see ../h264/replay.sh, whose settings these are.
set -eu
exec "$(dirname "$0")/../h264/replay.sh"
