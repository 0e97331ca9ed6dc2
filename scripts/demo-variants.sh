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
