#!/usr/bin/env bash
# The tests of `edge` on the Jetson's architecture, under user-mode emulation: right or wrong, never fast. Needs root, mmdebstrap,
# qemu-user-static, and half an hour the first time; the root folder is kept for the next.
#   ROOT_DIR  where the arm64 system lies (default build/arm64)      REPORT  page to write (default none)
# Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
ROOT_DIR=${ROOT_DIR:-build/arm64}
PYTHON=${PYTHON:-.venv/bin/python}
SUITE=bookworm MINOR=3.11
[ "$(id -u)" = 0 ] || { echo "tests/arm64.sh: expected root (chroot, binfmt_misc), run it with sudo" >&2; exit 2; }
missing=()
command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
command -v qemu-aarch64-static >/dev/null || missing+=(qemu-user-static)
if [ ${#missing[@]} -gt 0 ]; then
  DEBIAN_FRONTEND=noninteractive apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# The kernel hands arm64 programs to qemu. F: it keeps the interpreter open, so the chroot needs no copy of it.
binfmt=/proc/sys/fs/binfmt_misc
[ -e $binfmt/register ] || mount -t binfmt_misc binfmt_misc $binfmt
if [ ! -e $binfmt/qemu-aarch64 ]; then
  magic='\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
  mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
  echo ":qemu-aarch64:M::$magic:$mask:$(command -v qemu-aarch64-static):F" >$binfmt/register
fi

# Packages are unpacked, not configured: their scripts would take longer than the tests.
if [ ! -x "$ROOT_DIR/usr/bin/python3" ]; then
  rm -rf "$ROOT_DIR" && mkdir -p "$ROOT_DIR"
  mmdebstrap --quiet --variant=extract --architectures=arm64 \
    --include=python3,python3-minimal,libpython3-stdlib,bash,coreutils,libc-bin,libstdc++6,libgomp1,ca-certificates,procps,tzdata \
    $SUITE "$ROOT_DIR"
  [ -e "$ROOT_DIR/bin/sh" ] || ln -s bash "$ROOT_DIR/bin/sh"
  printf 'root:x:0:0:root:/root:/bin/bash\n' >"$ROOT_DIR/etc/passwd"
  printf 'root:x:0:\n' >"$ROOT_DIR/etc/group"
  printf '127.0.0.1 localhost\n' >"$ROOT_DIR/etc/hosts"
fi
# Wheels of arm64, fetched and unpacked by this machine's own pip. Without OpenVINO: the emulator does not survive the code it
# writes at run time, and a Jetson takes TensorRT or ONNX Runtime.
if [ ! -e "$ROOT_DIR/opt/site/.complete" ]; then
  "$PYTHON" -m pip --disable-pip-version-check -q install --target "$ROOT_DIR/opt/site" --upgrade --only-binary=:all: \
    --implementation cp --python-version $MINOR --platform manylinux_2_28_aarch64 --platform manylinux2014_aarch64 \
    --platform manylinux_2_17_aarch64 --platform manylinux_2_31_aarch64 --platform manylinux_2_35_aarch64 \
    "numpy>=1.26" "msgspec>=0.19" "paho-mqtt>=2.1,<3" "pillow>=10.3" "cryptography>=42" "tuf>=7,<8" "onnxruntime>=1.19" \
    "onnx>=1.17" "pytest>=8" "pytest-timeout>=2.3" "pytest-randomly>=3.15" "pytest-xdist>=3.6" "hypothesis>=6.100" \
    "websockets>=12" "protobuf>=5"
  # Our own metadata: verbs are entry points. The code itself is read from /src, which comes first.
  "$PYTHON" -m pip --disable-pip-version-check -q install --target "$ROOT_DIR/opt/site" --no-deps .
  touch "$ROOT_DIR/opt/site/.complete"
fi

# No /sys: ONNX Runtime would read this machine's processors there, take them for arm64's and die.
mkdir -p "$ROOT_DIR"/{proc,dev,tmp,root,src}
for place in proc dev; do mountpoint -q "$ROOT_DIR/$place" || mount --rbind --make-rslave "/$place" "$ROOT_DIR/$place"; done
mountpoint -q "$ROOT_DIR/src" || mount --bind -o ro . "$ROOT_DIR/src"
trap 'for place in src dev proc; do umount -l "$ROOT_DIR/$place" 2>/dev/null || true; done' EXIT
inside() {
  chroot "$ROOT_DIR" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/root LANG=C.UTF-8 PYTHONPATH=/src:/opt/site PYTHONDONTWRITEBYTECODE=1 \
    OMP_NUM_THREADS=1 ONBELT_EMULATED=1 HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis /bin/bash -c "cd /src && $*"
}
inside python3 -c "'import platform; print(platform.machine(), platform.python_version())'"

# What imports the training side, or needs a browser, a compiler or a GPU's stand-in of this architecture, is not of the device.
tests=$(grep -LE '^(import|from) (torch|training|export|calibration|sklearn|scipy|tests\.support\.(fake_gpu|fake_tensorrt))' tests/unit/*.py |
  grep -vE 'test_(docs|tensorrt_[a-z]+|benchmark_engines|gate_docs|update_guide)\.py' | tr '\n' ' ')
status=0
# In workers: one that the emulator brings down costs a test, which is then told as failed, and not the run.
inside python3 -m pytest -p no:cacheprovider -q --timeout 1200 -n 2 --max-worker-restart 20 -rf -k "'not openvino'" ${*:-$tests} | tee build/arm64-tests.txt || status=$?
inside python3 benchmarks/arm64_scores.py --json >build/arm64-scores.json
"$PYTHON" benchmarks/arm64_scores.py --compare build/arm64-scores.json --tests build/arm64-tests.txt ${REPORT:+--report "$REPORT"}
exit "$status"
