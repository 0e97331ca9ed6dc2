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
