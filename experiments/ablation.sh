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
measure "$folder" "$out/all" "all three terms"
measure "$folder" "$out/contrastive" "contrastive term alone" --loss_weights 1 0 0
measure "$folder" "$out/cross_entropies" "cross-entropies alone" --loss_weights 0 1 1 --heads joint # detached, nothing would shape the embeddings
measure "$folder" "$out/video" "visual stream alone" --streams video
measure "$folder" "$out/audio" "audio stream alone" --streams audio
show
