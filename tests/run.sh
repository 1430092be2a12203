#!/usr/bin/env bash
# Run the tests: bash tests/run.sh [pytest's arguments]. Makes and fills .venv if need be.
set -euo pipefail
cd "$(dirname "$0")/.."
. demo/venv.sh requirements.txt demo/requirements.txt tests/requirements.txt
python -m pytest "$@"
