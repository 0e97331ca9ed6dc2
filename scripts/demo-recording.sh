# A graph of scripts/demo, which sources this: a recorded room, pipelines/recording; and what all recordings have in common.
# shellcheck shell=bash disable=SC2034,SC2154

# A clinician and a patient talk in a room whose policy admits a recorder; the recorder is a member that all see. Recording
# is switched on and off again by the group. Then the recording and the log are verified, the recording is opened through
# the log, and it is tried without: with the recorder's own files, and with another log.
run_recording() {
  graph=recording
  local length=$1 from=$root/pipelines PORT relay clinician patient recorder
  local consent=$from/recording/consent.json
  new_room 50 clinician patient recorder played opened
  say "── recording: a clinician, a patient and a recorder that both see; UDP ports $PORT to $((PORT + 49))"
  identities clinician patient recorder
  prepare_recording
  say "   made on the spot: an authority, three identities, a recipient's key, keys for 3 recordings; the policy names them," \
    "and the consent"

  start relay env PORT="$PORT" "$from/room/relay.sh"
  relay=$started
  wait_for_port "$PORT" "$relay" relay
  began=${EPOCHREALTIME%.*}
  member clinician "$PORT" "$from/room/participant.sh" CREATE=yes POLICY="$work/policy.json" ACCEPT=recorded SPEECH="$SPEECH"
  clinician=$started
  all_in 0 clinician
  member patient $((PORT + 10)) "$from/room/participant.sh" ACCEPT=recorded
  patient=$started
  all_in 1 clinician patient
  member recorder $((PORT + 30)) "$from/recording/recorder.sh" KEYS="$work/recording-keys" CONSENT="$consent" \
    AUDIT="$out/audit"
  recorder=$started
  all_in 2 clinician patient recorder
  tell "the recorder joined" clinician patient recorder
  sleep "$(awk -v "s=$length" 'BEGIN { print s / 4 }')"
  [ -z "$(ls -A "$out/recorder/recordings" 2>/dev/null)" ] || fail "something was recorded before recording was on"
  recording on 3 clinician patient recorder
  sleep "$(awk -v "s=$length" 'BEGIN { print s / 2 }')"
  recording off 4 clinician patient recorder
  sleep "$(awk -v "s=$length" 'BEGIN { print s / 4 }')"
  finish "$clinician" clinician
  finish "$patient" patient
  finish "$recorder" recorder
  finish "$relay" relay

  check_recording
  open_recording
  play_one_track
  say "   the log's last words: $(gst-compliance audit show "$out/audit" --last 1)"
  say "   look at $out/played/picture-001.jpg"
}

# What an organisation does beforehand: who may open recordings; keys, on a machine that is no recorder; what the patient
# agreed to (the file $consent); and the room's policy, which names all of it.
prepare_recording() {
  local fingerprint reference ca
  rm -rf "$work"/{reader,stranger}.txt "$work/recording-keys"
  (umask 077; age-keygen -o "$work/reader.txt" 2>/dev/null; age-keygen -o "$work/stranger.txt" 2>/dev/null)
  age-keygen -y "$work/reader.txt" >"$work/recipients"
  gst-compliance keys prepare --recipients "$work/recipients" --count 3 --dealer-key "$work/dealer.key" --out "$work/recording-keys" \
    >"$out/keys.log" || die "gst-compliance made no keys, see $out/keys.log"
  fingerprint=$(sed -nE 's/^  ([0-9a-f]{64})  age1.*/\1/p' "$out/keys.log")
  reference=$(gst-compliance consent "$consent") || die "the consent does not permit recording"
  ca=$(gst-mls fingerprint "$work/$graph-ca/ca.pem" | grep -oE '[0-9a-f]{64}' | head -n 1)
  sed -e "s/ROOT/$ca/" -e "s/RECIPIENT/$fingerprint/" -e "s/REFERENCE/$reference/" \
    "$root/pipelines/recording/policy.json" >"$work/policy.json"
}

recording() { # recording on|off EPOCH WHO...: the group says so
  local state=$1 epoch=$2
  shift 2
  gst-mls room set-recording "$state" --socket "$work/clinician.socket" >"$out/set-recording.log" 2>&1 ||
    fail "gst-mls room set-recording $state: $(cat "$out/set-recording.log")"
  all_in "$epoch" "$@"
  tell "gst-mls room set-recording $state" "$@"
}

