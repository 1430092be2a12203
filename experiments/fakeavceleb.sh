#!/usr/bin/env bash
# FakeAVCeleb, by category. Its authors give no split: seven tenths of the people are for training.
#
#   bash experiments/fakeavceleb.sh FAKEAVCELEB [--out work/fakeavceleb] [--detector NAME] [--processes N] [-- FLAGS OF train.py]
#   bash experiments/fakeavceleb.sh --miniature
. "$(dirname "$0")/common.sh"
take_folder fakeavceleb "the folder with FakeAVCeleb's meta_data.csv"
no_more
lay_out fakeavceleb --split 70:30 --group_by identity
prepare "$out" train test
script test --shortcuts --out_dir "$out" # its fakes begin with silence: what that alone gives away
learn "$out" "$out/log_tmp"
score "$out" "$out/log_tmp" "$out/scores"
record "$out/scores" "$out/log_tmp" FakeAVCeleb
show
