#!/usr/bin/env bash
# Run the tests: bash tests/run.sh [pytest's arguments]. Makes and fills .venv if need be. As many processes as cores; -n 0 for one.
set -euo pipefail
cd "$(dirname "$0")/.."
. demo/venv.sh requirements.txt demo/requirements.txt tests/requirements.txt
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # the processes are the parallel part
python -m pytest -n auto --dist worksteal "$@"
