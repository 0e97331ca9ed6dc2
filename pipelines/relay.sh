#!/bin/sh
# The relay of every graph here: it holds no key and need not know the codec. Media goes one way, RTCP both ways:
# without RTCP a receiver's request for a keyframe would never reach the encoder.
# sframeguard lets through only what has SFrame's form, so that nothing crosses in clear by mistake.
#
#   PORT      first of 20 UDP ports, see the table below        (default 5000)
#   RECEIVER  host of the receiver                              (default 127.0.0.1)
#   SENDER    host of the sender, for RTCP on its way back      (default 127.0.0.1)
#   CAPTURE   folder that gets video.rtp and audio.rtp, every relayed packet (default: keep nothing)
#
#                                      video      audio
#   sender → relay      RTP, RTCP     +0, +1     +4, +5
#   relay → sender           RTCP         +2         +6
#   relay → receiver    RTP, RTCP   +10, +11   +14, +15
#   receiver → relay         RTCP        +12        +16
set -eu
PORT=${PORT:-5000} RECEIVER=${RECEIVER:-127.0.0.1} SENDER=${SENDER:-127.0.0.1}

# What a curious relay could keep (RFC 4571 framing). The demo then tries to watch it. Leave this out of a real relay.
set --
if [ -n "${CAPTURE:-}" ]; then
  set -- video. ! queue ! rtpstreampay ! filesink async=false location="$CAPTURE/video.rtp" \
         audio. ! queue ! rtpstreampay ! filesink async=false location="$CAPTURE/audio.rtp"
fi

rtp="application/x-rtp"
exec gst-launch-1.0 -e -m \
  udpsrc port=$PORT          caps=$rtp ! sframeguard name=guard-video ! tee name=video \
    video. ! queue ! udpsink host="$RECEIVER" port=$((PORT + 10)) sync=false async=false \
  udpsrc port=$((PORT + 1))  caps=$rtp ! sframeguard ! udpsink host="$RECEIVER" port=$((PORT + 11)) sync=false async=false \
  udpsrc port=$((PORT + 12)) caps=$rtp ! sframeguard ! udpsink host="$SENDER" port=$((PORT + 2)) sync=false async=false \
  \
  udpsrc port=$((PORT + 4))  caps=$rtp ! sframeguard name=guard-audio ! tee name=audio \
    audio. ! queue ! udpsink host="$RECEIVER" port=$((PORT + 14)) sync=false async=false \
  udpsrc port=$((PORT + 5))  caps=$rtp ! sframeguard ! udpsink host="$RECEIVER" port=$((PORT + 15)) sync=false async=false \
  udpsrc port=$((PORT + 16)) caps=$rtp ! sframeguard ! udpsink host="$SENDER" port=$((PORT + 6)) sync=false async=false \
  "$@"
