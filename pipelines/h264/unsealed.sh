#!/bin/sh
# The control for replay.sh: a little of the same media, not sealed, in a file like the one that the relay captures.
# If replay.sh could not play this, its finding nothing in a sealed one would say nothing.
#
#   CAPTURE  folder that gets video.rtp
set -eu
: "${CAPTURE:?folder for the control}"
exec gst-launch-1.0 videotestsrc num-buffers=30 horizontal-speed=3 \
  ! video/x-raw,format=I420,width=640,height=360,framerate=30/1 \
  ! x264enc tune=zerolatency speed-preset=ultrafast bitrate=800 ! rtph264pay pt=96 config-interval=-1 \
  ! rtpstreampay ! filesink location="$CAPTURE/video.rtp"
