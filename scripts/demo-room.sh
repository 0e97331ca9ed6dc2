# A graph of scripts/demo, which sources this: a room, pipelines/room; and what all rooms of the demo have in common.
# shellcheck shell=bash disable=SC2034,SC2154

# A clinician opens a room, a patient joins, both send and receive through a relay that is no member. A guest joins
# late, the keys are renewed from a second shell, the guest leaves. At each step all members' codes are compared, and
# at the end every frame that reached somebody is accounted for.
run_room() {
  graph=room
  local length=$1 from=$root/pipelines/room PORT relay clinician patient guest who step
  step=$(awk -v "s=$length" 'BEGIN { print s / 4 }')
  new_room 30 relay unsealed played-without-key played-unsealed clinician patient guest
  say "── room: a clinician and a patient through a relay; a guest joins late and leaves; UDP ports $PORT to $((PORT + 29))"

  identities clinician patient guest
  say "   made on the spot: an authority and three identities, $(grep -c '^Fingerprint' "$out/identities.log") certificates"

  CAPTURE=$out/relay start relay env PORT="$PORT" "$from/relay.sh"
  relay=$started
  wait_for_port "$PORT" "$relay" relay
  began=${EPOCHREALTIME%.*}
  member clinician "$PORT" "$from/participant.sh" CREATE=yes SPEECH="$SPEECH"
  clinician=$started
  all_in 0 clinician
  tell "the clinician opened the room" clinician
  sleep 1
  member patient $((PORT + 10)) "$from/participant.sh" WINDOW="$window"
  patient=$started
  all_in 1 clinician patient
  tell "the patient joined" clinician patient
  compare_pair clinician patient
  sleep "$step"
  member guest $((PORT + 20)) "$from/listener.sh"
  guest=$started
  all_in 2 clinician patient guest
  tell "a guest joined" clinician patient guest
  compare_pair guest clinician
  sleep "$step"
  gst-mls room rekey --socket "$work/clinician.socket" >"$out/rekey.log" 2>&1 || fail "gst-mls room rekey: $(cat "$out/rekey.log")"
  all_in 3 clinician patient guest
  tell "gst-mls room rekey" clinician patient guest
  sleep "$step"
  finish "$guest" guest
  all_in 4 clinician patient
  tell "the guest left" clinician patient
  posture
  sleep "$step"
  finish "$clinician" clinician
  sleep 1
  finish "$patient" patient
  finish "$relay" relay

  local stream least_sealed=$((10 * length)) least_opened=$((10 * length / 4)) least_epoch=3
  for stream in video audio; do
    sent clinician "$stream" "guard-a-$stream" patient:"$stream" guest:"$stream"
    sent patient "$stream" "guard-b-$stream" clinician:"$stream"
  done
  for who in clinician patient guest; do [ -s "$out/$who/picture.png" ] || fail "the $who decoded no picture"; done
  try_capture
  say "   look at $out/patient/picture.png"
  say "   listen to $out/patient/sound.wav"
}

new_room() { # new_room PORTS FOLDER...: empties $out and makes these in it; so many UDP ports from $PORT on are free
  out=$target/demo/$graph last_code=""
  rm -rf "$out"
  PORT=$(free_ports "$1")
  shift
  mkdir -p "${@/#/$out/}"
  say
}
# What an organisation does once: an authority, and an identity for each endpoint. Who is called recorder is one.
identities() { # identities NAME...
  local who role ca=$work/$graph-ca
  gst-mls ca new --name Clinic --out "$ca" >"$out/identities.log" 2>&1 || die "gst-mls made no authority, see $out/identities.log"
  for who in "$@"; do
    role=participant
    [ "$who" != recorder ] || role=recorder
    rm -rf "${work:?}/$who"
    gst-mls identity new --ca "$ca" --role "$role" --id "$who" --out "$work/$who" >>"$out/identities.log" 2>&1 ||
      die "gst-mls made no identity for the $who, see $out/identities.log"
  done
}

