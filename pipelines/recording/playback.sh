#!/bin/sh
# Plays a recording of two participants with VP8 and Opus each, to one of its recipients. Who, why and for which case stands
# in the audit log before anything is opened. The tracks are numbered as they began: TRACKS names two of them.
#
#   RECORDING  its folder
#   IDENTITY   the recipient's age identity, as age-keygen makes it
#   AUDIT      folder of the audit log that the recording names
#   READER, REASON, TICKET   who you are (an id, no name), why you open it, which case it belongs to
#   VIDEO, AUDIO   numbers of a video and an audio track, as `gst-compliance verify` shows them
#   OUT        folder that gets picture-*.jpg and sound.wav
set -eu
: "${RECORDING:?folder of the recording}" "${IDENTITY:?age identity}" "${AUDIT:?folder of the audit log}"
: "${READER:?who you are}" "${REASON:?why you open it}" "${TICKET:?the case}" "${OUT:?folder for what is decoded}"
: "${VIDEO:?number of a video track}" "${AUDIO:?number of an audio track}"

exec gst-launch-1.0 -m compliancesrc name=recording location="$RECORDING" identity-file="$IDENTITY" audit-log="$AUDIT" \
    reader="$READER" reason="$REASON" ticket="$TICKET" \
  recording.src_"$VIDEO" ! queue ! vp8dec ! videoconvert ! videorate ! video/x-raw,framerate=2/1 \
    ! jpegenc ! multifilesink location="$OUT/picture-%03d.jpg" \
  recording.src_"$AUDIO" ! queue ! opusdec ! audioconvert ! wavenc ! filesink location="$OUT/sound.wav"
