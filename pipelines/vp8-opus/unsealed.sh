#!/bin/sh
# The control for replay.sh: a little of the same media, not sealed, in files like those that the relay captures.
# If replay.sh could not play these, its finding nothing in sealed ones would say nothing.
#
#   CAPTURE  folder that gets video.rtp and audio.rtp
#   SPEECH   WAV file
set -eu
: "${CAPTURE:?folder for the control}" "${SPEECH:?path of a WAV file}"
gst-launch-1.0 videotestsrc num-buffers=30 horizontal-speed=3 ! video/x-raw,width=640,height=360,framerate=30/1 \
  ! vp8enc deadline=1 target-bitrate=800000 ! rtpvp8pay pt=96 ! rtpstreampay ! filesink location="$CAPTURE/video.rtp"
gst-launch-1.0 filesrc location="$SPEECH" ! wavparse ! audioconvert ! audioresample ! opusenc \
  ! rtpopuspay pt=97 ! rtpstreampay ! filesink location="$CAPTURE/audio.rtp"
