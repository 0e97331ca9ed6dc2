# Graphs of scripts/demo, which sources this: the variants in pipelines/ that are about one thing each.
# shellcheck shell=bash disable=SC2034,SC2154

# Like the other graphs with a key file; and what arrives must still be as large as the screen.
run_screen_share() {
  run_graph screen-share "$1"
  local size
  size=$(png_size "$out/picture.png")
  say "   the picture that arrived: $size"
  [ "$size" = 1920x1080 ] || fail "the screen was 1920x1080, the receiver's picture is ${size:-not there}"
}
# The width and height of a PNG file, as its first chunk says (RFC 2083 §11.2.1).
png_size() { [ ! -s "$1" ] || od -An -j 16 -N 8 -v -tu1 "$1" | awk '{ print ($3 * 256 + $4) "x" ($7 * 256 + $8) }'; }

# until_true SECONDS WHAT COMMAND...: waits for it, so that nothing here depends on how fast this machine is.
until_true() {
  local tenth
  for ((tenth = 0; tenth < $1 * 10; tenth++)); do
    ! "${@:3}" || return 0
    sleep 0.1
  done
  fail "in $1 s, $2"
  return 1
}
holds() { grep -qsF -- "$2" "$1"; } # holds FILE WORDS

identities() { # identities NAME...: an authority, and a participant each
  local who
  { gst-mls ca new --name Clinic --out "$work/$graph-ca" && for who; do
    rm -rf "${work:?}/$who"
    gst-mls identity new --ca "$work/$graph-ca" --role participant --id "$who" --out "$work/$who"
  done; } >"$out/identities.log" || die "gst-mls made no identities, see $out/identities.log"
}

# Two people write to each other, and one sends a photo. Both must arrive as they were sent, and stand nowhere in what
# carries the room. The control is the same search in a log that carries them unsealed.
run_messages() {
  graph=messages
  out=$target/demo/messages
  rm -rf "$out"
  mkdir -p "$out"/{clinician,patient}
  local from=$root/pipelines/messages clinician patient log=$work/messages.sqlite photo=$out/wound-left-hand.jpg
  local question="Where does it hurt, and since when?" answer="Since Monday, on the left side."
  say
  say "── messages: a clinician and a patient write to each other, the patient sends a photo"
  identities clinician patient
  mkfifo "$work/clinician.say" "$work/patient.say"
  gst-launch-1.0 videotestsrc num-buffers=1 pattern=snow ! video/x-raw,width=640,height=360 ! jpegenc \
    ! filesink location="$photo" >"$out/photo.log" 2>&1 || die "no photo, see $out/photo.log"

  member clinician 0 "$from/person.sh" CREATE=yes SAY="$work/clinician.say" NAME="Dr Weber"
  clinician=$started
  all_in 0 clinician
  member patient 0 "$from/person.sh" SAY="$work/patient.say" NAME="Anna" PHOTO="$photo"
  patient=$started
  all_in 1 clinician patient
  printf '%s' "$question" >"$work/clinician.say"
  until_true 30 "the patient did not get the clinician's words" holds "$out/patient/messages.txt" "$question" || true
  printf '%s' "$answer" >"$work/patient.say"
  until_true 30 "the clinician did not get the patient's words" holds "$out/clinician/messages.txt" "$answer" || true
  until_true 30 "the clinician did not get the photo as it was sent" cmp -s "$photo" "$out/clinician/photo-000.jpg" || true
  say "   the patient read: $(cat "$out/patient/messages.txt")"
  say "   the clinician read: $(cat "$out/clinician/messages.txt"); and got a photo of $(wc -c <"$out/clinician/photo-000.jpg") bytes"
  # SQLite keeps the newest records in a second file.
  cat "$log"* >"$out/carried"
  finish "$patient" patient
  finish "$clinician" clinician

  local found all control_found control_all words
  "$root/scripts/unsealed-log" "$out/unsealed.sqlite" "$question" "$answer" "${photo##*/}" "$photo"
  read -r found all < <(pieces_in "$photo" "$out/carried")
  read -r control_found control_all < <(pieces_in "$photo" "$out/unsealed.sqlite")
  say "   the photo: $found of $all pieces stand in what carries the room; in the control $control_found of $control_all"
  ((all > 0 && found == 0)) || fail "$found of $all pieces of the photo stand in the room's log in clear: $out/carried"
  ((control_found * 2 > control_all)) || fail "the search for the photo finds too little in the control to prove anything"
  for words in "$question" "$answer" "${photo##*/}"; do
    ! holds "$out/carried" "$words" || fail "'$words' stands in the room's log in clear: $out/carried"
    holds "$out/unsealed.sqlite" "$words" || fail "'$words' is not found in the control, so the search proves nothing"
  done
  say "   neither the words nor the photo's name stand in what carries the room; in the control all of them do"
}

