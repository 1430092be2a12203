#!/usr/bin/env bash
# Every figure that takes a GPU, in at most 8 minutes: bash benchmarks/gpu.sh [--out DIR] [--quick] [--steps NAME ...]
#
# Installs what benchmarks/gpu_wheels.sh fetched into .wheels/, where Python lacks it, and runs benchmarks/gpu.py, which says more.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! python3 -c "import av, pebble, python_speech_features, scenedetect, tensorboardX" 2>/dev/null && compgen -G ".wheels/*.whl" >/dev/null; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    python3 -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --target "$site" .wheels/*.whl
    export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
fi
if compgen -G ".wheels/*.onnx" >/dev/null; then export MDS_CACHE=$PWD/.wheels; fi # YuNet's network, put there by hand
python3 benchmarks/gpu.py "$@"
