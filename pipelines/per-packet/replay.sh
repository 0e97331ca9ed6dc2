#!/bin/sh
# Plays what a relay captured. Without KEYS as somebody at the relay would try it: with the stock depayloader and
# decoder. With KEYS as an endpoint would.
#
#   CAPTURE  folder with video.rtp from the relay
#   OUT      folder that gets picture-00000.jpg and so on, and video.bin: what went to the decoder
#   KEYS     key file                              (default: none)
set -eu
: "${CAPTURE:?folder with the capture of relay.sh}" "${OUT:?folder for what is decoded}"
if [ -n "${KEYS:-}" ]; then set -- sframedec key-file="$KEYS" ! rtpvp8depay; else set -- rtpvp8depay; fi
exec gst-launch-1.0 filesrc location="$CAPTURE/video.rtp" \
  ! application/x-rtp-stream,media=video,clock-rate=90000,encoding-name=VP8,payload=96 ! rtpstreamdepay \
  ! "$@" ! tee name=encoded ! queue ! vp8dec ! videoconvert ! jpegenc ! multifilesink location="$OUT/picture-%05d.jpg" \
  encoded. ! queue ! filesink async=false location="$OUT/video.bin"
