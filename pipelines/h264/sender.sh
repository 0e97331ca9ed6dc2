#!/bin/sh
# Sends H.264 video, every access unit sealed before it is cut into RTP packets.
# sframeenc takes H.264 as byte-stream with alignment=au. x264enc agrees to that by itself; behind another source put
#   h264parse ! video/x-h264,stream-format=byte-stream,alignment=au
#
#   KEYS   key file, one "<kid> <base key in hex>" a line; this sender seals with KID 1
#   PORT   first UDP port, table in ../relay.sh   (default 5000)
#   RELAY  host of the relay                      (default 127.0.0.1)
set -eu
: "${KEYS:?path of the key file, see README}"
PORT=${PORT:-5000} RELAY=${RELAY:-127.0.0.1}

exec gst-launch-1.0 -e -m rtpbin name=rtp \
  videotestsrc is-live=true horizontal-speed=3 ! video/x-raw,format=I420,width=640,height=360,framerate=30/1 \
    ! clockoverlay ! timeoverlay valignment=bottom \
    ! x264enc tune=zerolatency speed-preset=ultrafast bitrate=800 key-int-max=3000 \
    ! sframeenc name=seal-video key-file="$KEYS" kid=1 ! rtpsframepay pt=96 ! rtp.send_rtp_sink_0 \
  rtp.send_rtp_src_0  ! udpsink host="$RELAY" port=$PORT \
  rtp.send_rtcp_src_0 ! udpsink host="$RELAY" port=$((PORT + 1)) sync=false async=false \
  udpsrc port=$((PORT + 2)) ! rtp.recv_rtcp_sink_0
