#!/usr/bin/env bash
# Chunks of half a second, of one, as in the paper, and of two.
#
#   bash experiments/chunk_length.sh FOLDER [--out work/chunk_length] [--detector NAME] [--processes N] [-- FLAGS OF train.py]
#   bash experiments/chunk_length.sh --miniature
#
# FOLDER holds train/ and test/ with real/ and fake/ in them. Each length gets chunks of its own below --out.
. "$(dirname "$0")/common.sh"
take_folder plain "a folder with train/ and test/"
no_more
for length in 1 0.5 2; do
    for split in train test; do
        mkdir -p "$out/$length/$split"
        for part in real fake index.csv; do
            [ ! -e "$folder/$split/$part" ] || ln -sfn "$(realpath "$folder/$split/$part")" "$out/$length/$split/$part"
        done
    done
    (
        pre+=(--chunk_s "$length")
        prepare "$out/$length" train test
    )
    learn "$out/$length" "$out/$length/log_tmp"
    score "$out/$length" "$out/$length/log_tmp" "$out/$length/scores"
    record "$out/$length/scores" "$out/$length/log_tmp" "$length s"
done
show
