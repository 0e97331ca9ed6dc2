#!/bin/sh
# Plays a recording of participants with VP8 and Opus to one of its recipients: a video track, an audio track, or one of each.
# Who, why and for which case stands in the audit log before anything is opened; with one track alone, that only this one was.
#
#   RECORDING  its folder
#   IDENTITY   the recipient's age identity, as age-keygen makes it
#   AUDIT      folder of the audit log that the recording names
#   READER, REASON, TICKET   who you are (an id, no name), why you open it, which case it belongs to
#   VIDEO, AUDIO   numbers of a video and an audio track, as `gst-compliance verify` shows them; one of them will do
#   OUT        folder that gets picture-*.jpg and sound.wav
set -eu
: "${RECORDING:?folder of the recording}" "${IDENTITY:?age identity}" "${AUDIT:?folder of the audit log}"
: "${READER:?who you are}" "${REASON:?why you open it}" "${TICKET:?the case}" "${OUT:?folder for what is decoded}"
: "${VIDEO:=}" "${AUDIO:=}"
[ -n "$VIDEO$AUDIO" ] || { echo "${0##*/}: VIDEO or AUDIO: number of a track" >&2; exit 1; }

# src_N is the track that is called N. `track` opens one and leaves the others closed; -1 opens all, linked or not.
# All tracks are on one clock. gst-launch-1.0 plays from the beginning; an application seeks in the pipeline, by time.
track=-1
[ -n "$VIDEO" ] || track=$AUDIO
[ -n "$AUDIO" ] || track=$VIDEO

set --
[ -z "$VIDEO" ] || set -- recording.src_"$VIDEO" ! queue ! vp8dec ! videoconvert ! videorate ! video/x-raw,framerate=2/1 \
  ! jpegenc ! multifilesink location="$OUT/picture-%03d.jpg"
[ -z "$AUDIO" ] || set -- "$@" recording.src_"$AUDIO" ! queue ! opusdec ! audioconvert ! wavenc ! filesink location="$OUT/sound.wav"

exec gst-launch-1.0 -m compliancesrc name=recording location="$RECORDING" identity-file="$IDENTITY" audit-log="$AUDIT" \
  reader="$READER" reason="$REASON" ticket="$TICKET" track="$track" "$@"
