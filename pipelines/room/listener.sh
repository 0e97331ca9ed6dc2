#!/bin/sh
# Joins a room, watches and listens to one participant, and sends no media of its own. To the room it is a participant
# like the others: everybody sees it in the list of members.
#
#   ME, OUT, RELAY, ROOM, LOG, DELIVERY, SOCKET, WINDOW   as in participant.sh
#   PORT   first of this listener's 10 UDP ports, see relay.sh   (default 5020)
set -eu
: "${ME:?folder of the identity, see README}" "${OUT:?folder for the decoded media}"
PORT=${PORT:-5020} RELAY=${RELAY:-127.0.0.1} ROOM=${ROOM:-consultation}

set --
[ -z "${WINDOW:-}" ] || set -- pictures. ! queue ! videoconvert ! autovideosink

# A pad of rtpbin comes with its first packet; gst-launch-1.0 links it then, to the capsfilter that takes it. With plain caps in
# place of the capsfilter it would make one itself, and two pads that come at once could both stay unlinked.
exec gst-launch-1.0 -e -m rtpbin name=rtp \
  mlskeyring name=room room="$ROOM" delivery="${DELIVERY:-sqlite:${LOG:-}}" \
    certificate-file="$ME/cert.pem" private-key-file="$ME/key.pem" ca-file="$ME/ca.pem" \
    control-socket="${SOCKET:-$OUT/control}" posture-file="$OUT/posture.json" \
  \
  udpsrc port=$((PORT + 4)) \
    caps="application/x-rtp,media=video,clock-rate=90000,encoding-name=VP8,payload=96,a-sframe=(string)\"\",rtcp-fb-nack-pli=(boolean)true" \
    ! rtp.recv_rtp_sink_0 \
  udpsrc port=$((PORT + 5)) ! rtp.recv_rtcp_sink_0 \
  rtp.send_rtcp_src_0 ! udpsink host="$RELAY" port=$((PORT + 1)) sync=false async=false \
  rtp. ! capsfilter caps=application/x-rtp,media=video ! rtpsframedepay name=join-video ! sframedec name=open-video ! vp8dec ! tee name=pictures \
  pictures. ! queue ! videoconvert ! videorate ! video/x-raw,framerate=2/1 \
    ! pngenc ! multifilesink async=false location="$OUT/picture.png" \
  \
  udpsrc port=$((PORT + 6)) \
    caps="application/x-rtp,media=audio,clock-rate=48000,encoding-name=OPUS,payload=97,a-sframe=(string)\"\"" \
    ! rtp.recv_rtp_sink_1 \
  udpsrc port=$((PORT + 7)) ! rtp.recv_rtcp_sink_1 \
  rtp.send_rtcp_src_1 ! udpsink host="$RELAY" port=$((PORT + 3)) sync=false async=false \
  rtp. ! capsfilter caps=application/x-rtp,media=audio ! rtpsframedepay name=join-audio ! sframedec name=open-audio \
    ! opusdec ! audioconvert ! wavenc ! filesink async=false location="$OUT/sound.wav" \
  "$@"
