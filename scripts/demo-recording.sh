# The last graph of scripts/demo, which sources this: a recorded room, pipelines/recording.
# shellcheck shell=bash disable=SC2034,SC2154

# A clinician and a patient talk in a room whose policy admits a recorder; the recorder is a member that all see. Recording
# is switched on and off again by the group. Then the recording and the log are verified, the recording is opened through
# the log, and it is tried without: with the recorder's own files, and with another log.
run_recording() {
  graph=recording
  local length=$1 from=$root/pipelines relay clinician patient recorder who
  out=$target/demo/recording
  rm -rf "$out"
  mkdir -p "$out"/{clinician,patient,recorder,played,opened}
  local PORT
  PORT=$(free_ports 50)
  say
  say "── recording: a clinician, a patient and a recorder that both see; UDP ports $PORT to $((PORT + 49))"
  prepare_recording

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
  member recorder $((PORT + 30)) "$from/recording/recorder.sh" KEYS="$work/recording-keys" CONSENT="$from/recording/consent.json" \
    AUDIT="$out/audit"
  recorder=$started
  all_in 2 clinician patient recorder
  tell "the recorder joined" clinician patient recorder
  sleep "$(awk -v "s=$length" 'BEGIN { print s / 4 }')"
  [ -z "$(ls -A "$out/recorder/recordings" 2>/dev/null)" ] || fail "something was recorded before recording was on"
  recording on 3
  sleep "$(awk -v "s=$length" 'BEGIN { print s / 2 }')"
  recording off 4
  sleep "$(awk -v "s=$length" 'BEGIN { print s / 4 }')"
  finish "$clinician" clinician
  finish "$patient" patient
  finish "$recorder" recorder
  finish "$relay" relay

  check_recording
  open_recording
}

# What an organisation does beforehand: certificates; who may open recordings; keys, on a machine that is no recorder; what
# the patient agreed to; and the room's policy, which names all of it.
prepare_recording() {
  { gst-mls ca new --name Clinic --out "$work/recorded-ca" && for who in clinician patient; do
    rm -rf "${work:?}/$who"
    gst-mls identity new --ca "$work/recorded-ca" --role participant --id "$who" --out "$work/$who"
  done && gst-mls identity new --ca "$work/recorded-ca" --role recorder --id recorder --out "$work/recorder"; } \
    >"$out/identities.log" || die "gst-mls made no identities, see $out/identities.log"
  local consent=$root/pipelines/recording/consent.json reader fingerprint reference ca
  (umask 077; age-keygen -o "$work/reader.txt" 2>/dev/null; age-keygen -o "$work/stranger.txt" 2>/dev/null)
  age-keygen -y "$work/reader.txt" >"$work/recipients"
  gst-compliance keys prepare --recipients "$work/recipients" --count 3 --dealer-key "$work/dealer.key" --out "$work/recording-keys" \
    >"$out/keys.log" || die "gst-compliance made no keys, see $out/keys.log"
  fingerprint=$(sed -nE 's/^  ([0-9a-f]{64})  age1.*/\1/p' "$out/keys.log")
  reference=$(gst-compliance consent "$consent") || die "the consent does not permit recording"
  ca=$(gst-mls fingerprint "$work/recorded-ca/ca.pem" | grep -oE '[0-9a-f]{64}' | head -n 1)
  sed -e "s/ROOT/$ca/" -e "s/RECIPIENT/$fingerprint/" -e "s/REFERENCE/$reference/" \
    "$root/pipelines/recording/policy.json" >"$work/policy.json"
  say "   made on the spot: an authority, three identities, a recipient's key, keys for 3 recordings; the policy names them," \
    "and the consent"
}

recording() { # recording on|off EPOCH: the group says so
  gst-mls room set-recording "$1" --socket "$work/clinician.socket" >"$out/set-recording.log" 2>&1 ||
    fail "gst-mls room set-recording $1: $(cat "$out/set-recording.log")"
  all_in "$2" clinician patient recorder
  tell "gst-mls room set-recording $1" clinician patient recorder
}

check_recording() {
  local kept
  mapfile -t made < <(find "$out/recorder/recordings" -mindepth 1 -maxdepth 1)
  [ ${#made[@]} = 1 ] || die "${#made[@]} recordings were made, see $out/recorder.log"
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
  local video audio pictures likeness
  video=$(sed -nE 's/^ *track ([0-9]+) +video.*/\1/p' "$out/verify.log" | head -n 1)
  # The patient's ticks are no speech: one of the two sounds is the clinician's.
  for audio in $(sed -nE 's/^ *track ([0-9]+) +audio.*/\1/p' "$out/verify.log"); do
    RECORDING=${made[0]} IDENTITY=$work/reader.txt AUDIT=$out/audit READER=reader-1 REASON="demonstration" TICKET=D-1 \
      VIDEO=$video AUDIO=$audio OUT=$out/played play "$out/played.log" "$root/pipelines/recording/playback.sh"
    likeness=$(alike "$out/played/sound.wav")
    at_least "$likeness" && break
  done
  pictures=$(pictures "$out/played")
  say "   played through the log by a recipient: $pictures pictures, likeness to the spoken words $likeness"
  ((pictures > 0)) || fail "the recording plays no picture, see $out/played.log"
  at_least "$likeness" || fail "the recording does not sound like what was said, see $out/played.log"
  if refuses stranger "$work/stranger.txt" "$out/audit"; then say "   somebody else's key: refused, and that stands in the log, too"; fi
  if refuses no-log "$work/reader.txt" "$work/no-log"; then say "   without its audit log: refused"; fi
  say "   the log's last words: $(gst-compliance audit show "$out/audit" --last 1)"
  say "   look at $out/played/picture-001.jpg"
}

refuses() { # refuses NAME IDENTITY LOG: opening fails, and leaves nothing
  ! gst-compliance open "${made[0]}" --identity "$2" --audit-log "$3" --out "$out/opened/$1" \
    --reader reader-2 --reason "demonstration" --ticket D-2 >"$out/$1.log" 2>&1 &&
    [ -z "$(find "$out/opened/$1" -type f 2>/dev/null)" ] || { fail "the recording was opened: $1, see $out/$1.log"; return 1; }
}
