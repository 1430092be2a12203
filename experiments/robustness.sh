#!/usr/bin/env bash
# One model on a test split that is perturbed in the ways that videos meet: AUC, and how many videos still give a score.
#
#   bash experiments/robustness.sh MODEL FOLDER [KIND ...] [--levels "1 3 5"] [--row NAME] [--out work/robustness] [--detector NAME] [-- FLAGS OF train.py]
#   bash experiments/robustness.sh --miniature
#
# MODEL is a checkpoint or an exported model; FOLDER holds test/ with real/ and fake/ in it. Kinds and levels are those of perturb.py.
. "$(dirname "$0")/common.sh"
if [ -n "$miniature" ]; then
    take_folder plain ""
    prepare "$folder" train
    learn "$folder" "$out/log_tmp"
    model=$out/mds.pth levels="5"
    export_model "$model" "$out/log_tmp"
    given=(blur late)
else
    take "the model"
    model=$taken
    take "a folder with test/"
    folder=$taken
fi
[ ${#given[@]} -gt 0 ] || given=(all)
splits=$out/splits
script perturb --out_dir "$folder/test" --to "$splits" --kind none "${given[@]}" --level ${levels:-all} || [ $? = 1 ]
for split in "$splits"/*_[0-9]; do
    prepare "$split" test
    # no video with a chunk: nothing to score, which the table takes for a coverage of 0
    [ "$(wc -l <"$split/test_split.csv")" -le 1 ] || rescore "$model" "$split" "$split"
done
script test --robustness "$splits" --scores_dir "$out"
script experiments/record robustness --to "$results" --robustness "$out/robustness.json" --model "$model" --row "${row:-$(short "$model")}" \
    --tested_on "$(short "$folder")" --command "$command" ${miniature:+--generated} --index "$folder/test/index.csv"
show
