#!/bin/sh
# The control for replay.sh: a little of the same media, not sealed, in a file like the one that the relay captures.
# If replay.sh could not play this, its finding nothing in a sealed one would say nothing.
#
#   CAPTURE  folder that gets video.rtp
set -eu
: "${CAPTURE:?folder for the control}"
exec gst-launch-1.0 videotestsrc num-buffers=15 pattern=smpte75 horizontal-speed=2 \
  ! video/x-raw,format=I420,width=1920,height=1080,framerate=15/1 \
  ! x264enc tune=zerolatency speed-preset=ultrafast bitrate=2500 ! rtph264pay pt=96 config-interval=-1 \
  ! rtpstreampay ! filesink location="$CAPTURE/video.rtp"
