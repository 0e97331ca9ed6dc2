#!/bin/sh
# Receives VP8 video that was sealed packet by packet: sframedec opens each packet behind the jitter buffer, then the
# stock depayloader joins the frame.
#
#   KEYS    key file that holds the sender's KID
#   OUT     folder that gets picture.png (the latest picture, twice a second)
#   PORT    first UDP port, table in ../relay.sh   (default 5000)
#   RELAY   host of the relay, for RTCP            (default 127.0.0.1)
#   WINDOW  not empty: also show the video in a window; needs a display
set -eu
: "${KEYS:?path of the key file, see README}" "${OUT:?folder for the decoded media}"
PORT=${PORT:-5000} RELAY=${RELAY:-127.0.0.1}

set --
[ -z "${WINDOW:-}" ] || set -- pictures. ! queue ! videoconvert ! autovideosink

# rtcp-fb-nack-pli: without it rtpbin does not send the decoder's wish for a keyframe.
# A pad of rtpbin comes with its first packet; gst-launch-1.0 links it then, to the capsfilter that takes it. With plain caps in
# place of the capsfilter it would make one itself, and two pads that come at once could both stay unlinked.
exec gst-launch-1.0 -e -m rtpbin name=rtp \
  udpsrc port=$((PORT + 10)) \
    caps="application/x-rtp,media=video,clock-rate=90000,encoding-name=VP8,payload=96,a-sframe=(string)\"\",rtcp-fb-nack-pli=(boolean)true" \
    ! rtp.recv_rtp_sink_0 \
  udpsrc port=$((PORT + 11)) ! rtp.recv_rtcp_sink_0 \
  rtp.send_rtcp_src_0 ! udpsink host="$RELAY" port=$((PORT + 12)) sync=false async=false \
  rtp. ! capsfilter caps=application/x-rtp,media=video ! sframedec name=open-video key-file="$KEYS" \
    ! rtpvp8depay ! vp8dec ! tee name=pictures \
  pictures. ! queue ! videoconvert ! videorate ! video/x-raw,framerate=2/1 \
    ! pngenc ! multifilesink location="$OUT/picture.png" \
  "$@"
