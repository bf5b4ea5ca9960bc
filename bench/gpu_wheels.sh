#!/usr/bin/env bash
# Pack what a machine with a GPU lacks and cannot download: rosbags and ROS 2 from wheels, as one
# archive of an installed prefix, and the wheel of Embree, which renders the world of the step that
# trains, for Python 3.12 on Linux x86_64. Needs such a Python here.
#   PYTHON=python3.12 bench/gpu_wheels.sh [FOLDER]      writes into FOLDER (default: .trial)
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=${1:-.trial}
PYTHON=${PYTHON:-python3.12}
$PYTHON -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' \
    || { echo "$PYTHON is not Python 3.12: say PYTHON=/path/to/python3.12"; exit 2; }
WHEELS=build/gpu_wheels
PREFIX=build/gpu_prefix
rm -rf "$WHEELS" "$PREFIX"
mkdir -p "$OUT"
$PYTHON -m pip download --quiet --dest "$WHEELS" 'rosbags>=0.10' 'ros-rclpy[fastrtps]' \
    ros-sensor-msgs ros-std-msgs ros-diagnostic-msgs ros-lifecycle-msgs ros-nav-msgs

# What comes with torch there, and what only builds messages, stays here. Not --target: that drops
# the modules that ROS wheels keep under data/lib.
find "$WHEELS" -name '*.whl' ! -name 'numpy-*' ! -name 'setuptools-*' ! -name 'pyyaml-*' \
    ! -name 'typing_extensions-*' -print0 \
    | xargs -0 "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile \
        --prefix "$PREFIX"
rm -rf "$PREFIX/include" "$PREFIX"/share/*/cmake
find "$PREFIX" -name '*.a' -delete

# Each wheel brings the libraries it needs, many the same ones: keep each once, as hard links.
find "$PREFIX" -type f -size +32k -exec sha256sum {} + | sort | while read -r sum file; do
    if [ "$sum" = "${last:-}" ]; then ln -f "$first" "$file"; else last=$sum first=$file; fi
done
tar --create --directory "$PREFIX" --sort=name --owner=0 --group=0 . \
    | xz --threads=0 -6 > "$OUT/ros.tar.xz"
rm -f "$OUT"/*.whl
$PYTHON -m pip download --quiet --no-deps --dest "$OUT" embreex
ls -l "$OUT"
