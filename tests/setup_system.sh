#!/usr/bin/env bash
# Installs the system packages some tests need, where that is allowed; elsewhere those tests skip and say why.
set -u
need=()
command -v mosquitto >/dev/null || [ -x /usr/sbin/mosquitto ] || need+=(mosquitto)
command -v chromium >/dev/null || need+=(chromium)
command -v chromedriver >/dev/null || need+=(chromium-driver)
command -v mkfs.xfs >/dev/null || [ -x /usr/sbin/mkfs.xfs ] || need+=(xfsprogs)
command -v systemd-nspawn >/dev/null || need+=(systemd-container)
command -v arv-fake-gv-camera-0.8 >/dev/null || need+=(aravis-tools gir1.2-aravis-0.8 python3-gi)
command -v gst-launch-1.0 >/dev/null || need+=(
  gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good
  gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0 gir1.2-gst-rtsp-server-1.0
)
[ ${#need[@]} -eq 0 ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "tests/setup_system.sh: not root or no apt-get: tests that need ${need[*]} will be skipped" >&2
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq && apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null ||
  echo "tests/setup_system.sh: could not install ${need[*]}: the tests that need them will be skipped" >&2
exit 0
