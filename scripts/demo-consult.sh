# The first graphs of scripts/demo, which sources this: a whole consultation that is recorded, and the same in a strict room.
# shellcheck shell=bash disable=SC2034,SC2154

# A clinician and a patient talk in a recorded room, an interpreter comes and goes, recording is switched on and off. What
# is done with the recording afterwards, and the picture of it all, are in demo-afterwards.sh and demo-sheet.sh.
run_consult() {
  graph=consult
  local length=$1 from=$root/pipelines PORT relay clinician patient interpreter recorder
  local -x SPEECH=$work/questions.wav
  local -A at=()
  local events=() consent=$from/consult/consent.json both=(ACCEPT=recorded INTERPRETER=yes PICTURES=picture-%03d.png)
  new_room 50 relay clinician patient interpreter recorder unsealed played-without-key played-unsealed
  say "── consult: a clinician and a patient in a recorded room, an interpreter, a recorder; UDP ports $PORT to $((PORT + 49))"
  identities clinician patient interpreter recorder
  prepare_recording
  say "   made on the spot: an authority, four identities, a key of the records office, keys for 3 recordings, the room's policy"
  speeches

  CAPTURE=$out/relay start relay env -u KEYS PORT="$PORT" "$from/room/relay.sh"
  relay=$started
  wait_for_port "$PORT" "$relay" relay
  began=${EPOCHREALTIME%.*}
  member clinician "$PORT" "$from/room/participant.sh" CREATE=yes POLICY="$work/policy.json" SPEECH="$work/questions.wav" \
    CAPTION=clinician KEYFRAMES=60 "${both[@]}"
  clinician=$started
  all_in 0 clinician
  tell "the clinician opened the room" clinician
  member patient $((PORT + 10)) "$from/room/participant.sh" SPEECH="$work/answers.wav" CAPTION=patient PATTERN=ball \
    WINDOW="$window" "${both[@]}"
  patient=$started
  all_in 1 clinician patient
  tell "the patient joined" clinician patient
  compare_pair clinician patient
  member recorder $((PORT + 30)) "$from/recording/recorder.sh" KEYS="$work/recording-keys" CONSENT="$consent" AUDIT="$out/audit" \
    INTERPRETER=yes
  recorder=$started
  all_in 2 clinician patient recorder
  tell "the recorder joined, and all see it" clinician patient recorder
  talk
  [ -z "$(ls -A "$out/recorder/recordings" 2>/dev/null)" ] || fail "something was recorded before recording was on"
  recording on 3 clinician patient recorder
  mark on "recording on"
  talk
  member interpreter $((PORT + 20)) "$from/consult/interpreter.sh" ACCEPT=recorded SPEECH="$work/translation.wav" PICTURES=picture-%03d.png
  interpreter=$started
  all_in 4 clinician patient recorder interpreter
  tell "the interpreter joined" clinician patient interpreter recorder
  mark joined "interpreter joins"
  talk
  keep_posture
  finish "$interpreter" interpreter
  all_in 5 clinician patient recorder
  mark left "interpreter leaves"
  tell "the interpreter left" clinician patient recorder
  talk
  recording off 6 clinician patient recorder
  mark off "recording off"
  talk
  mark end "end"
  # The recorder last: what it left out while recording was off is counted when all has come.
  finish "$clinician" clinician
  finish "$patient" patient
  finish "$recorder" recorder
  finish "$relay" relay

  say
  say "   Who could see it, by the clinician's signed report of $(awk -v a="${at[joined]}" -v b="${at[left]}" 'BEGIN { printf "%.0f", (a + b) / 2 }') s:"
  key_holders
  say
  say "   Frames, from end to end:"
  local stream least_sealed=$((5 * length)) least_opened=$((2 * length)) least_epoch=6
  for stream in video audio; do
    sent clinician "$stream" "guard-a-$stream" patient:"$stream" interpreter:"$stream":4 recorder:a-"$stream"
  done
  sent patient video guard-b-video clinician:video recorder:b-video
  sent patient audio guard-b-audio clinician:audio interpreter:patient:4 recorder:b-audio
  least_sealed=$least_opened sent interpreter audio guard-c-audio clinician:interpreter:4 patient:interpreter:4 recorder:c-audio:4
  say
  say "   What the relay could see:"
  relay_saw
  try_capture
  say
  say "   The recording and its log:"
  check_recording
  say
  say "   Opening it:"
  afterwards
  contact_sheet
  say
  say "   To look at, in $out:"
  say "      contact-sheet.png   who saw what, over time      report.html    the recording's report, for a compliance lead"
  say "      posture.json        who held keys, signed        posture.txt    the same for people"
  say "      export/             for the medical record       audit.txt      what the audit log says"
}

