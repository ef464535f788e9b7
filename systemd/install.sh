#!/usr/bin/env bash
# Installs the units, users, folders and device rules of a station, or takes them away again.
#
#   systemd/install.sh                        on this machine (as root)
#   systemd/install.sh --root /mnt/image      into an image that does not run
#   systemd/install.sh --uninstall            stops the services and removes what was installed; keeps data, keys and configuration
#   systemd/install.sh --uninstall --purge    removes these too
#
# The program itself is installed by pip into /opt/onbelt (docs/guides/commission.md). Nothing is started or enabled:
# a station is started when it is configured. Running it again repairs what is missing and changes no configuration.
#
# Secrets: put mqtt.password, verdict.key, journal.key and camera.password, where you have them, into /etc/onbelt/credentials (mode
# 0600) and run it again. A LoadCredential= for a file that is not there would keep the service from starting, so only those that are
# there are named.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=/
action=install
purge=no

usage() {
  sed -n '2,8p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//'
}

fail() {
  echo "install.sh: $1" >&2
  exit "${2:-1}"
}

while [ $# -gt 0 ]; do
  case $1 in
    --root)
      [ $# -ge 2 ] || fail "--root: expected a folder after it" 2
      root=$2
      shift
      ;;
    --uninstall) action=uninstall ;;
    --purge) purge=yes ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) fail "unknown argument $1; expected --root DIR, --uninstall or --purge" 2 ;;
  esac
  shift
done
[ "$purge" = no ] || [ "$action" = uninstall ] || fail "--purge: expected --uninstall beside it" 2
[ -d "$root" ] || fail "$root: expected the folder of an operating system, there is none" 2
root=$(cd "$root" && pwd)
root=${root%/} # "/" becomes empty: every path below begins with a slash
[ -w "$root/" ] || fail "${root:-/}: cannot write there; run it as root"

# source, target, mode: what is installed, and what --uninstall removes
files() {
  local unit
  for unit in "$here"/*.service; do
    echo "$unit /etc/systemd/system/$(basename "$unit") 0644"
  done
  echo "$here/onbelt.sysusers.conf /etc/sysusers.d/onbelt.conf 0644"
  echo "$here/onbelt.tmpfiles.conf /etc/tmpfiles.d/onbelt.conf 0644"
  echo "$here/onbelt.udev.rules /etc/udev/rules.d/70-onbelt.rules 0644"
}

units() {
  local unit
  for unit in "$here"/*.service; do basename "$unit"; done
}

secrets="mqtt.password verdict.key journal.key camera.password"

name_secrets() { # a drop-in per unit
  local unit secret folder
  for unit in $(units); do
    folder=$root/etc/systemd/system/$unit.d
    rm -f -- "$folder/credentials.conf"
    for secret in $secrets; do
      [ -e "$root/etc/onbelt/credentials/$secret" ] || continue
      case $secret in # only the daemon signs the journal, and only it has a camera
        journal.key | camera.password) [ "$unit" = onbelt.service ] || continue ;;
      esac
      mkdir -p "$folder"
      [ -e "$folder/credentials.conf" ] || echo "[Service]" >"$folder/credentials.conf"
      echo "LoadCredential=$secret:/etc/onbelt/credentials/$secret" >>"$folder/credentials.conf"
    done
  done
}

running() { # systemd runs this very system
  [ -z "$root" ] && [ -d /run/systemd/system ]
}

install_all() {
  local source target mode
  while read -r source target mode; do
    install -D -m "$mode" "$source" "$root$target"
    echo "installed $root$target"
  done < <(files)
  if command -v systemd-sysusers >/dev/null; then
    systemd-sysusers --root="${root:-/}" onbelt.conf
  else
    echo "install.sh: no systemd-sysusers here: the user onbelt is made at the next boot" >&2
  fi
  if command -v systemd-tmpfiles >/dev/null; then
    systemd-tmpfiles --root="${root:-/}" --create onbelt.conf
  else
    echo "install.sh: no systemd-tmpfiles here: the folders are made at the next boot" >&2
  fi
  name_secrets
  if running; then
    systemctl daemon-reload
    if command -v udevadm >/dev/null; then
      udevadm control --reload 2>/dev/null || echo "install.sh: udev does not run here; its rules take hold at the next boot" >&2
    fi
  fi
  [ -x "$root/opt/onbelt/bin/onbelt" ] ||
    echo "install.sh: the program is not there yet: python3 -m venv /opt/onbelt && /opt/onbelt/bin/pip install ${here%/systemd}" >&2
  [ -e "$root/etc/onbelt/station.toml" ] ||
    echo "next: write /etc/onbelt/station.toml, then onbelt run --config /etc/onbelt/station.toml --check" >&2
}

uninstall_all() {
  local source target mode unit
  if running; then
    for unit in $(units); do
      systemctl disable --now "$unit" 2>/dev/null || true # never enabled, or not there: nothing to stop
    done
  fi
  while read -r source target mode; do
    [ -e "$root$target" ] || continue
    rm -- "$root$target"
    echo "removed $root$target"
  done < <(files)
  for unit in $(units); do
    rm -f -- "$root"/etc/systemd/system/*.wants/"$unit" "$root/etc/systemd/system/$unit.d/credentials.conf"
    rmdir --ignore-fail-on-non-empty -- "$root/etc/systemd/system/$unit.d" 2>/dev/null || true
  done
  if running; then
    systemctl daemon-reload
    systemctl reset-failed 'onbelt*' 2>/dev/null || true
  fi
  if [ "$purge" = yes ]; then
    rm -rf -- "$root/etc/onbelt" "$root/var/lib/onbelt"
    echo "removed $root/etc/onbelt and $root/var/lib/onbelt"
  else
    echo "kept $root/etc/onbelt and $root/var/lib/onbelt (--purge removes them); the user onbelt stays, files may be his" >&2
  fi
}

"${action}_all"
