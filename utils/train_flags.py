"""The flags of train.py. They are read before PyTorch is imported, which takes seconds."""

import argparse
from pathlib import Path

from utils.cli import (
    MAX_FINAL_DIM,
    MAX_IMG_DIM,
    MAX_PROCESSES,
    MAX_SEED,
    HelpFormatter,
    number,
    parse_asked,
    to_path,
)
from utils.constants import (
    AUGMENTATIONS,
    AUTHORS_MARGIN,
    DISTANCES,
    INITS,
    NETS,
    NORMS,
    PAIRS,
    PRECISIONS,
    STREAMS,
)

DESCRIPTION = """Train the two-stream network, resume a run, export it, or score the test split.

    python train.py --epochs 50 --out_dir .                         train
    python train.py --epochs 50 --out_dir . --resume                go on after a stop
    torchrun --nproc_per_node=8 train.py --epochs 50 --out_dir .    on several GPUs or machines
    python train.py --test --out_dir .                              score the test split, for test.py

Five flags to begin with: --out_dir, --epochs, --batch_size, --img_dim and --lr. Without a GPU take small
frames, for instance --img_dim 64; the first step says how long the training will take.
"""
NEWEST = Path("newest")  # value of --resume and --test without a path
NETWORK_FLAGS = (
    "net",
    "img_dim",
    "final_dim",
    "dropout",
    "distance",
    "width",
    "streams",
)  # arguments of `TwoStreamNet`, in checkpoints
MODE_FLAGS = (
    "out_dir",
    "resume",
    "overwrite",
    "reset_lr",
    "test",
    "export",
    "scores_dir",
    "threshold",
)  # not a run's own
# what decides the result of a training beside the network; changed ones are named when a run goes on
RESULT_FLAGS = (
    *(
        "batch_size",
        "accumulate",
        "wd",
        "hyper_param",
        "dropout",
        "augment",
        "seed",
        "balance",
        "amp",
        "sync_bn",
    ),
    *("norm", "pairs", "loss_weights", "heads"),
)
# how to train: the authors' way, or the one that was seen to learn whether lips and sound agree
# (docs/training.md)
PRESETS = {
    "authors": {},
    "sync": {
        "norm": "clip",
        "pairs": "cross",
        "distance": "standardised",
        "init": "torch",
        "heads": "detached",
        "lr": 2.5e-4,
        "batch_size": 32,
    },
}
# what is about two streams together, so that one alone takes no such value
OF_BOTH = {"pairs": "cross", "distance": "standardised", "heads": "detached"}
FULL_DIM = 1024  # of the embeddings at full width


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags; `asked` holds those of the network that were named."""
    parser = argparse.ArgumentParser(
        prog="train.py",
        usage="python train.py --out_dir DIR [FLAG ...]",
        description=DESCRIPTION,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    what_flags(parser.add_argument_group("what to train"))
    method_flags(parser.add_argument_group("the method"))
    run_flags(parser.add_argument_group("the run"))
    mode_flags(parser.add_argument_group("go on, score, export"))
    authors_flags(parser.add_argument_group("for the authors' command lines"))
    parser.set_defaults(**preset_values(parser, argv))
    names = ("net", "img_dim", "final_dim", "distance", "width", "streams", "lr")
    args, asked = parse_asked(parser, argv, *names)
    if "final_dim" not in asked:
        args.final_dim = max(1, round(FULL_DIM * args.width))
    if asked.pop("lr", None) is None and args.preset != "authors":
        args.lr /= args.width  # narrow networks take larger steps
    args.asked = asked
    if args.export and len(args.export) > 2:
        parser.error(f"--export takes a file to write and perhaps a checkpoint, got {len(args.export)} paths")
    if not args.export and not args.out_dir:
        parser.error("the following arguments are required: --out_dir")
    if args.balance == "sampler" and args.pairs != "dataset":
        parser.error(
            f"--balance sampler draws chunks one by one, --pairs {args.pairs} together; take one of them"
        )
    of_both = flags_of_both(args, parser.get_default("hyper_param"))
    if args.streams != "both" and of_both:
        parser.error(
            f"{of_both[0]} is about two streams together, --streams {args.streams} trains one alone; "
            "leave one of them out"
        )
    return args


def flags_of_both(args: argparse.Namespace, usual_margin: float) -> list[str]:
    """The flags that say something about two streams together."""
    found = [f"--{name} {value}" for name, value in OF_BOTH.items() if vars(args)[name] == value]
    found += ["--loss_weights"] if args.loss_weights else []
    return found + ([f"--hyper_param {args.hyper_param:g}"] if args.hyper_param != usual_margin else [])


def preset_values(parser: argparse.ArgumentParser, argv: list[str] | None) -> dict:
    """The values of the preset on a command line, which is parsed again once they are the defaults; for one
    stream alone without those of `OF_BOTH`.
    """
    known = parser.parse_args(argv)
    left_out = () if known.streams == "both" else OF_BOTH
    return {name: value for name, value in PRESETS[known.preset].items() if name not in left_out}


def preset_in_words(preset: str) -> str:
    """The flags that a preset stands for, at full width."""
    return " ".join(f"--{name} {value}" for name, value in PRESETS[preset].items())


def what_flags(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--out_dir",
        type=to_path,
        help="folder with train_split.csv and test_split.csv; only --export does without",
    )
    add("--epochs", type=number(int, 1), default=100, help="epochs in all, resumed ones included")
    add("--batch_size", type=number(int, 2), default=8, help="chunks per batch of each process")
    add("--accumulate", type=number(int, 1), default=1, metavar="N", help="batches per step")
    add(
        "--val_fraction",
        type=number(float, 0, 0.9),
        default=0.0,
        metavar="F",
        help="share of the training videos to hold out; the best epoch has the highest AUC on them",
    )
    add(
        "--augment",
        nargs="*",
        choices=AUGMENTATIONS,
        metavar="NAME",
        help=f"augmentations out of {' '.join(AUGMENTATIONS)}; without names all (default: none)",
    )
    add(
        "--balance",
        choices=("none", "sampler", "loss"),
        default="none",
        help="make real and fake count alike: sampler draws both equally often, loss weights them",
    )


def method_flags(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--preset",
        choices=PRESETS,
        default="authors",
        help=f"values of other flags, which still win where given; sync: {preset_in_words('sync')}, "
        "the rate divided by --width",
    )
    add("--img_dim", type=number(int, 32, MAX_IMG_DIM), default=224, help="side of the frames in pixels")
    add("--net", choices=NETS, default="resnet18", help="visual stream")
    add(
        "--final_dim",
        type=number(int, 1, MAX_FINAL_DIM),
        help="size of the embeddings (default: 1024 x width)",
    )
    add("--width", type=number(float, 0.05, 1), default=1.0, help="of all layers, as a share of the paper's")
    add(
        "--streams",
        choices=STREAMS,
        default="both",
        help="video or audio: that stream alone with its classifier, whose probability of fake is the score",
    )
    add("--dropout", type=number(float, 0, 1), default=0.5, help="before the classifiers")
    add(
        "--hyper_param",
        type=number(float, 0, open_low=True),
        default=AUTHORS_MARGIN,
        help="contrastive margin",
    )
    add(
        "--distance",
        choices=DISTANCES,
        default="authors",
        help="of the embeddings as they are (authors) or with each dimension standardised",
    )
    add(
        "--norm",
        choices=NORMS,
        default="batch",
        help="of the visual stream in training: by the batch's statistics or, as in evaluation, each clip's",
    )
    add(
        "--pairs",
        choices=PAIRS,
        default="dataset",
        help="chunks that meet in a batch: any (dataset), a real one and that second of its fakes (twins), "
        "seconds of a track, each picture with every sound (cross; takes real videos alone, too)",
    )
    add(
        "--loss_weights",
        type=number(float, 0),
        nargs="+",
        metavar="WEIGHT",
        help="the paper's lambda: a weight for each term in engine.py's LOSSES, in order (default: 1 each)",
    )
    add(
        "--heads",
        choices=("joint", "detached"),
        default="joint",
        help="detached: the classifiers learn from the embeddings without shaping them",
    )
    add("--init", choices=INITS, default="authors", help="initialisation of the linear layers")
    add("--lr", type=number(float, 0, open_low=True), default=1e-3, help="Adam's learning rate")
    add("--wd", type=number(float, 0), default=1e-5, help="weight decay")
    add(
        "--seed",
        type=number(int, 0, MAX_SEED),
        default=0,
        help="of initialisation, order, dropout, augmentation",
    )


def run_flags(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--log_dir", type=to_path, default=Path("log_tmp"), help="where run folders are made")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute")
    add("--gpu", type=number(int, 0), default=0, help="index of the GPU; torchrun gives each process its own")
    add("--amp", choices=PRECISIONS, default="off", help="mixed precision; off is float32")
    add("--compile", action="store_true", help="compile the network with torch.compile, for scoring too")
    add("--sync_bn", action="store_true", help="with torchrun: batch statistics over all processes' batches")
    add(
        "--num_workers",
        type=number(int, 0, MAX_PROCESSES),
        help="loader processes of each process (default: its cores)",
    )
    add("--print_freq", type=number(int, 1), default=10, help="steps between printed lines")
    add(
        "--save_every_min",
        type=number(float, 0),
        default=10.0,
        metavar="MIN",
        help="minutes between checkpoints within an epoch; 0: none",
    )


def mode_flags(group: argparse._ArgumentGroup) -> None:
    add, one_of = group.add_argument, group.add_mutually_exclusive_group().add_argument
    one_of(
        "--resume",
        type=to_path,
        nargs="?",
        const=NEWEST,
        metavar="PATH",
        help="go on from a checkpoint or a run folder's newest; without a path from this one's, if any",
    )
    one_of(
        "--overwrite",
        action="store_true",
        help="start anew in a run folder that holds checkpoints, and delete the folder first",
    )
    one_of(
        "--test",
        type=to_path,
        nargs="?",
        const=NEWEST,
        metavar="CHECKPOINT",
        help="score the test split and stop; without a path by the best checkpoint of this run folder",
    )
    one_of(
        "--export",
        nargs="+",
        type=to_path,
        metavar=("FILE", "CHECKPOINT"),
        help="write the weights alone, in half precision, or if FILE ends in .onnx the network for "
        "onnxruntime, and stop; by default of this run's best",
    )
    add("--reset_lr", action="store_true", help="with --resume: take --lr, not the checkpoint's rate")
    add("--scores_dir", type=to_path, default=Path("."), help="where --test writes")


def authors_flags(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--start-epoch",
        dest="start_epoch",
        type=number(int, 0),
        default=0,
        help="number of the first epoch; --resume sets it",
    )
    add(
        "--threshold",
        type=float,
        default=0.3,
        help="accepted without effect: ours is computed, from the held-out videos if there are any",
    )
