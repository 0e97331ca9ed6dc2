#!/bin/sh
# Records a room, as a member that everybody sees: its certificate says recorder, the room's policy admits it, the group
# says when it records (`gst-mls room set-recording on`), and the patient's consent must permit it. What it writes, it
# cannot open: the keys in KEYS are public ones.
#
#   ME       folder with cert.pem, key.pem and ca.pem, as `gst-mls identity new --role recorder` makes it
#   OUT      folder that gets recordings/ and posture.json, the signed posture report
#   KEYS     folder of key bundles, as `gst-compliance keys prepare` makes it
#   CONSENT  the patient's consent, a FHIR R4 Consent in JSON
#   AUDIT    folder of the audit log
#   RELAY, ROOM, LOG, DELIVERY, SOCKET   as in participant.sh
#   PORT     first of this recorder's 20 UDP ports, see relay.sh   (default 5030)
set -eu
: "${ME:?folder of the identity, see README}" "${OUT:?folder for the recordings}" "${KEYS:?folder of key bundles}"
: "${CONSENT:?file with the consent}" "${AUDIT:?folder of the audit log}"
PORT=${PORT:-5030} RELAY=${RELAY:-127.0.0.1} ROOM=${ROOM:-consultation}

video="application/x-rtp,media=video,clock-rate=90000,encoding-name=VP8,payload=96,a-sframe=(string)\"\",rtcp-fb-nack-pli=(boolean)true"
audio="application/x-rtp,media=audio,clock-rate=48000,encoding-name=OPUS,payload=97,a-sframe=(string)\"\""

# A track for each stream: by video and audio of A, then of B; and one of what is said in the room. The recorder asks for a
# keyframe where a track begins.
# A pad of rtpbin comes with its first packet; gst-launch-1.0 links it then, to the capsfilter that takes it. With plain caps in
# place of the capsfilter it would make one itself, and two pads that come at once could both stay unlinked.
exec gst-launch-1.0 -e -m \
  mlskeyring name=room room="$ROOM" accept=recorded delivery="${DELIVERY:-sqlite:${LOG:-}}" \
    certificate-file="$ME/cert.pem" private-key-file="$ME/key.pem" ca-file="$ME/ca.pem" \
    control-socket="${SOCKET:-$OUT/control}" posture-file="$OUT/posture.json" \
  compliancesink name=recorder location="$OUT/recordings" keys="$KEYS" consent-file="$CONSENT" audit-log="$AUDIT" \
  room.msg_src_0 ! recorder.messages_0 \
  \
  rtpbin name=a \
  udpsrc port=$PORT caps="$video"       ! a.recv_rtp_sink_0  udpsrc port=$((PORT + 1)) ! a.recv_rtcp_sink_0 \
  udpsrc port=$((PORT + 2)) caps="$audio" ! a.recv_rtp_sink_1  udpsrc port=$((PORT + 3)) ! a.recv_rtcp_sink_1 \
  a.send_rtcp_src_0 ! udpsink host="$RELAY" port=$((PORT + 11)) sync=false async=false \
  a.send_rtcp_src_1 ! udpsink host="$RELAY" port=$((PORT + 13)) sync=false async=false \
  a. ! capsfilter caps=application/x-rtp,media=video ! rtpsframedepay ! sframedec name=open-a-video ! recorder. \
  a. ! capsfilter caps=application/x-rtp,media=audio ! rtpsframedepay ! sframedec name=open-a-audio ! recorder. \
  \
  rtpbin name=b \
  udpsrc port=$((PORT + 4)) caps="$video" ! b.recv_rtp_sink_0  udpsrc port=$((PORT + 5)) ! b.recv_rtcp_sink_0 \
  udpsrc port=$((PORT + 6)) caps="$audio" ! b.recv_rtp_sink_1  udpsrc port=$((PORT + 7)) ! b.recv_rtcp_sink_1 \
  b.send_rtcp_src_0 ! udpsink host="$RELAY" port=$((PORT + 15)) sync=false async=false \
  b.send_rtcp_src_1 ! udpsink host="$RELAY" port=$((PORT + 17)) sync=false async=false \
  b. ! capsfilter caps=application/x-rtp,media=video ! rtpsframedepay ! sframedec name=open-b-video ! recorder. \
  b. ! capsfilter caps=application/x-rtp,media=audio ! rtpsframedepay ! sframedec name=open-b-audio ! recorder.
