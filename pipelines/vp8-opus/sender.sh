#!/bin/sh
# Sends VP8 video and Opus speech, every frame sealed before it is cut into RTP packets.
#
#   KEYS    key file, one "<kid> <base key in hex>" a line; this sender seals with KIDs 1 and 2
#   PORT    first UDP port, table in ../relay.sh   (default 5000)
#   RELAY   host of the relay                      (default 127.0.0.1)
#   SPEECH  WAV file to send                       (default: a ticking tone)
set -eu
: "${KEYS:?path of the key file, see README}"
PORT=${PORT:-5000} RELAY=${RELAY:-127.0.0.1}

if [ -n "${SPEECH:-}" ]; then
  set -- filesrc location="$SPEECH" ! wavparse
else
  set -- audiotestsrc is-live=true wave=ticks
fi

# One KID for each sframeenc: two that share a key and a KID would use a nonce twice.
# Keyframes are rare on purpose: a receiver that joins asks for one over RTCP.
exec gst-launch-1.0 -e -m rtpbin name=rtp \
  videotestsrc is-live=true horizontal-speed=3 ! video/x-raw,width=640,height=360,framerate=30/1 \
    ! clockoverlay ! timeoverlay valignment=bottom \
    ! vp8enc deadline=1 target-bitrate=800000 keyframe-max-dist=3000 \
    ! sframeenc name=seal-video key-file="$KEYS" kid=1 ! rtpsframepay pt=96 ! rtp.send_rtp_sink_0 \
  rtp.send_rtp_src_0  ! udpsink host="$RELAY" port=$PORT \
  rtp.send_rtcp_src_0 ! udpsink host="$RELAY" port=$((PORT + 1)) sync=false async=false \
  udpsrc port=$((PORT + 2)) ! rtp.recv_rtcp_sink_0 \
  \
  "$@" ! audioconvert ! audioresample ! opusenc \
    ! sframeenc name=seal-audio key-file="$KEYS" kid=2 ! rtpsframepay pt=97 ! rtp.send_rtp_sink_1 \
  rtp.send_rtp_src_1  ! udpsink host="$RELAY" port=$((PORT + 4)) \
  rtp.send_rtcp_src_1 ! udpsink host="$RELAY" port=$((PORT + 5)) sync=false async=false \
  udpsrc port=$((PORT + 6)) ! rtp.recv_rtcp_sink_1
