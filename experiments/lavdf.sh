#!/usr/bin/env bash
# LAV-DF: detection, and where the fake spans are.
#
#   bash experiments/lavdf.sh LAVDF [--out work/lavdf] [--detector NAME] [--processes N] [-- FLAGS OF train.py]
#   bash experiments/lavdf.sh --miniature
. "$(dirname "$0")/common.sh"
take_folder lavdf "the folder with LAV-DF's metadata.json"
no_more
lay_out lavdf --dev train
prepare "$out" train test
learn "$out" "$out/log_tmp"
score "$out" "$out/log_tmp" "$out/scores"
export_model "$out/mds.pth" "$out/log_tmp"
# 1: some videos can't be judged, which count as videos without proposals
script localize "$out/test" --model "$out/mds.pth" --labels "$out/test/index.csv" --out "$out/localized" --brief \
    ${detector[@]+"${detector[@]}"} || [ $? = 1 ]
script test --proposals "$out/localized/proposals.json" --labels "$out/test/index.csv" --scores_dir "$out/localized"
record "$out/scores" "$out/log_tmp" LAV-DF --spans "$out/localized"
show
