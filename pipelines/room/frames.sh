#!/bin/sh
# Joins what a relay captured of a room to sealed frames again, and opens none of them: nobody outside the room can, and
# the members themselves have forgotten the keys. The statistics at its end tell whether the capture is whole.
#
#   CAPTURE  folder with video.rtp and audio.rtp from relay.sh
set -eu
: "${CAPTURE:?folder with the capture of relay.sh}"
exec gst-launch-1.0 -m \
  filesrc location="$CAPTURE/video.rtp" \
    ! application/x-rtp-stream,media=video,clock-rate=90000,encoding-name=VP8,payload=96 ! rtpstreamdepay \
    ! rtpsframedepay name=join-video ! fakesink \
  filesrc location="$CAPTURE/audio.rtp" \
    ! application/x-rtp-stream,media=audio,clock-rate=48000,encoding-name=OPUS,payload=97 ! rtpstreamdepay \
    ! rtpsframedepay name=join-audio ! fakesink
