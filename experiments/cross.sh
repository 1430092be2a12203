#!/usr/bin/env bash
# One model on several test splits: how much of it carries over to other data?
#
#   bash experiments/cross.sh MODEL FOLDER [FOLDER ...] [--row NAME] [--out work/cross] [--detector NAME] [--processes N] [-- FLAGS OF train.py]
#   bash experiments/cross.sh --miniature
#
# MODEL is a checkpoint or an exported model; each FOLDER holds test/ with real/ and fake/ in it, perhaps pre-processed already.
# Called again with another model, the table gets more rows.
. "$(dirname "$0")/common.sh"
if [ -n "$miniature" ]; then
    take_folder plain ""
    folders=("$folder" "$out/other")
    script experiments/miniature --layout plain --root "$out/other" --pairs 3 --seconds 3.2
    prepare "$folder" train
    learn "$folder" "$out/log_tmp"
    export_model "$out/mds.pth" "$out/log_tmp"
    model=$out/mds.pth
    no_more
else
    take "the model"
    model=$taken
    take "a folder with test/"
    folders=("$taken" "${given[@]}")
fi

row=${row:-$(short "$model")}
for folder in "${folders[@]}"; do
    name_of_split=$(short "$folder")
    scores=$out/${row//\//_}/${name_of_split//\//_}
    prepare "$folder" test
    rescore "$model" "$folder" "$scores"
    script test --scores_dir "$scores"
    script experiments/record cross --to "$results" --scores "$scores" --model "$model" --row "$row" \
        --tested_on "$name_of_split" --command "$command" ${miniature:+--generated}
done
show
