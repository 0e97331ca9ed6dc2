#!/bin/sh
# Sends speech alone, as Opus, every packet sealed.
#
#   KEYS    key file, one "<kid> <base key in hex>" a line; this sender seals with KID 2
#   PORT    first UDP port, table in ../relay.sh; audio uses PORT + 4 to + 6   (default 5000)
#   RELAY   host of the relay                                                  (default 127.0.0.1)
#   SPEECH  WAV file to send                                                   (default: a ticking tone)
#   MUTE    not empty: muted. The stream goes on, with silence in it
#   STEADY  not empty: packets of one size at one pace, whatever is said
set -eu
: "${KEYS:?path of the key file, see README}"
PORT=${PORT:-5000} RELAY=${RELAY:-127.0.0.1}

if [ -n "${SPEECH:-}" ]; then
  set -- filesrc location="$SPEECH" ! wavparse
else
  set -- audiotestsrc is-live=true wave=ticks
fi

# Mute in front of the encoder, not behind it: what does not get there cannot leak, and the counters go on for a receiver.
# In an application the property mute of volume is changed while the pipeline runs.
mute=false
[ -z "${MUTE:-}" ] || mute=true
# dtx: in pauses a packet has a byte or two and says "as before", which saves bandwidth. But sizes are in clear: the relay sees
# when somebody speaks, and with a variable bitrate something of how. STEADY hides both, and always costs the full bitrate.
opus="opusenc audio-type=voice bitrate=32000 dtx=true"
[ -z "${STEADY:-}" ] || opus="opusenc audio-type=voice bitrate=32000 bitrate-type=cbr dtx=false"

# shellcheck disable=SC2086
exec gst-launch-1.0 -e -m rtpbin name=rtp \
  "$@" ! audioconvert ! audioresample ! audio/x-raw,rate=48000,channels=1 ! volume mute=$mute ! $opus \
    ! sframeenc name=seal-audio key-file="$KEYS" kid=2 ! rtpsframepay pt=97 ! rtp.send_rtp_sink_0 \
  rtp.send_rtp_src_0  ! udpsink host="$RELAY" port=$((PORT + 4)) \
  rtp.send_rtcp_src_0 ! udpsink host="$RELAY" port=$((PORT + 5)) sync=false async=false \
  udpsrc port=$((PORT + 6)) ! rtp.recv_rtcp_sink_0
