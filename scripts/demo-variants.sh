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

# Two people write to each other, and one sends a photo. Both must arrive as they were sent, and stand nowhere in what
# carries the room. The control is the same search in a log that carries them unsealed.
run_messages() {
  graph=messages
  local PORT from=$root/pipelines/messages clinician patient log=$work/messages.sqlite
  new_room 1 clinician patient # messages use no port
  local question="Where does it hurt, and since when?" answer="Since Monday, on the left side." photo=$out/wound-left-hand.jpg
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
  # Open for both ways, so that this waits for nobody, should the reader be gone.
  printf '%s' "$question" 1<>"$work/clinician.say"
  until_true 30 "the patient did not get the clinician's words" holds "$out/patient/messages.txt" "$question" || true
  printf '%s' "$answer" 1<>"$work/patient.say"
  until_true 30 "the clinician did not get the patient's words" holds "$out/clinician/messages.txt" "$answer" || true
  until_true 30 "the clinician did not get the photo as it was sent" cmp -s "$photo" "$out/clinician/photo-000.jpg" || true
  say "   the patient read: $(cat "$out/patient/messages.txt")"
  say "   the clinician read: $(cat "$out/clinician/messages.txt"); and got a photo of $(wc -c <"$out/clinician/photo-000.jpg") bytes"
  # SQLite keeps the newest records in a second file.
  cat "$log"* >"$out/carried"
  at_least_bytes "$out/carried" "$(wc -c <"$photo")" || fail "what carries the room is smaller than the photo: $out/carried"
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

# A room whose recordings nobody opens alone. A guest agreed to `recorded` and to nothing weaker, so the guest's endpoint sends
# nothing and says so; the others accept `escrow` and are recorded. One custodian opens nothing, two do.
run_escrow() {
  graph=escrow
  local length=$1 from=$root/pipelines PORT relay clinician patient guest recorder posture recording video audio likeness
  new_room 50 clinician patient guest recorder approvals opened played
  say "── escrow: a clinician, a patient, a guest and a recorder; 2 of 3 custodians open the recording; UDP ports $PORT to" \
    "$((PORT + 49))"
  identities clinician patient guest recorder
  prepare_escrow

  start relay env PORT="$PORT" "$from/room/relay.sh"
  relay=$started
  wait_for_port "$PORT" "$relay" relay
  member clinician "$PORT" "$from/room/participant.sh" CREATE=yes POLICY="$work/escrow-policy.json" ACCEPT=escrow SPEECH="$SPEECH"
  clinician=$started
  all_in 0 clinician
  member patient $((PORT + 10)) "$from/room/participant.sh" ACCEPT=escrow
  patient=$started
  all_in 1 clinician patient
  member guest $((PORT + 20)) "$from/room/participant.sh" ACCEPT=recorded
  guest=$started
  all_in 2 clinician patient guest
  member recorder $((PORT + 30)) "$from/recording/recorder.sh" ACCEPT=escrow KEYS="$work/escrow-keys" AUDIT="$out/audit" \
    CONSENT="$from/recording/consent.json"
  recorder=$started
  all_in 3 clinician patient guest recorder
  recording on 4 clinician patient guest recorder
  until_true 30 "the recorder did not start" holds "$out/recorder.log" compliance-started || true
  sleep "$length"
  posture=$(gst-mls posture verify "$out/clinician/posture.json" --ca "$work/clinician/ca.pem" --room consultation 2>&1) ||
    fail "the clinician's posture report: $posture"
  say "   the clinician's signed posture report is genuine, and says:"
  sed -nE '/^(Can servers|Claim|Recording  |.*custodians|.*2 of 3)/s/^/      /p' <<<"$posture"
  grep -qiE "2 of 3" <<<"$posture" || fail "the posture report does not say that 2 of 3 custodians open recordings"
  finish "$guest" guest
  finish "$clinician" clinician
  finish "$patient" patient
  finish "$recorder" recorder
  finish "$relay" relay

  say "   sealed: $(number "$out/clinician.log" seal-video sealed) pictures of the clinician, who accepts escrow;" \
    "$(number "$out/patient.log" seal-video sealed) of the patient, too; $(number "$out/guest.log" seal-video sealed) of the guest," \
    "who accepts recorded"
  (($(number "$out/clinician.log" seal-video sealed) > 0)) || fail "the clinician sent nothing"
  holds "$out/guest.log" sframeenc-stats && (($(number "$out/guest.log" seal-video sealed) == 0)) || fail "the guest sent under a claim that it does not accept"
  holds "$out/guest.log" mls-not-accepted || fail "the guest's endpoint does not say why it sends nothing"

  recording=$(find "$out/recorder/recordings" -mindepth 1 -maxdepth 1)
  gst-compliance verify "$recording" >"$out/verify.log" 2>&1 || fail "the recording does not verify, see $out/verify.log"
  say "   the recording: $(head -n 1 "$out/verify.log")"
  video=$(sed -nE 's/^ *track ([0-9]+) +video.*/\1/p' "$out/verify.log" | head -n 1)
  ask
  approve 1
  if open_approved; then fail "one custodian opened the recording"; else say "   with one approval: $(tail -n 1 "$out/open.log")"; fi
  [ -z "$(find "$out/opened" -type f)" ] || fail "one approval left something in $out/opened"
  approve 3
  open_approved || fail "two custodians could not open the recording, see $out/open.log"
  # The patient's ticks are no speech: one of the two sounds is the clinician's.
  for audio in $(sed -nE 's/^ *track ([0-9]+) +audio.*/\1/p' "$out/verify.log"); do
    OPENED=$out/opened IDENTITY=$work/once.txt VIDEO=$video AUDIO=$audio OUT=$out/played \
      play "$out/played.log" "$from/escrow/playback.sh"
    likeness=$(alike "$out/played/sound.wav")
    ! at_least "$likeness" || break
  done
  say "   with two of three, played to the one who asked: $(pictures "$out/played") pictures, likeness to the spoken words $likeness"
  (($(pictures "$out/played") > 0)) || fail "what the custodians opened plays no picture, see $out/played.log"
  at_least "$likeness" || fail "what the custodians opened does not sound like what was said, see $out/played.log"
  say "   look at $out/played/picture-001.jpg"
}
# What an organisation does beforehand: three custodians, each with a key of their own; keys that are dealt to them; the policy.
prepare_escrow() {
  local who fingerprint reference ca
  say "2 of 3" >"$work/custodians"
  for who in 1 2 3; do
    (umask 077; age-keygen -o "$work/custodian-$who.txt" 2>/dev/null)
    gst-compliance keys custodian --identity "$work/custodian-$who.txt" --person "custodian-$who" >>"$work/custodians" ||
      die "gst-compliance made no line for custodian $who"
  done
  gst-compliance keys prepare --escrow "$work/custodians" --count 1 --dealer-key "$work/escrow-dealer.key" --out "$work/escrow-keys" \
    >"$out/keys.log" || die "gst-compliance made no keys, see $out/keys.log"
  fingerprint=$(sed -nE 's/.*"fingerprint": "([0-9a-f]{64})".*/\1/p' "$out/keys.log")
  reference=$(gst-compliance consent "$root/pipelines/recording/consent.json") || die "the consent does not permit recording"
  ca=$(gst-mls fingerprint "$work/$graph-ca/ca.pem" | grep -oE '[0-9a-f]{64}' | head -n 1)
  sed -e "s/ROOT/$ca/" -e "s/CUSTODIANS/$fingerprint/" -e "s/REFERENCE/$reference/" "$root/pipelines/escrow/policy.json" \
    >"$work/escrow-policy.json"
}
ask() {
  rm -f "$work/once.txt" "$work/once-station.key"
  (umask 077; age-keygen -o "$work/once.txt" 2>/dev/null)
  gst-compliance request "$recording" --audit-log "$out/audit" --requester reader-1 --reason "demonstration" --ticket D-1 \
    --for "$(age-keygen -y "$work/once.txt")" --expires 1h --station-key "$work/once-station.key" --out "$out/request.json" \
    >"$out/request.log" 2>&1 || fail "nothing could be asked for, see $out/request.log"
}
approve() { # approve CUSTODIAN
  gst-compliance approve "$out/request.json" --identity "$work/custodian-$1.txt" --log "$(cat "$out/audit/vkey")" \
    --custodians "$work/custodians" --out "$out/approvals/$1.json" >"$out/approve-$1.log" 2>&1 ||
    fail "custodian $1 could not approve, see $out/approve-$1.log"
}
open_approved() {
  gst-compliance open "$recording" --approvals "$out/approvals" --station-key "$work/once-station.key" \
    --custodians "$work/custodians" --audit-log "$out/audit" --out "$out/opened" >"$out/open.log" 2>&1
}

# What a recogniser on the sender's machine understands is read by the receiver, in a file and in the picture, and by no relay.
run_captions() {
  graph=captions
  out=$target/demo/captions
  rm -rf "$out"
  mkdir -p "$out"/{relay,unsealed,played-with-key}
  local from=$root/pipelines/captions relay receiver sender stream sealed opened words speech=$work/captions.wav with without
  local said=("I have a headache." "Since Monday." "Mostly in the evening." "Take one tablet today.") captions=() understood
  local -x PORT
  PORT=$(free_ports 20)
  say
  say "── captions: speech is recognised at the sender, its words are sealed as a text track; UDP ports $PORT to $((PORT + 19))"
  gst-inspect-1.0 pocketsphinx >/dev/null 2>&1 || die "no GStreamer element pocketsphinx; run scripts/setup run"
  espeak-ng -m -w "$speech" "<speak><break time=\"600ms\"/>$(printf '%s<break time="900ms"/>' "${said[@]}")</speak>"

  CAPTURE=$out/relay start relay env -u KEYS "$root/pipelines/relay.sh"
  relay=$started
  OUT=$out WINDOW=$window start receiver "$from/receiver.sh"
  receiver=$started
  wait_for_port "$PORT" "$relay" relay
  wait_for_port $((PORT + 10)) "$receiver" receiver
  start sender env SPEECH="$speech" "$from/sender.sh"
  sender=$started
  until_true 90 "the receiver did not get the last words" holds "$out/captions.txt" "take one tablet today" || true
  until_true 30 "no words stand in the receiver's picture" lettered "$out/picture.png" pngdec || true
  finish "$sender" sender
  finish "$relay" relay
  finish "$receiver" receiver

  # A recogniser may miss something; what it understood must arrive, and be most of what was said.
  mapfile -t captions <"$out/captions.txt"
  understood=$(grep -c "final=(boolean)true, .*hypothesis=(string)." "$out/sender.log" || true)
  say "   said: ${said[*]}"
  say "   the receiver read: $(printf '%s, ' "${captions[@]}")"
  ((understood >= 3)) || fail "the recogniser understood $understood of ${#said[@]} sentences"
  ((${#captions[@]} == understood)) || fail "of $understood captions ${#captions[@]} arrived: $out/captions.txt"
  for stream in video text; do
    sealed=$(number "$out/sender.log" "seal-$stream" sealed) opened=$(number "$out/receiver.log" "open-$stream" opened)
    say "   $stream: $sealed sealed, $opened opened"
    ((sealed > 0 && opened * 10 >= sealed * 9)) || fail "only $opened of $sealed sealed $stream frames were opened"
  done

  CAPTURE=$out/relay OUT=$out/played-with-key play "$out/played-with-key.log" "$from/replay.sh"
  CAPTURE=$out/unsealed CAPTIONS=$out/captions.txt play "$out/unsealed.log" "$from/unsealed.sh"
  cmp -s "$out/captions.txt" "$out/played-with-key/captions.txt" || fail "the relay's capture has not all captions, so it proves nothing"
  for words in "${captions[@]}"; do
    grep -qiF -- "$words" <<<"${said[*]//./}" || fail "'$words' was not said"
    ! holds "$out/relay/audio.rtp" "$words" || fail "'$words' stands in the relay's capture in clear"
    holds "$out/unsealed/audio.rtp" "$words" || fail "'$words' is not found in the control, so the search proves nothing"
  done
  say "   the words stand nowhere in the relay's capture, which has all of them with the key; in the control they are found"
  (($(pictures "$out/played-with-key") > 0)) || fail "the capture's video cannot be played with the key: $out/played-with-key.log"
  lettered "$out/picture.png" pngdec || fail "no words stand in the receiver's picture: $out/picture.png"
  ! lettered "$(find "$out/played-with-key" -name 'picture-*.jpg' | sort | tail -n 1)" jpegdec ||
    fail "the video has something white in it without captions, too, so that looking for words in the picture proves nothing"
  say "   look at $out/picture.png"
}
lettered() { # lettered PICTURE DECODER: is anything in it white? The sender's picture is dark.
  [ -s "$1" ] && gst-launch-1.0 -q filesrc location="$1" ! "$2" ! videoconvert ! video/x-raw,format=GRAY8 \
    ! filesink location="$work/grey" >/dev/null 2>&1 && [ "$(LC_ALL=C tr -cd '\346-\377' <"$work/grey" | wc -c)" -gt 50 ]
}
