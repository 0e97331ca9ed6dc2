# Shared by the scripts in this folder; source it, do not run it.
# shellcheck shell=bash disable=SC2034
# Sets: root (the checkout), target (cargo's target directory), plugins and programs (the folders with the staged plugins
# and with our programs).

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
# A relative CARGO_TARGET_DIR means: relative to where cargo is started, which is the checkout.
case $target in /*) ;; *) target=$root/$target ;; esac
plugins=$target/gst-plugins
programs=$target/bin

say() { printf '%s\n' "$*"; }
die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"; } # the comment that the script begins with
# arguments MOST "$@": answers --help, and refuses options and more than MOST arguments.
arguments() {
  local most=$1 argument
  shift
  for argument in "$@"; do
    case $argument in
      -h | --help) usage; exit 0 ;;
      -*) die "no such option: $argument (see --help)" ;;
    esac
  done
  [ $# -le "$most" ] || die "too many arguments: $* (see --help)"
}

# A fresh registry (in the folder $1) and only our staged plugins ($2, default the staged ones) besides the system's:
# GStreamer caches what it found, and a stale cache hides a rebuilt plugin.
gst_environment() {
  export GST_REGISTRY=$1/registry.bin
  export GST_PLUGIN_PATH=${2:-$plugins}
  unset GST_PLUGIN_PATH_1_0 GST_REGISTRY_1_0
  # A log level from outside would mix into the output that the scripts read.
  unset GST_DEBUG
}

our_libraries="libgstsframe.so libgstrtpsframe.so libgstmls.so libgstcompliance.so"
our_programs="gst-mls gst-compliance"
our_elements="sframeenc sframedec rtpsframepay rtpsframedepay sframeguard mlskeyring compliancesink compliancesrc"
