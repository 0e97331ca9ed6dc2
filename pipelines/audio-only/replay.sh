#!/bin/sh
# Plays what a relay captured. Without KEYS as somebody at the relay would try it: with the stock depayloader and
# decoder. With KEYS as an endpoint would.
#
#   CAPTURE  folder with audio.rtp from the relay
#   OUT      folder that gets sound.wav and audio.bin: what went to the decoder
#   KEYS     key file                              (default: none)
set -eu
: "${CAPTURE:?folder with the capture of relay.sh}" "${OUT:?folder for what is decoded}"
if [ -n "${KEYS:-}" ]; then set -- rtpsframedepay ! sframedec key-file="$KEYS"; else set -- rtpopusdepay; fi
exec gst-launch-1.0 filesrc location="$CAPTURE/audio.rtp" \
  ! application/x-rtp-stream,media=audio,clock-rate=48000,encoding-name=OPUS,payload=97 ! rtpstreamdepay \
  ! "$@" ! tee name=encoded ! queue ! opusdec ! audioconvert ! wavenc ! filesink location="$OUT/sound.wav" \
  encoded. ! queue ! filesink async=false location="$OUT/audio.bin"
