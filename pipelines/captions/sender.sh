#!/bin/sh
# Sends video with captions that are made on this machine: a speech recogniser listens, and its words are sealed as a text
# track of their own, like the picture. No service hears or reads what is said. The sound itself goes as in ../audio-only, and
# is left out here.
#
#   KEYS     key file, one "<kid> <base key in hex>" a line; this sender seals with KIDs 1 and 2
#   SPEECH   WAV file to listen to. From a microphone: autoaudiosrc in place of the first line below
#   GRAMMAR  what to listen for                     (default: phrases.fsg beside this file)
#   PORT     first UDP port, table in ../relay.sh, with text in the place of audio   (default 5000)
#   RELAY    host of the relay                      (default 127.0.0.1)
set -eu
: "${KEYS:?path of the key file, see README}" "${SPEECH:?path of a WAV file}"
PORT=${PORT:-5000} RELAY=${RELAY:-127.0.0.1} GRAMMAR=${GRAMMAR:-$(dirname "$0")/phrases.fsg}

# The recogniser's words go through a pipe, and so could those of any other recogniser: what counts is a line for each caption.
# The pipe has no name any more as soon as it is open, and nothing of it is ever on a disk. fdsrc gives each line its time.
words=$(mktemp -u)
mkfifo -m 600 "$words"
exec 3<>"$words"
rm "$words"

# pocketsphinx gives a caption out after half a second of silence. It has no general idea of language with a grammar, and so is
# right about the little that it knows. clocksync: a file is read at the pace of speech; a microphone has that by itself.
# With -m it tells this terminal, too, what it understands: leave that out where a terminal is logged.
# Text is sparse: where nothing is said nothing is sent, so a relay sees when somebody speaks (../audio-only, STEADY).
exec gst-launch-1.0 -e -m rtpbin name=rtp \
  filesrc location="$SPEECH" ! wavparse \
    ! audioconvert ! audioresample ! audio/x-raw,rate=16000,channels=1 ! clocksync ! queue \
    ! pocketsphinx fsg="$GRAMMAR" ! fdsink fd=3 sync=false async=false \
  fdsrc fd=3 do-timestamp=true ! text/x-raw,format=utf8 \
    ! sframeenc name=seal-text key-file="$KEYS" kid=2 ! rtpsframepay pt=98 ! rtp.send_rtp_sink_1 \
  rtp.send_rtp_src_1  ! udpsink host="$RELAY" port=$((PORT + 4)) sync=false async=false \
  rtp.send_rtcp_src_1 ! udpsink host="$RELAY" port=$((PORT + 5)) sync=false async=false \
  udpsrc port=$((PORT + 6)) ! rtp.recv_rtcp_sink_1 \
  \
  videotestsrc is-live=true pattern=solid-color foreground-color=0xff204060 ! video/x-raw,width=640,height=360,framerate=15/1 \
    ! vp8enc deadline=1 target-bitrate=400000 keyframe-max-dist=3000 \
    ! sframeenc name=seal-video key-file="$KEYS" kid=1 ! rtpsframepay pt=96 ! rtp.send_rtp_sink_0 \
  rtp.send_rtp_src_0  ! udpsink host="$RELAY" port=$PORT \
  rtp.send_rtcp_src_0 ! udpsink host="$RELAY" port=$((PORT + 1)) sync=false async=false \
  udpsrc port=$((PORT + 2)) ! rtp.recv_rtcp_sink_0
