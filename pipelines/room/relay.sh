#!/bin/sh
# The relay of a room with two participants, a listener or an interpreter, and a recorder: A and B send to each other, C
# watches A and hears both, all hear C, R gets what all send. It is no member of the room and holds no key. sframeguard lets
# through only what has SFrame's form, so that nothing crosses in clear by mistake.
#
#   PORT        first of 50 UDP ports: A has PORT and up, B PORT + 10, C PORT + 20, R PORT + 30   (default 5000)
#   A, B, C, R  their hosts                                                                      (default 127.0.0.1)
#   CAPTURE     folder that gets video.rtp and audio.rtp, everything that A sent                 (default: keep nothing)
#
#                           video RTP, RTCP   audio RTP, RTCP
#   participant → relay         +0, +1            +2, +3
#   relay → participant         +4, +5            +6, +7
#     of C to A and B; to C what B says           +8, +9
#
#                           of A: video RTP, RTCP   audio RTP, RTCP      of B: the same          of C: audio RTP, RTCP
#   relay → recorder             +30, +31           +32, +33             +34, +35   +36, +37           +38, +39
#   recorder → relay                  +41                +43                  +45        +47
set -eu
PORT=${PORT:-5000} A=${A:-127.0.0.1} B=${B:-127.0.0.1} C=${C:-127.0.0.1} R=${R:-127.0.0.1}
a=$PORT b=$((PORT + 10)) c=$((PORT + 20)) r=$((PORT + 30))

# What a curious relay could keep (RFC 4571 framing). The demo then tries to watch it. Leave this out of a real relay.
set --
if [ -n "${CAPTURE:-}" ]; then
  set -- a-video. ! queue ! rtpstreampay ! filesink async=false location="$CAPTURE/video.rtp" \
         a-audio. ! queue ! rtpstreampay ! filesink async=false location="$CAPTURE/audio.rtp"
fi

rtp="application/x-rtp"
exec gst-launch-1.0 -e -m \
  udpsrc port=$a         caps=$rtp ! sframeguard name=guard-a-video ! tee name=a-video \
    a-video. ! queue ! multiudpsink clients="$B:$((b + 4)),$C:$((c + 4)),$R:$r" sync=false async=false \
  udpsrc port=$((a + 1)) caps=$rtp ! sframeguard ! multiudpsink clients="$B:$((b + 5)),$C:$((c + 5)),$R:$((r + 1))" sync=false async=false \
  udpsrc port=$((a + 2)) caps=$rtp ! sframeguard name=guard-a-audio ! tee name=a-audio \
    a-audio. ! queue ! multiudpsink clients="$B:$((b + 6)),$C:$((c + 6)),$R:$((r + 2))" sync=false async=false \
  udpsrc port=$((a + 3)) caps=$rtp ! sframeguard ! multiudpsink clients="$B:$((b + 7)),$C:$((c + 7)),$R:$((r + 3))" sync=false async=false \
  \
  udpsrc port=$b         caps=$rtp ! sframeguard name=guard-b-video ! multiudpsink clients="$A:$((a + 4)),$R:$((r + 4))" sync=false async=false \
  udpsrc port=$((b + 1)) caps=$rtp ! sframeguard ! multiudpsink clients="$A:$((a + 5)),$R:$((r + 5))" sync=false async=false \
  udpsrc port=$((b + 2)) caps=$rtp ! sframeguard name=guard-b-audio ! multiudpsink clients="$A:$((a + 6)),$C:$((c + 8)),$R:$((r + 6))" sync=false async=false \
  udpsrc port=$((b + 3)) caps=$rtp ! sframeguard ! multiudpsink clients="$A:$((a + 7)),$C:$((c + 9)),$R:$((r + 7))" sync=false async=false \
  \
  udpsrc port=$((c + 1)) caps=$rtp ! sframeguard ! udpsink host="$A" port=$((a + 5)) sync=false async=false \
  udpsrc port=$((c + 2)) caps=$rtp ! sframeguard name=guard-c-audio ! multiudpsink clients="$A:$((a + 8)),$B:$((b + 8)),$R:$((r + 8))" sync=false async=false \
  udpsrc port=$((c + 3)) caps=$rtp ! sframeguard ! multiudpsink clients="$A:$((a + 7)),$A:$((a + 9)),$B:$((b + 9)),$R:$((r + 9))" sync=false async=false \
  \
  udpsrc port=$((r + 11)) caps=$rtp ! sframeguard ! udpsink host="$A" port=$((a + 5)) sync=false async=false \
  udpsrc port=$((r + 13)) caps=$rtp ! sframeguard ! udpsink host="$A" port=$((a + 7)) sync=false async=false \
  udpsrc port=$((r + 15)) caps=$rtp ! sframeguard ! udpsink host="$B" port=$((b + 5)) sync=false async=false \
  udpsrc port=$((r + 17)) caps=$rtp ! sframeguard ! udpsink host="$B" port=$((b + 7)) sync=false async=false \
  "$@"
