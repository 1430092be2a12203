#!/usr/bin/env bash
# The same training N times with other seeds: mean and standard deviation. With --against the same again with other
# flags of train.py, and the difference, each seed beside its own.
#
#   bash experiments/seeds.sh N FOLDER [--against "FLAGS"] [--out work/seeds] [--detector NAME] [--processes N] [-- FLAGS OF train.py]
#   bash experiments/seeds.sh --miniature N
#
# FOLDER holds train/ and test/ with real/ and fake/ in them, perhaps pre-processed already.
. "$(dirname "$0")/common.sh"
take "the number of trainings"
n=$taken
[[ $n =~ ^[1-9][0-9]*$ ]] || fail "number of trainings $n, expected 1 or more"
take_folder plain "a folder with train/ and test/"
no_more
prepare "$folder" train test
firsts=() seconds=()
rm -f "$results/seeds_pooled.json"
for ((seed = 0; seed < n; seed++)); do
    measure "$folder" "$out/first_$seed" "${training[*]}" --seed "$seed"
    firsts+=("$out/first_$seed/scores/scores.csv") seconds+=("$out/second_$seed/scores/scores.csv")
    [ -z "$against" ] || measure "$folder" "$out/second_$seed" "${training[*]} $against" --seed "$seed" $against
done
if [ -n "$against" ]; then
    script experiments/pool --to "$results" --first "${firsts[@]}" --second "${seconds[@]}"
fi
show
