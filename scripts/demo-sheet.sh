# The contact sheet of scripts/demo's consultation: one picture, in which everybody's pictures stand under each other, from
# left to right as time went by. gst-launch-1.0 puts it together.
# shellcheck shell=bash disable=SC2034,SC2154

contact_sheet() {
  local columns=8 cell_width=216 cell_height=122 left=230 top=96 gap=6 column row x y when picture n=0 file=$out/contact-sheet.png
  local labels=() cells=() places=() rows=(
    "clinician|the clinician sees|the patient|no new picture"
    "patient|the patient sees|the clinician|no new picture"
    "interpreter|the interpreter sees|the clinician|not in the room"
    "relay|the relay, with no key|plays what it has kept|no picture"
    "exported|the recording: clinician|exported by a recipient|recording off"
    "break-glass|the recording: patient|opened by 2 of 3 custodians|recording off"
  )
  local width=$((left + columns * (cell_width + gap))) height=$((top + ${#rows[@]} * (cell_height + gap)))
  label 10 10 15 "Consultation: who saw what, from the clinician's opening the room (0 s) to the end (${at[end]} s)"
  for ((column = 0; column < columns; column++)); do
    when=$(awk -v n="$column" -v of="$columns" -v end="${at[end]}" 'BEGIN { printf "%.1f", end * (n + 0.9) / of }')
    x=$((left + column * (cell_width + gap)))
    label $x 40 14 "$when s"
    label $x 62 13 "$(awk -v n="$column" -v of="$columns" -v end="${at[end]}" \
      '$1 > end * (n - 0.1) / of && $1 <= end * (n + 0.9) / of { at = $1; sub(/^[^ ]+ /, ""); printf "%s%s", comma, $0; comma = ", " }' \
      <<<"$(printf '%s\n' "${events[@]}")")"
    for row in "${!rows[@]}"; do
      y=$((top + row * (cell_height + gap)))
      picture=$(picture_at "${rows[row]%%|*}" "$when")
      if [ -n "$picture" ]; then
        cells+=(filesrc location="$picture" ! pngdec ! videoconvert ! videoscale
          ! "video/x-raw,width=$cell_width,height=$cell_height,pixel-aspect-ratio=1/1" ! imagefreeze num-buffers=1 ! "sheet.sink_$((++n))")
        places+=("sink_$n::xpos=$x" "sink_$n::ypos=$y" "sink_$n::zorder=$((n + 1))")
      else
        label $((x + 50)) $((y + 50)) 13 "${rows[row]##*|}"
      fi
    done
  done
  for row in "${!rows[@]}"; do
    IFS='|' read -r _ x y _ <<<"${rows[row]}"
    label 10 $((top + row * (cell_height + gap) + 36)) 14 "$x"
    label 10 $((top + row * (cell_height + gap) + 58)) 13 "$y"
  done
  ((n > 0)) || { fail "there are no pictures for a contact sheet"; return; }
  gst-launch-1.0 compositor name=sheet "${places[@]}" ! "video/x-raw,width=$width,height=$height" ! videoconvert ! pngenc snapshot=true \
    ! filesink location="$file" \
    videotestsrc num-buffers=1 pattern=solid-color foreground-color=0xffe8e8e8 ! "video/x-raw,width=$width,height=$height" \
    "${labels[@]}" ! sheet.sink_0 "${cells[@]}" >"$out/contact-sheet.log" 2>&1 || fail "there is no contact sheet, see $out/contact-sheet.log"
}
label() { # label X Y SIZE WORDS
  [ -n "$4" ] || return 0
  labels+=(! textoverlay halignment=left valignment=top xpad="$1" ypad="$2" font-desc="DejaVu Sans $3px" auto-resize=false
    draw-shadow=false draw-outline=false color=0xff202020 text="$4")
}

# picture_at WHO SECOND: the picture that was there at that time; nothing if there was none.
picture_at() {
  local wall
  wall=$(awk -v "s=$2" -v "b=$began" 'BEGIN { printf "%.2f", s + b }')
  case $1 in
    relay) find "$out/played-without-key" -name 'picture-*' | head -n 1 ;;
    exported | break-glass)
      awk -v "folder=$out/$1" -v "at=$(awk -v "wall=$wall" -v "from=$(recording_began)" 'BEGIN { print wall - from }')" \
        '$1 <= at && $1 > at - 2 { found = NR } END { if (found) printf "%s/picture-%05d.png\n", folder, found - 1 }' "$out/$1/times"
      ;;
    # Live: the file's time is the picture's.
    *) find "$out/$1" -name 'picture-*.png' -printf '%T@ %p\n' | sort -n |
      awk -v "at=$wall" '$1 <= at && $1 > at - 2 { found = $2 } END { if (found) print found }' ;;
  esac
}
recording_began() { sed -nE 's/.*"start":\{"time":([0-9]+)([0-9]{3})\}.*/\1.\2/p' "${made[0]}/manifest" | head -n 1; }

# pictures_of MATROSKA PAD FOLDER: all pictures of a track, small, and when each is shown, in seconds: FOLDER/times.
pictures_of() {
  local log=$3.log
  rm -f "$3"/picture-*
  mkdir -p "$3"
  play "$log" gst-launch-1.0 -v filesrc location="$1" ! matroskademux name=file file."$2" ! queue ! vp8dec ! videoconvert ! videoscale \
    ! video/x-raw,width=320,height=180 ! identity name=shown silent=false ! pngenc ! multifilesink location="$3/picture-%05d.png"
  sed -nE 's/.*shown: last-message = chain .* pts: ([0-9]+):([0-9]+):([0-9.]+),.*/\1 \2 \3/p' "$log" |
    awk '{ print $1 * 3600 + $2 * 60 + $3 }' >"$3/times"
}
