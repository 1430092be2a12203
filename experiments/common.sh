# What the experiments share. Each sources this with its own arguments, which are
#
#   [ARGUMENT ...] [--out FOLDER] [--miniature] [--detector NAME] [--processes N] [--row NAME] [-- FLAGS OF train.py]
#
# and then calls the steps below. Every step goes on where it was stopped, so the same command goes on, too.
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
name=$(basename "$0" .sh)
command="bash experiments/$name.sh"
for word in "$@"; do # as it can be given again, without folders of this machine
    case $word in /*) word=$(basename "$word") ;; esac
    command+=" $(printf %q "$word")"
done

fail() { printf '%s\n' "experiments/$name.sh: $*" >&2; exit 2; }
usage() { sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0"; exit 0; }

given=() flags=() out="" miniature="" against="" levels="" row="" processes=1 detector=() pre=()
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage ;;
        --miniature) miniature=yes; shift ;;
        --out | --detector | --processes | --row | --against | --levels)
            [ $# -gt 1 ] || fail "$1 without a value"
            case $1 in
                --detector) detector=("$1" "$2") ;;
                *) printf -v "${1#--}" %s "$2" ;;
            esac
            shift 2 ;;
        --) shift; flags=("$@"); break ;;
        -*) fail "unknown argument $1 (flags of train.py stand behind --)" ;;
        *) given+=("$1"); shift ;;
    esac
done
[[ $processes =~ ^[1-9][0-9]*$ ]] || fail "--processes $processes, expected 1 or more"
[ -z "$against" ] || [ "$name" = seeds ] || fail "--against is for seeds.sh alone"
[ -z "$levels" ] || [ "$name" = robustness ] || fail "--levels is for robustness.sh alone"
out=${out:-work/$name${miniature:+_miniature}}
results=$project/experiments/results
if [ -n "$miniature" ]; then
    # enough to see that everything runs: its figures are none, and stay in its own folder
    results=$out/results
    detector=(--detector libfacedetection) # nothing to download
    pre=(--workers 0)
    small=(--img_dim 32 --width 0.1 --batch_size 4 --epochs 1 --device cpu --num_workers 0)
    training=(--preset sync "${small[@]}" ${flags[@]+"${flags[@]}"})
else
    training=(--epochs 50 ${flags[@]+"${flags[@]}"})
fi

# script NAME [flags]: one of the project's scripts. launch: the same in as many processes as were asked for
script() {
    printf '\n== %s\n' "python $1.py ${*:2}"
    python "$project/$1.py" "${@:2}"
}
launch() {
    [ "$processes" -gt 1 ] || { script "$@"; return; }
    printf '\n== %s\n' "torchrun --nproc_per_node=$processes $1.py ${*:2}"
    torchrun --standalone --nproc_per_node="$processes" "$project/$1.py" "${@:2}"
}

# take WHAT: the next argument into `taken`
take() {
    [ ${#given[@]} -gt 0 ] || fail "expected $1; see --help"
    taken=${given[0]} given=("${given[@]:1}")
}

# take_folder LAYOUT WHAT: sets `folder` to the next argument; in miniature it is made
take_folder() {
    if [ -n "$miniature" ]; then
        folder=$out/root
        script experiments/miniature --layout "$1" --root "$folder" --pairs 2
    else
        take "$2, or --miniature"
        folder=$taken
    fi
}

# no_more: every argument was taken
no_more() { [ ${#given[@]} = 0 ] || fail "unknown argument ${given[0]}; see --help"; }

# lay_out DATASET [flags of collect.py]: the data set in `folder`, in `out`
lay_out() { script collect --dataset "$1" --root "$folder" --out_dir "$out" "${@:2}"; }

# prepare FOLDER SPLIT...: faces, chunks and the index
prepare() {
    local split
    for split in "${@:2}"; do
        # 1: some videos failed, which are named and left out; of torchrun, which says 0 then, it is a crash
        launch pre-process --out_dir "$1/$split" ${detector[@]+"${detector[@]}"} ${pre[@]+"${pre[@]}"} ||
            { [ $? = 1 ] && [ "$processes" = 1 ]; }
    done
    script write_csv --out_dir "$1"
}

# learn FOLDER RUN [flags]: train on the chunks of FOLDER, in RUN
learn() {
    local told="${training[*]} ${*:3}" file=$2/flags.txt
    mkdir -p "$2"
    [ ! -e "$file" ] || [ "$(cat "$file")" = "$told" ] || fail "$2 was trained with $(cat "$file"), not with $told; name another --out"
    printf '%s\n' "$told" >"$file"
    launch train --out_dir "$1" --log_dir "$2" --resume "${training[@]}" "${@:3}"
}

# export_model FILE RUN: the best checkpoint of a run, in one small file
export_model() {
    rm -f "$1"
    script train --export "$1" --log_dir "$2" "${training[@]}"
}

# score FOLDER RUN SCORES [flags]: score FOLDER's test split by the run, and say how well
score() {
    launch train --test --out_dir "$1" --log_dir "$2" --scores_dir "$3" "${training[@]}" "${@:4}"
    script test --scores_dir "$3"
}

# rescore MODEL FOLDER SCORES: score FOLDER's test split by a checkpoint or an exported model
rescore() {
    launch train --test "$1" --out_dir "$2" --scores_dir "$3" ${miniature:+--device cpu --num_workers 0} ${flags[@]+"${flags[@]}"}
}

# short PATH: its last two parts, as a name
short() {
    local path
    path=$(realpath "$1")
    printf '%s\n' "${path#"${path%/*/*}"/}"
}

# record SCORES RUN ROW [flags of record.py]: the figures become a row of the experiment's results
record() {
    script experiments/record "$name" --to "$results" --scores "$1" --run "$2" --row "$3" --command "$command" \
        --tested_on "$(short "${folder:-$out}")" ${miniature:+--generated} "${@:4}"
}

# measure FOLDER RUN ROW [flags]: train on a folder, score its test split, record that
measure() {
    learn "$1" "$2" "${@:4}"
    score "$1" "$2" "$2/scores" "${@:4}"
    record "$2/scores" "$2" "$3"
}

show() { script experiments/table --results "$results" "$name"; }