# Somebody asks, somebody answers, and what the interpreter says. Each lasts longer than the call.
speeches() {
  espeak-ng -s 130 -w "$work/questions.wav" "$(repeated "Good morning. Can you tell me when the headaches began? How often do they
    come, and what helps? Is it worse in the evening, or after work? Please go on with the tablets, one a day, not two.")"
  espeak-ng -s 140 -v en-gb-scotland -w "$work/answers.wav" "$(repeated "Since Monday. Mostly late, and it is the left side. I slept
    badly, and coffee makes it worse. No, I have not had that before. Yes. Thank you, I will call on Thursday.")"
  espeak-ng -s 140 -v es -w "$work/translation.wav" "$(repeated "Desde el lunes. Sobre todo por la noche. Una pastilla al día, no dos.")"
}
repeated() { for _ in {1..6}; do say "$*"; done; }

mark() { # mark NAME WORDS: remembers when something happened, for the contact sheet
  at[$1]=$(seconds)
  events+=("${at[$1]} $2")
}
# Lets them talk for a fifth of the time that is left beside the setting up, and says how far they are.
talk() {
  sleep "$(awk -v "s=$length" 'BEGIN { print (s > 10 ? s - 5 : s) / 5 }')"
  say "   $(seconds) s: … they talk; the relay has passed $(bytes "$out/relay") bytes, recorded are $(bytes "$out/recorder")"
}
bytes() { du -sb --apparent-size "$1" | cut -f1; }

