#!/bin/sh
# Takes part in a room: sends VP8 video and Opus speech and receives another participant's. There is no key in this
# file and none on the command line: mlskeyring joins the MLS room, and sframeenc and sframedec find it by themselves.
#
#   ME      folder with cert.pem, key.pem and ca.pem, as `gst-mls identity new` makes it
#   OUT     folder that gets picture.png (the other's latest picture, twice a second), sound.wav, what the decoders got
#           (video.bin, audio.bin), and posture.json, the signed posture report
#   PORT    first of this participant's 10 UDP ports, see relay.sh   (default 5000)
#   RELAY   host of the relay                                        (default 127.0.0.1)
#   ROOM    name of the room, the same for all                       (default consultation)
#   LOG     file that carries the room's messages, the same for all  (default: below the user's runtime directory)
#   DELIVERY  what carries the room's messages instead of LOG, for example nats://nats.example:4222
#   SOCKET  control socket for `gst-mls room … --socket`             (default $OUT/control)
#   CREATE  not empty: create the room if it does not exist
#   POLICY  file with the policy under which it is created            (default: strict, who the CA certifies may come in)
#   ACCEPT  weakest claim under which to send: strict, recorded, escrow (default strict)
#   SPEECH  WAV file to send                                         (default: a ticking tone)
#   SAY     FIFO (mkfifo): each write to it is said to the room, and what the others say is appended to OUT/messages.txt
#   WINDOW  not empty: also show the video in a window; needs a display
set -eu
: "${ME:?folder of the identity, see README}" "${OUT:?folder for the decoded media}"
PORT=${PORT:-5000} RELAY=${RELAY:-127.0.0.1} ROOM=${ROOM:-consultation}
create=false
[ -z "${CREATE:-}" ] || create=true

if [ -n "${SPEECH:-}" ]; then
  set -- filesrc location="$SPEECH" ! wavparse
else
  set -- audiotestsrc is-live=true wave=ticks
fi
set -- "$@" ! audioconvert ! audioresample ! opusenc \
  ! sframeenc name=seal-audio ! rtpsframepay pt=97 ! rtp.send_rtp_sink_1
if [ -n "${SAY:-}" ]; then
  # Open for both ways, so that it has no end when a writer has gone.
  exec 3<>"$SAY"
  set -- "$@" fdsrc fd=3 ! text/x-raw,format=utf8 ! room.msg_sink_0 \
    room.msg_src_0 ! text/x-raw ! filesink async=false buffer-mode=unbuffered append=true location="$OUT/messages.txt"
fi
[ -z "${WINDOW:-}" ] || set -- "$@" pictures. ! queue ! videoconvert ! autovideosink

# Keyframes are rare on purpose: who joins asks for one over RTCP, and at a change of keys sframeenc asks for one.
# rtcp-fb-nack-pli: without it rtpbin does not send the decoder's wish for a keyframe.
# A pad of rtpbin comes with its first packet; gst-launch-1.0 links it then, to the capsfilter that takes it. With plain caps in
# place of the capsfilter it would make one itself, and two pads that come at once could both stay unlinked.
exec gst-launch-1.0 -e -m rtpbin name=rtp \
  mlskeyring name=room room="$ROOM" create=$create ${POLICY:+policy-file="$POLICY"} accept="${ACCEPT:-strict}" \
    delivery="${DELIVERY:-sqlite:${LOG:-}}" \
    certificate-file="$ME/cert.pem" private-key-file="$ME/key.pem" ca-file="$ME/ca.pem" \
    control-socket="${SOCKET:-$OUT/control}" posture-file="$OUT/posture.json" \
  \
  videotestsrc is-live=true horizontal-speed=3 ! video/x-raw,width=640,height=360,framerate=30/1 \
    ! clockoverlay ! timeoverlay valignment=bottom \
    ! vp8enc deadline=1 target-bitrate=800000 keyframe-max-dist=3000 \
    ! sframeenc name=seal-video ! rtpsframepay pt=96 ! rtp.send_rtp_sink_0 \
  rtp.send_rtp_src_0  ! udpsink host="$RELAY" port=$PORT \
  rtp.send_rtcp_src_0 ! udpsink host="$RELAY" port=$((PORT + 1)) sync=false async=false \
  rtp.send_rtp_src_1  ! udpsink host="$RELAY" port=$((PORT + 2)) \
  rtp.send_rtcp_src_1 ! udpsink host="$RELAY" port=$((PORT + 3)) sync=false async=false \
  \
  udpsrc port=$((PORT + 4)) \
    caps="application/x-rtp,media=video,clock-rate=90000,encoding-name=VP8,payload=96,a-sframe=(string)\"\",rtcp-fb-nack-pli=(boolean)true" \
    ! rtp.recv_rtp_sink_0 \
  udpsrc port=$((PORT + 5)) ! rtp.recv_rtcp_sink_0 \
  rtp. ! capsfilter caps=application/x-rtp,media=video ! rtpsframedepay name=join-video ! sframedec name=open-video ! tee name=frames \
  frames. ! queue ! filesink async=false location="$OUT/video.bin" \
  frames. ! queue ! vp8dec ! tee name=pictures \
  pictures. ! queue ! videoconvert ! videorate ! video/x-raw,framerate=2/1 \
    ! pngenc ! multifilesink async=false location="$OUT/picture.png" \
  \
  udpsrc port=$((PORT + 6)) \
    caps="application/x-rtp,media=audio,clock-rate=48000,encoding-name=OPUS,payload=97,a-sframe=(string)\"\"" \
    ! rtp.recv_rtp_sink_1 \
  udpsrc port=$((PORT + 7)) ! rtp.recv_rtcp_sink_1 \
  rtp. ! capsfilter caps=application/x-rtp,media=audio ! rtpsframedepay name=join-audio ! sframedec name=open-audio ! tee name=sounds \
  sounds. ! queue ! filesink async=false location="$OUT/audio.bin" \
  sounds. ! queue ! opusdec ! audioconvert ! wavenc ! filesink async=false location="$OUT/sound.wav" \
  "$@"
