#!/usr/bin/env bash
# The paper's figure on DFDC.
#
#   bash experiments/dfdc.sh DFDC [--out work/dfdc] [--detector NAME] [--processes N] [-- FLAGS OF train.py]
#   bash experiments/dfdc.sh --miniature
#
# DFDC holds the unpacked parts 01-04 and 22-27 (dfdc_train_part_<n>/ with metadata.json), those of the authors' lists.
. "$(dirname "$0")/common.sh"
take_folder dfdc "the folder with DFDC's parts"
no_more
lists=()
[ -z "$miniature" ] || lists=(--train_list "$folder/train_list.txt" --test_list "$folder/test_list.txt")
lay_out dfdc ${lists[@]+"${lists[@]}"}
prepare "$out" train test
learn "$out" "$out/log_tmp"
score "$out" "$out/log_tmp" "$out/scores"
record "$out/scores" "$out/log_tmp" DFDC
show