# member NAME PORT SCRIPT SETTING...: starts somebody's pipeline. Its drops, frame by frame, go to NAME.debug.
member() {
  start "$1" env "${@:4}" ME="$work/$1" OUT="$out/$1" PORT="$2" LOG="$work/$graph.sqlite" SOCKET="$work/$1.socket" \
    GST_DEBUG=sframe:DEBUG GST_DEBUG_NO_COLOR=1 GST_DEBUG_FILE="$out/$1.debug" "$3"
}
status() { gst-mls room status --socket "$work/$1.socket" 2>/dev/null || true; }
# The epoch and its code, as a member that is ready shows them; else nothing.
epoch_of() { sed -nE '/^state +ready$/,$ s/^epoch +([0-9]+), code ([0-9 ]+)$/\1 \2/p' <<<"$1"; }
members_of() { awk '/^  [0-9]/ { printf "%s%s", comma, $2; comma = ", " }' <<<"$1"; }

# all_in EPOCH WHO...: waits until all of them are ready in that epoch.
all_in() {
  local epoch=$1 until=$((SECONDS + 300)) who found
  shift
  while ((SECONDS < until)); do
    for who in "$@"; do
      found=$(epoch_of "$(status "$who")")
      if [ "${found%% *}" != "$epoch" ]; then sleep 0.1; continue 2; fi
    done
    return
  done
  status "$who" >&2
  die "the $who did not come to epoch $epoch; its whole output: $out/$who.log"
}

