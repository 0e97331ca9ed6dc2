#!/bin/sh
# Shares a screen: 1920x1080 as H.264, every access unit sealed before it is cut into RTP packets. What a screen shows is a
# test picture here. On a desktop with X11 put in its place
#   ximagesrc use-damage=false ! videoconvert ! videoscale add-borders=true
# (endx= and endy= for a part of the screen, xid= for one window: share the window, not the desktop with everything on it).
#
#   KEYS   key file, one "<kid> <base key in hex>" a line; this sender seals with KID 1
#   PORT   first UDP port, table in ../relay.sh   (default 5000)
#   RELAY  host of the relay                      (default 127.0.0.1)
#   RATE   pictures in a second                   (default 15: enough for slides and text; 30 for moving pictures)
set -eu
: "${KEYS:?path of the key file, see README}"
PORT=${PORT:-5000} RELAY=${RELAY:-127.0.0.1}

# tune=zerolatency: no picture waits in the encoder for a later one. ultrafast: 1080p in real time on one core; with cores to
# spare, veryfast makes text sharper at the same bitrate. A screen hardly changes, so the bits go into the pictures that do.
# The queue takes the encoder off the source's thread: with a slow encoder the oldest picture goes, the delay does not grow.
# Keyframes are rare on purpose: at this size they are large. A receiver that joins asks for one over RTCP.
exec gst-launch-1.0 -e -m rtpbin name=rtp \
  videotestsrc is-live=true pattern=smpte75 horizontal-speed=2 \
    ! video/x-raw,format=I420,width=1920,height=1080,framerate="${RATE:-15}"/1 \
    ! clockoverlay ! timeoverlay valignment=bottom \
    ! queue leaky=downstream max-size-buffers=3 max-size-bytes=0 max-size-time=0 \
    ! x264enc tune=zerolatency speed-preset=ultrafast bitrate=2500 key-int-max=3000 \
    ! sframeenc name=seal-video key-file="$KEYS" kid=1 ! rtpsframepay pt=96 ! rtp.send_rtp_sink_0 \
  rtp.send_rtp_src_0  ! udpsink host="$RELAY" port=$PORT \
  rtp.send_rtcp_src_0 ! udpsink host="$RELAY" port=$((PORT + 1)) sync=false async=false \
  udpsrc port=$((PORT + 2)) ! rtp.recv_rtcp_sink_0
