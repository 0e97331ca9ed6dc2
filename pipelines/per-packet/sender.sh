#!/bin/sh
# Sends VP8 video in per-packet mode: the stock payloader cuts the frame into RTP packets, and sframeenc seals the
# payload of each. Headers and header extensions stay as they are.
#
#   KEYS   key file, one "<kid> <base key in hex>" a line; this sender seals with KID 1
#   PORT   first UDP port, table in ../relay.sh   (default 5000)
#   RELAY  host of the relay                      (default 127.0.0.1)
set -eu
: "${KEYS:?path of the key file, see README}"
PORT=${PORT:-5000} RELAY=${RELAY:-127.0.0.1}

# Sealing adds up to 34 bytes to a packet (descriptor 1, SFrame header at most 17, tag 16): the payloader leaves room.
exec gst-launch-1.0 -e -m rtpbin name=rtp \
  videotestsrc is-live=true horizontal-speed=3 ! video/x-raw,width=640,height=360,framerate=30/1 \
    ! clockoverlay ! timeoverlay valignment=bottom \
    ! vp8enc deadline=1 target-bitrate=800000 keyframe-max-dist=3000 ! rtpvp8pay pt=96 mtu=1200 \
    ! sframeenc name=seal-video key-file="$KEYS" kid=1 ! rtp.send_rtp_sink_0 \
  rtp.send_rtp_src_0  ! udpsink host="$RELAY" port=$PORT \
  rtp.send_rtcp_src_0 ! udpsink host="$RELAY" port=$((PORT + 1)) sync=false async=false \
  udpsrc port=$((PORT + 2)) ! rtp.recv_rtcp_sink_0
