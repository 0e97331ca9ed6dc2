#!/bin/sh
# Texts and photos between members of a room, without any call. Each is sealed as an application message of the group
# (RFC 9420 §15); what carries the room's messages sees sizes and times, not words, nor names of files.
#
#   ME      folder with cert.pem, key.pem and ca.pem, as `gst-mls identity new` makes it
#   OUT     folder that gets messages.txt (what the others say), photo-000.jpg and so on, and posture.json
#   SAY     FIFO (mkfifo): each write to it is a message to all
#   PHOTO   JPEG file to send, of at most 16 MiB                     (default: none)
#   NAME    what this member calls itself; only the members see it   (default: nothing)
#   ROOM    name of the room, the same for all                       (default consultation)
#   LOG     file that carries the room's messages, the same for all  (default: below the user's runtime directory)
#   DELIVERY  what carries them instead of LOG, for example nats://nats.example:4222
#   SOCKET  control socket for `gst-mls room … --socket`             (default $OUT/control)
#   CREATE  not empty: create the room if it does not exist
set -eu
: "${ME:?folder of the identity, see README}" "${OUT:?folder for what the others send}" "${SAY:?FIFO with what to say}"
create=false
[ -z "${CREATE:-}" ] || create=true

# One buffer is one message: so the whole file is one buffer. Caps say what it is; the name of the file goes along, sealed.
# The funnel lets texts and files take turns on one pad, so that the others see them in the order in which they were sent.
set --
[ -z "${PHOTO:-}" ] || set -- filesrc location="$PHOTO" blocksize=16777216 \
  ! image/jpeg,file-name="(string)\"${PHOTO##*/}\"" ! all.

# Open for both ways, so that it has no end when a writer has gone.
exec 3<>"$SAY"
# Each msg_src pad gives what is linked to it can take: texts here, photos there. What neither takes is dropped and counted.
exec gst-launch-1.0 -m \
  mlskeyring name=room room="${ROOM:-consultation}" create=$create display-name="${NAME:-}" \
    delivery="${DELIVERY:-sqlite:${LOG:-}}" \
    certificate-file="$ME/cert.pem" private-key-file="$ME/key.pem" ca-file="$ME/ca.pem" \
    control-socket="${SOCKET:-$OUT/control}" posture-file="$OUT/posture.json" \
  fdsrc fd=3 ! text/x-raw,format=utf8 ! all. \
  funnel name=all ! room.msg_sink_0 \
  room.msg_src_0 ! text/x-raw ! filesink async=false buffer-mode=unbuffered append=true location="$OUT/messages.txt" \
  room.msg_src_1 ! image/jpeg ! multifilesink async=false location="$OUT/photo-%03d.jpg" \
  "$@"
