#!/bin/sh
# Listens: opens every packet and decodes it to a file. On a desktop end it in `audioconvert ! autoaudiosink` instead.
#
#   KEYS    key file that holds the sender's KID
#   OUT     folder that gets sound.wav
#   PORT    first UDP port, table in ../relay.sh   (default 5000)
#   RELAY   host of the relay, for RTCP            (default 127.0.0.1)
set -eu
: "${KEYS:?path of the key file, see README}" "${OUT:?folder for the decoded media}"
PORT=${PORT:-5000} RELAY=${RELAY:-127.0.0.1}

# A pad of rtpbin comes with its first packet; gst-launch-1.0 links it then, to the capsfilter that takes it.
# plc: where a packet is lost, the decoder goes on with what it would have sounded like.
exec gst-launch-1.0 -e -m rtpbin name=rtp \
  udpsrc port=$((PORT + 14)) \
    caps="application/x-rtp,media=audio,clock-rate=48000,encoding-name=OPUS,payload=97,a-sframe=(string)\"\"" \
    ! rtp.recv_rtp_sink_0 \
  udpsrc port=$((PORT + 15)) ! rtp.recv_rtcp_sink_0 \
  rtp.send_rtcp_src_0 ! udpsink host="$RELAY" port=$((PORT + 16)) sync=false async=false \
  rtp. ! capsfilter caps=application/x-rtp,media=audio ! rtpsframedepay \
    ! sframedec name=open-audio key-file="$KEYS" ! opusdec plc=true ! audioconvert ! wavenc ! filesink location="$OUT/sound.wav"
