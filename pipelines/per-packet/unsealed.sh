#!/bin/sh
# The control for replay.sh: a little of the same media, not sealed, in a file like the one that the relay captures.
# If replay.sh could not play this, its finding nothing in a sealed one would say nothing.
#
#   CAPTURE  folder that gets video.rtp
set -eu
: "${CAPTURE:?folder for the control}"
exec gst-launch-1.0 videotestsrc num-buffers=30 horizontal-speed=3 ! video/x-raw,width=640,height=360,framerate=30/1 \
  ! vp8enc deadline=1 target-bitrate=800000 ! rtpvp8pay pt=96 mtu=1200 \
  ! rtpstreampay ! filesink location="$CAPTURE/video.rtp"
