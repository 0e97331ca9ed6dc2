#!/bin/sh
# Receives video and captions, opens both, and writes the latest caption into the picture.
#
#   KEYS    key file that holds the sender's KIDs
#   OUT     folder that gets picture.png (the latest picture, twice a second) and captions.txt (all captions)
#   PORT    first UDP port, table in ../relay.sh, with text in the place of audio   (default 5000)
#   RELAY   host of the relay, for RTCP            (default 127.0.0.1)
#   WINDOW  not empty: also show the video in a window; needs a display
set -eu
: "${KEYS:?path of the key file, see README}" "${OUT:?folder for what is decoded}"
PORT=${PORT:-5000} RELAY=${RELAY:-127.0.0.1}

set --
[ -z "${WINDOW:-}" ] || set -- pictures. ! queue ! videoconvert ! autovideosink

# RTP says when a text begins, not for how long it is to be seen, and textoverlay shows what has no duration in one picture
# only. So textrender makes a picture of it (framerate=1/3: of at least 3 s), and compositor keeps the last one until the next.
# T140 is what text is called in RTP caps. Text never repeats itself: what is lost is lost.
# rtcp-fb-nack-pli: without it rtpbin does not send the decoder's wish for a keyframe.
# A pad of rtpbin comes with its first packet; gst-launch-1.0 links it then, to the capsfilter that takes it. With plain caps in
# place of the capsfilter it would make one itself, and two pads that come at once could both stay unlinked.
exec gst-launch-1.0 -e -m rtpbin name=rtp \
  compositor name=view ignore-inactive-pads=true sink_1::ypos=290 ! video/x-raw,width=640,height=360,framerate=15/1 ! tee name=pictures \
  pictures. ! queue ! videoconvert ! videorate ! video/x-raw,framerate=2/1 \
    ! pngenc ! multifilesink async=false location="$OUT/picture.png" \
  \
  udpsrc port=$((PORT + 10)) \
    caps="application/x-rtp,media=video,clock-rate=90000,encoding-name=VP8,payload=96,a-sframe=(string)\"\",rtcp-fb-nack-pli=(boolean)true" \
    ! rtp.recv_rtp_sink_0 \
  udpsrc port=$((PORT + 11)) ! rtp.recv_rtcp_sink_0 \
  rtp.send_rtcp_src_0 ! udpsink host="$RELAY" port=$((PORT + 12)) sync=false async=false \
  rtp. ! capsfilter caps=application/x-rtp,media=video ! rtpsframedepay \
    ! sframedec name=open-video key-file="$KEYS" ! vp8dec ! videoconvert ! queue ! view.sink_0 \
  \
  udpsrc port=$((PORT + 14)) \
    caps="application/x-rtp,media=text,clock-rate=1000,encoding-name=T140,payload=98,a-sframe=(string)\"\"" \
    ! rtp.recv_rtp_sink_1 \
  udpsrc port=$((PORT + 15)) ! rtp.recv_rtcp_sink_1 \
  rtp.send_rtcp_src_1 ! udpsink host="$RELAY" port=$((PORT + 16)) sync=false async=false \
  rtp. ! capsfilter caps=application/x-rtp,media=text ! rtpsframedepay \
    ! sframedec name=open-text key-file="$KEYS" ! tee name=words \
  words. ! queue ! filesink async=false buffer-mode=unbuffered location="$OUT/captions.txt" \
  words. ! queue ! textrender font-desc="Sans 20" ! video/x-raw,width=640,height=70,framerate=1/3 ! queue ! view.sink_1 \
  "$@"
