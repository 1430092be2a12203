#!/usr/bin/env bash
# The paper's figures on DF-TIMIT, of one quality.
#
#   bash experiments/dftimit.sh TIMIT lq|hq [--out work/dftimit] [--detector NAME] [--processes N] [-- FLAGS OF train.py]
#   bash experiments/dftimit.sh --miniature lq|hq
#
# TIMIT holds DeepfakeTIMIT/ and VidTIMIT/. How the paper parts the people is not said; here half of them are for testing.
. "$(dirname "$0")/common.sh"
take_folder dftimit "the folder with DeepfakeTIMIT/ and VidTIMIT/"
take "the quality, lq or hq"
no_more
case $taken in lq | hq) out=$out/$taken ;; *) fail "quality $taken, expected lq or hq" ;; esac
lay_out dftimit --quality "$taken" --split 50:50 --group_by identity
prepare "$out" train test
learn "$out" "$out/log_tmp"
score "$out" "$out/log_tmp" "$out/scores" 
record "$out/scores" "$out/log_tmp" "DF-TIMIT ${taken^^}"
show