# What the relay could read of what the clinician sent; it kept all of it.
relay_saw() {
  local stream rate kids
  for stream in video:90000 audio:48000; do
    rate=${stream#*:} stream=${stream%:*}
    "$root/scripts/relay-sees" "$out/relay/$stream.rtp" "$rate" >"$out/relay/$stream.txt" 2>&1 ||
      { fail "nothing can be read of the relay's capture: $(cat "$out/relay/$stream.txt")"; continue; }
    kids=$(grep -c ^KID "$out/relay/$stream.txt" || true)
    say "   of the clinician's $stream sizes, times, and $kids KIDs, another at each change of keys: $(head -n 1 "$out/relay/$stream.txt")," \
      "$(sed -n '2p;$p' "$out/relay/$stream.txt" | paste -sd'~' | sed 's/~/ … /')"
    ((kids >= 5)) || fail "$kids KIDs were seen in the $stream, where the keys changed at each of 6 commits"
  done
}

# The clinician's posture report, which is gone when the clinician is: that of an epoch with the interpreter.
keep_posture() {
  local until=$((SECONDS + 60))
  while ((SECONDS < until)); do
    cp "$out/clinician/posture.json" "$out/posture.json"
    ! grep -q 'interpreter' "$out/posture.json" || return 0
    sleep 0.1
  done
}
# Who held keys, as the posture report says that the clinician's endpoint signed while the interpreter was there.
key_holders() {
  gst-mls posture verify "$out/posture.json" --ca "$work/clinician/ca.pem" --room consultation >"$out/posture.txt" 2>&1 ||
    { fail "the clinician's posture report does not verify, see $out/posture.txt"; return; }
  awk '/^(GENUINE|Can servers|Who can|Claim|Recording  )/ { print "   " $0 }
    /^  [0-9]+ / { who = who comma $2 " (" $3 ")"; comma = ", " }
    END { print "   Key holders                 " who }' "$out/posture.txt"
  grep -q '^Claim *recorded' "$out/posture.txt" && grep -q '^Can servers see the media? *no' "$out/posture.txt" ||
    fail "the posture report does not say recorded, and that servers see nothing: $out/posture.txt"
  [ "$(awk '/^  [0-9]+ / { print $2 }' "$out/posture.txt" | sort | paste -sd' ')" = "clinician interpreter patient recorder" ] ||
    fail "the posture report does not name the four who held keys: $out/posture.txt"
}

# The same with a strict room: the recorder asks to be let in, everybody refuses it and says so, and the talk goes on.
run_strict() {
  graph=strict
  local length=$1 from=$root/pipelines PORT relay clinician patient recorder who reason second opened
  local consent=$from/consult/consent.json
  new_room 50 relay clinician patient recorder
  say "── strict: a clinician and a patient in a strict room, and a recorder that asks to be let in; UDP ports $PORT to $((PORT + 49))"
  identities clinician patient recorder
  prepare_recording
  CAPTURE=$out/relay start relay env -u KEYS PORT="$PORT" "$from/room/relay.sh"
  relay=$started
  wait_for_port "$PORT" "$relay" relay
  began=${EPOCHREALTIME%.*}
  member clinician "$PORT" "$from/room/participant.sh" CREATE=yes SPEECH="$SPEECH"
  clinician=$started
  all_in 0 clinician
  member patient $((PORT + 10)) "$from/room/participant.sh" WINDOW="$window"
  patient=$started
  all_in 1 clinician patient
  tell "the patient joined" clinician patient
  member recorder $((PORT + 30)) "$from/recording/recorder.sh" KEYS="$work/recording-keys" CONSENT="$consent" AUDIT="$out/audit"
  recorder=$started
  for who in clinician patient; do
    reason=$(wait_for_line "$who" 's/.*mls-refused, what=\(string\)key-package, by=\(string\)recorder, reason=\(string\)"(.*)";/\1/p') ||
      { fail "the $who did not refuse the recorder, see $out/$who.log"; continue; }
    say "   $(seconds) s: the $who posts mls-refused, by=recorder, reason=\"${reason//\\/}\""
  done
  sleep "$length"
  posture
  say "   $(seconds) s: the recorder's own state: $(status recorder | sed -nE 's/^state +//p')"
  all_in 1 clinician patient
  finish "$clinician" clinician
  finish "$patient" patient
  finish "$recorder" recorder
  finish "$relay" relay
  local stream least_sealed=$((5 * length)) least_opened=$((2 * length)) least_epoch=1
  for stream in video audio; do
    sent clinician "$stream" "guard-a-$stream" patient:"$stream"
    sent patient "$stream" "guard-b-$stream" clinician:"$stream"
  done
  for stream in a-video a-audio b-video b-audio; do
    opened=$(number "$out/recorder.log" "open-$stream" opened)
    ((opened == 0)) || fail "the recorder opened $opened frames of $stream"
  done
  say "   the recorder got $(number "$out/recorder.log" open-a-video no-key) video frames of the clinician, and a key for none; it wrote" \
    "$(find "$out/recorder/recordings" -type f 2>/dev/null | wc -l) files"
  [ -z "$(find "$out/recorder/recordings" -type f 2>/dev/null)" ] || fail "the recorder wrote into $out/recorder/recordings"
}
wait_for_line() { # wait_for_line WHO SED: what that sed -E program makes of the first line in WHO.log that it matches
  local tenth found
  for ((tenth = 0; tenth < 600; tenth++)); do
    found=$(sed -nE "$2" "$out/$1.log" | head -n 1)
    [ -z "$found" ] || { say "$found"; return; }
    sleep 0.1
  done
  return 1
}
