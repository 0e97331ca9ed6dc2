#!/bin/sh
# The control for replay.sh: the same speech, not sealed, in a file like the one that the relay captures.
# If replay.sh could not play this, its finding nothing in a sealed one would say nothing.
#
#   CAPTURE  folder that gets audio.rtp
#   SPEECH   WAV file
set -eu
: "${CAPTURE:?folder for the control}" "${SPEECH:?path of a WAV file}"
exec gst-launch-1.0 filesrc location="$SPEECH" ! wavparse ! audioconvert ! audioresample ! audio/x-raw,rate=48000,channels=1 \
  ! opusenc audio-type=voice bitrate=32000 dtx=true ! rtpopuspay pt=97 ! rtpstreampay ! filesink location="$CAPTURE/audio.rtp"