# Three calls at once: a listener hears what is said; what a muted sender sends has nothing in it; and the packets of a steady
# one do not tell a relay when somebody speaks.
run_audio_only() {
  graph=audio-only
  local whole=$target/demo/audio-only length=$1 from=$root/pipelines/audio-only call least most wanted
  local -A relays=() receivers=() senders=()
  rm -rf "$whole"
  local PORT
  say
  say "── audio-only: sender → relay → listener for $length s, three calls: with DTX, muted, steady"
  for call in dtx muted steady; do
    out=$whole/$call
    mkdir -p "$out"/{relay,unsealed,played-without-key,played-with-key,played-unsealed}
    # A key for each: two senders that seal under one would use nonces twice.
    (umask 077; say "2 $(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')" >"$work/keys-$call")
    PORT=$(free_ports 20)
    start relay env -u KEYS PORT="$PORT" CAPTURE="$out/relay" "$root/pipelines/relay.sh"
    relays[$call]=$started
    start receiver env KEYS="$work/keys-$call" PORT="$PORT" OUT="$out" "$from/receiver.sh"
    receivers[$call]=$started
    wait_for_port $((PORT + 4)) "${relays[$call]}" relay
    wait_for_port $((PORT + 14)) "${receivers[$call]}" receiver
    start sender env KEYS="$work/keys-$call" PORT="$PORT" ${settings_of[$call]} "$from/sender.sh"
    senders[$call]=$started
  done
  # Mono, 16 bits, 48 kHz.
  wanted=$((length * 96000))
  for call in dtx muted steady; do
    until_true 60 "the listener of $call did not get $length s of sound" at_least_bytes "$whole/$call/sound.wav" "$wanted" || true
  done
  for call in dtx muted steady; do
    out=$whole/$call
    finish "${senders[$call]}" sender
    finish "${relays[$call]}" relay
    finish "${receivers[$call]}" receiver
    read -r least most < <(packet_sizes "$out/relay/audio.rtp")
    say "   $call: $(number "$out/sender.log" seal-audio sealed) packets sealed, $(number "$out/receiver.log" open-audio opened) opened;" \
      "of $least to $most bytes; the loudest sample that was heard: $(loudest "$out/sound.wav") of 32767"
    ((10 * $(number "$out/receiver.log" open-audio opened) >= 9 * $(number "$out/sender.log" seal-audio sealed))) ||
      fail "$call: too few of the packets were opened, see $out"
    (($(number "$out/relay.log" guard-audio dropped) == 0)) || fail "$call: the relay dropped packets, see $out/relay.log"
    case $call in
      dtx) ((most - least > 20)) || fail "with DTX the packets have one size, so the check of STEADY proves nothing" ;;
      muted) (($(loudest "$out/sound.wav") < 10)) || fail "a muted sender is heard: $out/sound.wav" ;;
      # The counter in the SFrame header gets a byte longer at 256.
      steady) ((most - least <= 2)) || fail "the packets of a steady sender have $least to $most bytes" ;;
    esac
  done

  out=$whole/dtx
  CAPTURE=$out/relay OUT=$out/played-without-key play "$out/played-without-key.log" env -u KEYS "$from/replay.sh"
  CAPTURE=$out/relay OUT=$out/played-with-key play "$out/played-with-key.log" env KEYS="$work/keys-dtx" "$from/replay.sh"
  CAPTURE=$out/unsealed play "$out/unsealed.log" env -u KEYS "$from/unsealed.sh"
  CAPTURE=$out/unsealed OUT=$out/played-unsealed play "$out/played-unsealed.log" env -u KEYS "$from/replay.sh"
  search_plain audio "$out/played-with-key/audio.bin"
  compare_sound "$out/sound.wav" "$out/played-with-key/sound.wav"
  say "   listen to $out/sound.wav"
}
declare -A settings_of=([dtx]="" [muted]="MUTE=yes" [steady]="STEADY=yes")
at_least_bytes() { [ -s "$1" ] && (($(wc -c <"$1") >= $2)); }
# The least and the greatest size of the packets in a capture (RFC 4571: two bytes of length before each).
packet_sizes() {
  od -An -v -w1 -tu1 "$1" | awk 'skip { skip--; next } !half { high = $1; half = 1; next }
    { half = 0; skip = size = high * 256 + $1; if (!n++ || size < least) least = size; if (size > most) most = size }
    END { print least + 0, most + 0 }'
}
loudest() { # the greatest sample of a WAV file with 16 bits
  od -An -v -w2 -j 44 -td2 "$1" | awk '{ a = $1 < 0 ? -$1 : $1; if (a > most) most = a } END { print most + 0 }'
}
