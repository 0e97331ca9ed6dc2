#!/bin/sh
# Plays what a relay captured, as an endpoint would: with the keys. The video alone, without captions in it.
#
#   CAPTURE  folder with video.rtp and audio.rtp from the relay; the second one has the text
#   OUT      folder that gets picture-00000.jpg and so on, and captions.txt
#   KEYS     key file
set -eu
: "${CAPTURE:?folder with the capture of relay.sh}" "${OUT:?folder for what is decoded}" "${KEYS:?path of the key file}"
exec gst-launch-1.0 \
  filesrc location="$CAPTURE/video.rtp" \
    ! application/x-rtp-stream,media=video,clock-rate=90000,encoding-name=VP8,payload=96 ! rtpstreamdepay \
    ! rtpsframedepay ! sframedec key-file="$KEYS" ! vp8dec ! videoconvert ! videorate ! video/x-raw,framerate=2/1 \
    ! jpegenc ! multifilesink async=false location="$OUT/picture-%05d.jpg" \
  filesrc location="$CAPTURE/audio.rtp" \
    ! application/x-rtp-stream,media=text,clock-rate=1000,encoding-name=T140,payload=98 ! rtpstreamdepay \
    ! rtpsframedepay ! sframedec key-file="$KEYS" ! filesink async=false location="$OUT/captions.txt"
