#!/bin/sh
# Plays what a relay captured. Without KEYS as somebody at the relay would try it: with the stock depayloaders and
# decoders. With KEYS as an endpoint would.
#
#   CAPTURE  folder with video.rtp and audio.rtp from the relay
#   OUT      folder that gets picture-00000.jpg and so on, sound.wav, and what went to the decoders: video.bin, audio.bin
#   KEYS     key file                              (default: none)
set -eu
: "${CAPTURE:?folder with the capture of relay.sh}" "${OUT:?folder for what is decoded}"
status=0

# Two runs: a decoder that finds nothing to decode ends its pipeline with an error.
if [ -n "${KEYS:-}" ]; then set -- rtpsframedepay ! sframedec key-file="$KEYS"; else set -- rtpvp8depay; fi
gst-launch-1.0 filesrc location="$CAPTURE/video.rtp" \
  ! application/x-rtp-stream,media=video,clock-rate=90000,encoding-name=VP8,payload=96 ! rtpstreamdepay \
  ! "$@" ! tee name=encoded ! queue ! vp8dec ! videoconvert ! jpegenc ! multifilesink location="$OUT/picture-%05d.jpg" \
  encoded. ! queue ! filesink async=false location="$OUT/video.bin" || status=1

if [ -n "${KEYS:-}" ]; then set -- rtpsframedepay ! sframedec key-file="$KEYS"; else set -- rtpopusdepay; fi
gst-launch-1.0 filesrc location="$CAPTURE/audio.rtp" \
  ! application/x-rtp-stream,media=audio,clock-rate=48000,encoding-name=OPUS,payload=97 ! rtpstreamdepay \
  ! "$@" ! tee name=encoded ! queue ! opusdec ! audioconvert ! wavenc ! filesink location="$OUT/sound.wav" \
  encoded. ! queue ! filesink async=false location="$OUT/audio.bin" || status=1

exit $status