# tell WHAT WHO...: what they all see; their codes and lists of members must be equal.
tell() {
  local what=$1 who shown codes=() lists=()
  shift
  for who in "$@"; do
    shown=$(status "$who")
    codes+=("$(epoch_of "$shown")")
    lists+=("$(members_of "$shown")")
  done
  say "   $(seconds) s: $what: epoch ${codes[0]%% *}, code ${codes[0]#* }, $(all_equal "${codes[@]}"); members: ${lists[0]}"
  [ -n "${codes[0]}" ] && [ "$(all_equal "${codes[@]}")" != DIFFERENT ] || fail "$what: the codes differ: ${codes[*]}"
  [ "$(all_equal "${lists[@]}")" != DIFFERENT ] || fail "$what: the lists of members differ: ${lists[*]}"
  [ "${lists[0]//[^,]/}" = "$(printf '%*s' $(($# - 1)) '' | tr ' ' ,)" ] || fail "$what: $# members were expected, not ${lists[0]}"
  [ "${codes[0]#* }" != "${last_code:-}" ] || fail "$what: the code is that of the epoch before"
  last_code=${codes[0]#* }
}
all_equal() {
  local first=$1 one
  for one in "$@"; do [ "$one" = "$first" ] || { say DIFFERENT; return; }; done
  if [ $# = 1 ]; then say "on one screen"; else say "equal on $# screens"; fi
}
seconds() { awk -v "a=$began" -v "b=$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }'; }

# The verification code of two members: each computes it from both certificates.
compare_pair() {
  local one other
  one=$(pair_code "$1" "$2") other=$(pair_code "$2" "$1")
  say "      verification code of $1 and $2: $one, $(all_equal "$one" "$other")"
  [ -n "$one" ] && [ "$one" = "$other" ] || fail "the verification codes of $1 and $2 differ: '$one' and '$other'"
}
pair_code() { gst-mls room codes "$2" --socket "$work/$1.socket" 2>&1 | sed -nE "s/^ *with +$2 +([0-9 ]+)$/\1/p"; }

posture() {
  local verified
  verified=$(gst-mls posture verify "$out/clinician/posture.json" --ca "$work/clinician/ca.pem" --room consultation 2>&1) ||
    { fail "the clinician's posture report: $verified"; return; }
  say "      the clinician's signed posture report is genuine, and says: $(sed -nE 's/^(Can servers.*\?) +([^:]+):.*/\1 \2/p' <<<"$verified")"
  grep -q '^Can servers see the media? *no' <<<"$verified" || fail "the posture report does not say that servers see nothing"
}

# sent FROM STREAM GUARD TO:NAME[:EPOCH]...: each frame that reached somebody was opened, or is of an epoch before that one
# joined. NAME tells the elements there, join-NAME and open-NAME. How much must come: least_sealed, least_opened, and up to
# which epoch: EPOCH, else least_epoch.
sent() {
  local from=$1 stream=$2 sealed passed dropped unsealed to name least arrived opened before lost epoch
  sealed=$(number "$out/$from.log" "seal-$stream" sealed)
  unsealed=$(grep -c "<seal-$stream> Dropped a frame after [1-9]" "$out/$from.debug" || true)
  passed=$(number "$out/relay.log" "$3" forwarded)
  dropped=$(number "$out/relay.log" "$3" dropped)
  shift 3
  say "   $stream of the $from: $sealed sealed, $unsealed left unsealed; relay: $passed packets passed, $dropped dropped"
  ((sealed >= least_sealed)) || fail "only $sealed $stream frames of the $from were sealed in $length s"
  ((unsealed == 0)) || fail "the $from had no key for $unsealed $stream frames, see $out/$from.debug"
  ((passed >= sealed && dropped == 0)) || fail "the relay passed $passed $stream packets of the $from and dropped $dropped"
  for to in "$@"; do
    IFS=: read -r to name least <<<"$to"
    arrived=$(number "$out/$to.log" "join-$name" frames)
    opened=$(number "$out/$to.log" "open-$name" opened)
    epoch=$(number "$out/$to.log" "open-$name" epoch)
    before=$(from_before "$to" "$name")
    lost=$((arrived - opened - before))
    say "      to the $to: $arrived arrived, $opened opened, $before from before it joined, $lost lost because of keys"
    ((lost == 0)) || fail "$lost $stream frames of the $from were lost because of keys to the $to, see $out/$to.debug"
    ((opened >= least_opened)) || fail "the $to opened only $opened $stream frames of the $from"
    ((epoch >= ${least:-$least_epoch})) || fail "the $to opened no $stream frame of the $from after the keys were renewed"
  done
}
# Frames of epochs in which this member was not in the room. The low four bits of a KID are its epoch's (RFC 9605 §5.2).
from_before() {
  local first
  first=$(sed -nE 's/.*mls-epoch-changed, epoch=\(guint64\)([0-9]+),.*/\1/p' "$out/$1.log" | head -n 1)
  sed -nE "s/.*<open-$2> Dropped a frame of KID ([0-9]+): no-key$/\1/p" "$out/$1.debug" |
    awk -v "first=${first:-0}" '$1 % 16 < first { n++ } END { print n + 0 }'
}

# What a curious relay gets out of its capture of the clinician. It cannot be played with a key, as those of the other
# graphs: the keys are gone. So what shows that it is whole is that it joins to as many frames as were sealed; and the
# encoded media to look for is what the patient's decoders got.
try_capture() {
  local stream sealed frames from=$root/pipelines/vp8-opus without control
  CAPTURE=$out/relay play "$out/frames.log" "$root/pipelines/room/frames.sh"
  for stream in video audio; do
    sealed=$(number "$out/clinician.log" "seal-$stream" sealed)
    frames=$(number "$out/frames.log" "join-$stream" frames)
    say "   the relay's capture of the clinician's $stream: $frames sealed frames"
    ((frames == sealed)) || fail "the relay's capture has $frames of $sealed $stream frames, so it proves nothing"
  done
  CAPTURE=$out/relay OUT=$out/played-without-key play "$out/played-without-key.log" env -u KEYS "$from/replay.sh"
  CAPTURE=$out/unsealed play "$out/unsealed.log" env -u KEYS "$from/unsealed.sh"
  CAPTURE=$out/unsealed OUT=$out/played-unsealed play "$out/played-unsealed.log" env -u KEYS "$from/replay.sh"
  without=$(pictures "$out/played-without-key") control=$(pictures "$out/played-unsealed")
  say "   that capture, played with the stock depayloader and decoder: $without pictures"
  say "   an unsealed capture, played in the same way (the control): $control pictures"
  ((without == 0)) || fail "$without pictures could be decoded at the relay: $out/played-without-key"
  ((control > 0)) || fail "an unsealed capture cannot be played, so the check proves nothing: $out/played-unsealed.log"
  search_plain video "$out/patient/video.bin"
  search_plain audio "$out/patient/audio.bin"
  compare_sound "$out/patient/sound.wav"
}
