#!/bin/sh
# Joins a room of two, sees the clinician, hears both, and speaks to both: sends Opus and no video. To the room it is a
# participant like the others, on everybody's list from when it comes until it goes, and has keys for just that time.
#
#   SPEECH  WAV file to send             (default: a ticking tone)
#   OUT     gets picture.png, sound.wav (the clinician) and patient.wav
#   ME, RELAY, ROOM, LOG, DELIVERY, SOCKET, ACCEPT, PICTURES   as in ../room/participant.sh
#   PORT    first of 10 UDP ports, those of C in ../room/relay.sh   (default 5020)
set -eu
: "${ME:?folder of the identity, see README}" "${OUT:?folder for the decoded media}"
PORT=${PORT:-5020} RELAY=${RELAY:-127.0.0.1} ROOM=${ROOM:-consultation}

if [ -n "${SPEECH:-}" ]; then
  set -- filesrc location="$SPEECH" ! wavparse
else
  set -- audiotestsrc is-live=true wave=ticks
fi
video="application/x-rtp,media=video,clock-rate=90000,encoding-name=VP8,payload=96,a-sframe=(string)\"\",rtcp-fb-nack-pli=(boolean)true"
audio="application/x-rtp,media=audio,clock-rate=48000,encoding-name=OPUS,payload=97,a-sframe=(string)\"\""

# It sends no RTCP: rtpbin now and then keeps the EOS from its RTCP sink, and who is then stopped the hard way does not leave
# the room. So it cannot ask for a keyframe, and the clinician makes one every few seconds (KEYFRAMES of participant.sh).
# One rtpbin for each person: pads of one that differ in nothing but their person could be linked the wrong way round.
# A pad of rtpbin comes with its first packet; gst-launch-1.0 links it then, to the capsfilter that takes it. With plain caps in
# place of the capsfilter it would make one itself, and two pads that come at once could both stay unlinked.
exec gst-launch-1.0 -e -m \
  mlskeyring name=room room="$ROOM" accept="${ACCEPT:-strict}" delivery="${DELIVERY:-sqlite:${LOG:-}}" \
    certificate-file="$ME/cert.pem" private-key-file="$ME/key.pem" ca-file="$ME/ca.pem" \
    control-socket="${SOCKET:-$OUT/control}" posture-file="$OUT/posture.json" \
  \
  rtpbin name=own \
  "$@" ! audioconvert ! audioresample ! opusenc ! sframeenc name=seal-audio ! rtpsframepay pt=97 ! own.send_rtp_sink_0 \
  own.send_rtp_src_0  ! udpsink host="$RELAY" port=$((PORT + 2)) \
  \
  rtpbin name=clinician \
  udpsrc port=$((PORT + 4)) caps="$video" ! clinician.recv_rtp_sink_0  udpsrc port=$((PORT + 5)) ! clinician.recv_rtcp_sink_0 \
  udpsrc port=$((PORT + 6)) caps="$audio" ! clinician.recv_rtp_sink_1  udpsrc port=$((PORT + 7)) ! clinician.recv_rtcp_sink_1 \
  clinician. ! capsfilter caps=application/x-rtp,media=video ! rtpsframedepay name=join-video ! sframedec name=open-video ! vp8dec \
    ! videoconvert ! videorate ! video/x-raw,framerate=2/1 ! pngenc ! multifilesink async=false location="$OUT/${PICTURES:-picture.png}" \
  clinician. ! capsfilter caps=application/x-rtp,media=audio ! rtpsframedepay name=join-audio ! sframedec name=open-audio \
    ! opusdec ! audioconvert ! wavenc ! filesink async=false location="$OUT/sound.wav" \
  \
  rtpbin name=patient \
  udpsrc port=$((PORT + 8)) caps="$audio" ! patient.recv_rtp_sink_0  udpsrc port=$((PORT + 9)) ! patient.recv_rtcp_sink_0 \
  patient. ! capsfilter caps=application/x-rtp,media=audio ! rtpsframedepay name=join-patient ! sframedec name=open-patient \
    ! opusdec ! audioconvert ! wavenc ! filesink async=false location="$OUT/patient.wav"
