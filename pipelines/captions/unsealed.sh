#!/bin/sh
# The control for a search in the relay's capture: the same captions, not sealed, in RTP packets of the stock payloader. If
# they were not found here, not finding them in a sealed capture would say nothing.
#
#   CAPTURE   folder that gets audio.rtp
#   CAPTIONS  text file
set -eu
: "${CAPTURE:?folder for the control}" "${CAPTIONS:?file with captions}"
exec gst-launch-1.0 filesrc location="$CAPTIONS" ! text/x-raw,format=utf8 ! rtpgstpay pt=98 \
  ! rtpstreampay ! filesink location="$CAPTURE/audio.rtp"
