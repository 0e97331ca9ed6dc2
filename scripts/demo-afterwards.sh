# What is done with the recording of scripts/demo's consultation, each step as a person would do it: the records office
# plays and exports it, its key goes to three custodians, two of them open it together, and a report is written.
# shellcheck shell=bash disable=SC2034,SC2154

afterwards() {
  open_recording
  export_recording
  hand_over
  break_glass
  gst-compliance audit verify "$out/audit" --key "$log_key" >"$out/audit.log" 2>&1 || fail "the audit log does not verify, see $out/audit.log"
  say "   the audit log, with all of this in it: $(head -n 1 "$out/audit.log")"
  gst-compliance audit show "$out/audit" >"$out/audit.txt" 2>&1
  report
}

# For the medical record, if the consent permits that: to whom it does not name, nothing goes.
export_recording() {
  local to mine other
  mine=$(track_of clinician video) other=$(track_of patient video)
  for to in Organization/elsewhere Organization/example; do
    gst-compliance export "${made[0]}" --identity "$work/reader.txt" --audit-log "$out/audit" --reader records-2 \
      --reason "copy for the record" --ticket D-3 --patient Patient/example --recipient "$to" --purpose TREAT \
      --consent "$consent" --fhir "$out/export" >"$out/export.log" 2>&1 && break
    [ "$to" = Organization/elsewhere ] || fail "the recording cannot be exported: $(tail -n 1 "$out/export.log")"
    [ ! -e "$out/export/bundle.json" ] || fail "it was exported to $to, which the consent does not name"
    say "   the export to somebody whom the consent does not name: refused"
  done
  [ -s "$out/export/bundle.json" ] || { fail "there is no $out/export/bundle.json"; return; }
  # Matroska has the tracks in the recording's order.
  pictures_of "$(find "$out/export" -name '*.mkv')" "video_$((mine > other))" "$out/exported"
  [ -s "$out/exported/times" ] || fail "what was exported plays no picture, see $out/exported.log"
  say "   the export for the medical record: $(find "$out/export" -name '*.mkv' -printf '%s bytes of Matroska'), and a FHIR Bundle of" \
    "$(python3 -c 'import json, sys; print(", ".join(e["resource"]["resourceType"] for e in json.load(open(sys.argv[1]))["entry"]))' "$out/export/bundle.json")"
}

# From now on nobody opens it alone: three custodians make keys, and the recording's key is wrapped to them.
hand_over() {
  local who
  say "2 of 3" >"$work/custodians"
  for who in 1 2 3; do
    rm -f "$work/custodian-$who.txt"
    (umask 077; age-keygen -o "$work/custodian-$who.txt" 2>/dev/null)
    gst-compliance keys custodian --identity "$work/custodian-$who.txt" --person "person-$who" >>"$work/custodians" ||
      { fail "there is no key of custodian $who"; return; }
  done
  gst-compliance rewrap "${made[0]}" --escrow "$work/custodians" --identity "$work/reader.txt" --audit-log "$out/audit" \
    --keys "$work/recording-keys" --by ops-1 --reason "into the archive" --ticket D-4 >"$out/rewrap.log" 2>&1 ||
    { fail "the key was not handed over: $(tail -n 1 "$out/rewrap.log")"; return; }
  say "   its key is handed over to three custodians; nobody opens it alone from now on"
  if refuses alone "$work/reader.txt" "$out/audit"; then say "   the records office's key: refused"; fi
}

# Somebody asks, with a key made for this one request; custodians approve; the station where the recording lies seals it to
# the one who asked. One approval must not do.
break_glass() {
  local who opened=$out/break-glass
  mkdir -p "$opened/approvals"
  (umask 077; rm -f "$work/once.txt" "$work/station.key"; age-keygen -o "$work/once.txt" 2>/dev/null)
  gst-compliance request "${made[0]}" --audit-log "$out/audit" --requester person-9 --reason "complaint" --ticket D-5 \
    --for "$(age-keygen -y "$work/once.txt")" --expires 2h --station-key "$work/station.key" --out "$opened/request.json" \
    >"$opened/request.log" 2>&1 || { fail "nothing was requested: $(tail -n 1 "$opened/request.log")"; return; }
  for who in 1 3; do
    gst-compliance approve "$opened/request.json" --identity "$work/custodian-$who.txt" --log "$(cat "$out/audit/vkey")" \
      --custodians "$work/custodians" --out "$opened/approvals/$who.json" >"$opened/approve-$who.log" 2>&1 ||
      fail "custodian $who could not approve: $(tail -n 1 "$opened/approve-$who.log")"
    open_together "$opened" && break
    [ "$who" = 1 ] || fail "2 custodians could not open the recording: $(tail -n 1 "$opened/open.log")"
    [ -z "$(find "$opened/out" -type f 2>/dev/null)" ] || fail "one approval opened something"
    say "   break-glass with 1 approval: refused ($(sed -n 's/^gst-compliance: //p' "$opened/open.log" | tail -n 1))"
  done
  [ "$who" = 3 ] || { fail "one approval opened the recording"; return; }
  local track
  track=$(find "$opened/out" -name "$(track_of patient video)-video.mkv.age")
  age -d -i "$work/once.txt" -o "$opened/patient.mkv" "$track" 2>"$opened/age.log" || fail "age does not open $track, see $opened/age.log"
  pictures_of "$opened/patient.mkv" video_0 "$opened"
  say "   break-glass with 2 of 3 approvals: $(find "$opened/out" -name '*.age' | wc -l) tracks, sealed to who asked, who opens them" \
    "with age: $(wc -l <"$opened/times") pictures of the patient"
  [ -s "$opened/times" ] || fail "what break-glass opened plays no picture, see $opened.log"
}
open_together() {
  gst-compliance open "${made[0]}" --approvals "$1/approvals" --station-key "$work/station.key" --custodians "$work/custodians" \
    --audit-log "$out/audit" --out "$1/out" >"$1/open.log" 2>&1
}

report() {
  gst-compliance report "${made[0]}" --audit-log "$out/audit" --by compliance-3 --out "$out/report.html" --log-key "$log_key" \
    --dealer "$(cat "$work/recording-keys/dealer.pub")" >"$out/report.log" 2>&1 ||
    fail "the report does not say Complete: $(tail -n 1 "$out/report.log"), see $out/report.html"
}