check_recording() {
  local kept
  [ -d "$out/recorder/recordings" ] || die "nothing was recorded, see $out/recorder.log"
  mapfile -t made < <(find "$out/recorder/recordings" -mindepth 1 -maxdepth 1)
  [ ${#made[@]} = 1 ] || die "${#made[@]} recordings were made, see $out/recorder.log"
  log_key=$(gst-compliance audit verify "$out/audit" --json | sed -nE 's/.*"key":"([0-9a-f]{64})".*/\1/p')
  gst-compliance verify "${made[0]}" >"$out/verify.log" 2>&1 || fail "the recording does not verify, see $out/verify.log"
  sed 's/^/   /' "$out/verify.log"
  gst-compliance audit verify "$out/audit" >"$out/audit.log" 2>&1 || fail "the audit log does not verify, see $out/audit.log"
  say "   the audit log: $(head -n 1 "$out/audit.log")"
  kept=$(number "$out/recorder.log" recorder frames)
  say "   the recorder kept $kept frames, and left $(number "$out/recorder.log" recorder dropped-not-recording) that were sealed while recording was off"
  ((kept >= 10 * length / 2)) || fail "only $kept frames were recorded"
  (($(number "$out/recorder.log" recorder dropped-not-recording) > 0)) || fail "no frame came while recording was off, so that proves nothing"
}

open_recording() {
  local pictures likeness
  play_track clinician "$out/played"
  pictures=$(pictures "$out/played") likeness=$(alike "$out/played/sound.wav")
  say "   played through the log by a recipient: $pictures pictures, likeness to the spoken words $likeness"
  ((pictures > 0)) || fail "the recording plays no picture, see $out/played.log"
  at_least "$likeness" || fail "the recording does not sound like what was said, see $out/played.log"
  if refuses stranger "$work/stranger.txt" "$out/audit"; then say "   somebody else's key: refused, and that stands in the log, too"; fi
  if refuses no-log "$work/reader.txt" "$work/no-log"; then say "   without its audit log: refused"; fi
}
play_track() { # play_track WHO FOLDER: a recipient plays what was recorded of somebody
  mkdir -p "$2"
  RECORDING=${made[0]} IDENTITY=$work/reader.txt AUDIT=$out/audit READER=reader-1 REASON="demonstration" TICKET=D-1 \
    VIDEO=$(track_of "$1" video) AUDIO=$(track_of "$1" audio) OUT=$2 play "$2.log" "$root/pipelines/recording/playback.sh"
}
track_of() { # track_of WHO MEDIUM: the number of the first such track, as the recording's manifest has it
  sed -nE "s/.*\"track\":\{\"track\":([0-9]+),\"medium\":\"$2\",.*\"sender\":\"$1\".*/\1/p" "${made[0]}/manifest" | head -n 1
}

refuses() { # refuses NAME IDENTITY LOG: opening fails, and leaves nothing
  ! gst-compliance open "${made[0]}" --identity "$2" --audit-log "$3" --out "$out/opened/$1" \
    --reader reader-2 --reason "demonstration" --ticket D-2 >"$out/$1.log" 2>&1 &&
    [ -z "$(find "$out/opened/$1" -type f 2>/dev/null)" ] || { fail "the recording was opened: $1, see $out/$1.log"; return 1; }
}

# One track alone, of which the log then says that it was the only one.
play_one_track() {
  local track
  mkdir -p "$out/one-track"
  track=$(sed -nE 's/^ *track ([0-9]+) +video.*/\1/p' "$out/verify.log" | tail -n 1)
  RECORDING=${made[0]} IDENTITY=$work/reader.txt AUDIT=$out/audit READER=reader-1 REASON="demonstration" TICKET=D-3 \
    VIDEO=$track OUT=$out/one-track play "$out/one-track.log" "$root/pipelines/recording/playback.sh"
  say "   track $track alone: $(pictures "$out/one-track") pictures; the log: $(gst-compliance audit show "$out/audit" --last 1 | tail -n 1)"
  (($(pictures "$out/one-track") > 0)) || fail "track $track alone plays no picture, see $out/one-track.log"
  [ ! -e "$out/one-track/sound.wav" ] || fail "with a video track alone there is sound: $out/one-track/sound.wav"
  (($(number "$out/one-track.log" recording tracks) == 1)) || fail "more than track $track was opened, see $out/one-track.log"
}
