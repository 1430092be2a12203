#!/usr/bin/env bash
# The paper's ablation: terms of the loss, and one stream alone.
#
#   bash experiments/ablation.sh FOLDER [--out work/ablation] [--detector NAME] [--processes N] [-- FLAGS OF train.py]
#   bash experiments/ablation.sh --miniature
#
# FOLDER holds train/ and test/ with real/ and fake/ in them, perhaps pre-processed already, such as another
# experiment's --out.
. "$(dirname "$0")/common.sh"
take_folder plain "a folder with train/ and test/"
no_more
prepare "$folder" train test
one() { # ROW RUN [flags of train.py]
    learn "$folder" "$out/$2" "${@:3}"
    score "$folder" "$out/$2" "$out/$2/scores" "${@:3}"
    record "$out/$2/scores" "$out/$2" "$1"
}
one "all three terms" all
one "contrastive term alone" contrastive --loss_weights 1 0 0
one "cross-entropies alone" cross_entropies --loss_weights 0 1 1 --heads joint # detached, nothing would shape the embeddings
one "visual stream alone" video --streams video
one "audio stream alone" audio --streams audio
show
