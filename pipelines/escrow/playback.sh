#!/bin/sh
# Plays what custodians opened together, to the one who asked for it. A room whose policy says `escrow` has no recipients:
# nobody opens its recordings alone, so compliancesrc, which plays to a recipient, has nothing to do here. The endpoints are
# those of ../room with ACCEPT=escrow and POLICY=policy.json, the recorder is that of ../recording, with keys that were dealt to
# custodians (`gst-compliance keys prepare --escrow`). How custodians open one: plugins/compliance/README.md, "Break-glass".
#
#   OPENED    folder that `gst-compliance open --approvals` wrote: a track each, as an age file
#   IDENTITY  the age identity that was made for this one request
#   VIDEO, AUDIO   numbers of a video and an audio track, as `gst-compliance verify` shows them
#   OUT       folder that gets picture-*.jpg and sound.wav
set -eu
: "${OPENED:?folder with the opened tracks}" "${IDENTITY:?age identity}" "${OUT:?folder for what is decoded}"
: "${VIDEO:?number of a video track}" "${AUDIO:?number of an audio track}"

# Decrypted into a pipe: no plaintext on the disk but what the last element writes. On a desktop end in autovideosink.
age -d -i "$IDENTITY" "$OPENED/$VIDEO-video.mkv.age" | gst-launch-1.0 -m fdsrc ! matroskademux ! queue ! vp8dec \
  ! videoconvert ! videorate ! video/x-raw,framerate=2/1 ! jpegenc ! multifilesink location="$OUT/picture-%03d.jpg"
age -d -i "$IDENTITY" "$OPENED/$AUDIO-audio.mkv.age" | gst-launch-1.0 -m fdsrc ! matroskademux ! queue ! opusdec \
  ! audioconvert ! wavenc ! filesink location="$OUT/sound.wav"
