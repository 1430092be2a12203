"""Train the two-stream network, resume a run, export it, or score the test split.

    python train.py --epochs 50 --out_dir .
    python train.py --epochs 50 --out_dir . --resume
    torchrun --nproc_per_node=8 train.py --epochs 50 --out_dir .    # several GPUs or machines
    python train.py --test --out_dir .

Reads <out_dir>/train_split.csv (and test_split.csv for --test).  Training writes to <log_dir>/<run>/:
model/epoch<N>.pth.tar and, within an epoch, epoch<N>_step<S>.pth.tar (of both together the two newest),
model/model_best_epoch<N>.pth.tar (lowest training loss, or highest AUC on held-out videos), log.jsonl (a line
per epoch), curves.png, args.json, env.json and TensorBoard scalars in img/train.  --test writes scores.csv,
track_scores.csv, chunk_scores.csv and scores.json to --scores_dir for test.py.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from utils.cli import stop_quietly

    stop_quietly()

import argparse
import math
import shlex
import shutil
import time
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from augmentation import AUGMENTATIONS, Augmentation
from dataset import (
    ChunkDataset,
    build_loader,
    class_weights,
    digest,
    epoch_batches,
    hold_out,
    naming_dead_workers,
    read_index,
    scoring_batches,
)
from engine import (
    AMP,
    LOSS_TERMS,
    Epoch,
    Trainer,
    build_model,
    check_bad,
    epoch_stats,
    fitting,
    load_state,
    not_finite,
    score_chunks,
    video_auc,
)
from evaluation.curves import plot_curves
from evaluation.metrics import calls_all_alike
from mds import mean_mds, track_scores, video_scores
from model import DISTANCES, INITS, RESNETS, TwoStreamNet
from utils.checkpoint import (
    POLARITY,
    best_checkpoint,
    epoch_of,
    export_weights,
    keep_checkpoint,
    list_checkpoints,
    load_checkpoint,
    load_resumable,
    refuse_other_network,
    save_checkpoint,
    stored_threshold,
    threshold_videos,
)
from utils.cli import (
    MAX_FINAL_DIM,
    MAX_IMG_DIM,
    MAX_PROCESSES,
    MAX_SEED,
    UserError,
    n_cores,
    number,
    parse_asked,
    run,
    to_path,
)
from utils.constants import GROUP_COLUMNS, LABELS
from utils.files import make_folder, replacing
from utils.jsonfiles import plain, write_json
from utils.ranks import Ranks, Stopped, StopSignal
from utils.runs import (
    RUN_NAME,
    Scalars,
    command_of,
    describe_environment,
    in_one_line,
    list_runs,
    lock_run,
    rewind_scalars,
    run_name,
    write_log,
)
from utils.tables import write_frame

NEWEST = Path("newest")  # value of --resume and --test without a path
BALANCES = ("none", "sampler", "loss")
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
CURVES_EVERY_S = 5  # curves.png is drawn after an epoch, but not more often
LONG_S = 600  # a training that takes longer is worth an advice
RESULT_FLAGS = (
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
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    start = parser.add_mutually_exclusive_group()
    add(
        "--out_dir",
        type=to_path,
        help="folder with train_split.csv and test_split.csv; only --export does without",
    )
    add(
        "--epochs",
        type=number(int, 1),
        default=100,
        help="epochs in all, resumed ones included (default: 100)",
    )
    add("--batch_size", type=number(int, 2), default=8, help="chunks per batch of each process (default: 8)")
    add("--accumulate", type=number(int, 1), default=1, metavar="N", help="batches per step (default: 1)")
    add(
        "--lr",
        type=number(float, 0, open_low=True),
        default=1e-3,
        help="Adam's learning rate (default: 1e-3)",
    )
    add("--wd", type=number(float, 0), default=1e-5, help="weight decay (default: 1e-5)")
    add(
        "--hyper_param",
        type=number(float, 0, open_low=True),
        default=0.99,
        help="contrastive margin (default: 0.99)",
    )
    add("--net", choices=RESNETS, default="resnet18", help="visual stream (default: resnet18)")
    add(
        "--img_dim",
        type=number(int, 32, MAX_IMG_DIM),
        default=224,
        help="side of the frames in pixels (default: 224)",
    )
    add(
        "--final_dim",
        type=number(int, 1, MAX_FINAL_DIM),
        default=1024,
        help="size of the embeddings (default: 1024)",
    )
    add("--dropout", type=number(float, 0, 1), default=0.5, help="before the classifiers (default: 0.5)")
    add(
        "--distance",
        choices=DISTANCES,
        default="authors",
        help="of the embeddings as they are (authors) or with each dimension standardised (default: authors)",
    )
    add(
        "--init",
        choices=INITS,
        default="authors",
        help="initialisation of the linear layers (default: authors)",
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
        choices=BALANCES,
        default="none",
        help="make real and fake count alike: sampler draws both equally often, loss weights them (default: none)",
    )
    add(
        "--val_fraction",
        type=number(float, 0, 0.9),
        default=0.0,
        metavar="F",
        help="share of the training videos to hold out; the best epoch has the highest AUC on them (default: 0)",
    )
    add(
        "--seed",
        type=number(int, 0, MAX_SEED),
        default=0,
        help="of initialisation, order, dropout, augmentation (default: 0)",
    )
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute (default: auto)")
    add(
        "--gpu",
        type=number(int, 0),
        default=0,
        help="index of the GPU; torchrun gives each process its own (default: 0)",
    )
    add("--amp", choices=AMP, default="off", help="mixed precision (default: off, float32)")
    add("--compile", action="store_true", help="compile the network with torch.compile, for scoring too")
    add("--sync_bn", action="store_true", help="with torchrun: batch statistics over all processes' batches")
    add(
        "--num_workers",
        type=number(int, 0, MAX_PROCESSES),
        help="loader processes of each process (default: its cores)",
    )
    add("--print_freq", type=number(int, 1), default=10, help="steps between printed lines (default: 10)")
    add(
        "--save_every_min",
        type=number(float, 0),
        default=10.0,
        metavar="MIN",
        help="minutes between checkpoints within an epoch (default: 10; 0: none)",
    )
    add(
        "--log_dir",
        type=to_path,
        default=Path("log_tmp"),
        help="where run folders are made (default: log_tmp)",
    )
    start.add_argument(
        "--resume",
        type=to_path,
        nargs="?",
        const=NEWEST,
        metavar="PATH",
        help="go on from a checkpoint, or from the newest of a run folder; without a path from this one's, if any",
    )
    add(
        "--start-epoch",
        dest="start_epoch",
        type=number(int, 0),
        default=0,
        help="number of the first epoch (default: 0; --resume sets it)",
    )
    start.add_argument(
        "--overwrite",
        action="store_true",
        help="start anew in a run folder that holds checkpoints, and delete the folder first",
    )
    add("--reset_lr", action="store_true", help="with --resume: take --lr, not the checkpoint's rate")
    start.add_argument(
        "--test",
        type=to_path,
        nargs="?",
        const=NEWEST,
        metavar="CHECKPOINT",
        help="score the test split and stop; without a path by the best checkpoint of this run folder",
    )
    start.add_argument(
        "--export",
        nargs="+",
        type=to_path,
        metavar=("FILE", "CHECKPOINT"),
        help="write the weights alone, in half precision, and stop; by default those of this run folder's best",
    )
    add("--scores_dir", type=to_path, default=Path("."), help="where --test writes (default: .)")
    add(
        "--threshold",
        type=float,
        default=0.3,
        help="accepted for the authors' command lines, without effect: ours is computed from the training videos",
    )
    args, args.asked = parse_asked(parser, argv, "net", "img_dim", "final_dim", "distance")
    if args.export and len(args.export) > 2:
        parser.error(f"--export takes a file to write and perhaps a checkpoint, got {len(args.export)} paths")
    if not args.export and not args.out_dir:
        parser.error("the following arguments are required: --out_dir")
    return args


def write_scores(
    scores_dir: Path, checkpoint_path: Path, checkpoint: dict, index: pd.DataFrame, chunks: pd.DataFrame
) -> None:
    """Write scores.csv, track_scores.csv, chunk_scores.csv and scores.json, and say what could not be scored."""
    groups = index.drop_duplicates("video")[
        ["video", *(column for column in GROUP_COLUMNS if column in index)]
    ]
    videos = video_scores(chunks).merge(groups, on="video")
    threshold, origin = stored_threshold(checkpoint)
    summary = {
        "checkpoint": checkpoint_path,
        "threshold": threshold,
        "threshold_origin": origin,
        "polarity": POLARITY,
    }
    write_json(scores_dir / "scores.json", summary)
    tables = (
        ("chunk_scores.csv", chunks),
        ("track_scores.csv", track_scores(chunks)),
        ("scores.csv", videos),
    )
    for name, scores in tables:
        write_frame(scores_dir / name, scores)
    n_lost = len(index) - len(chunks)
    print(
        f"scored {len(videos)} videos, {len(chunks)} chunks"
        + (f"; {n_lost} chunks could not be read" if n_lost else "")
    )
    for video in sorted(set(index.video) - set(videos.video)):
        print(f"no readable chunk, so no score: {video}")
    if threshold is not None and (words := calls_all_alike(videos.mds, threshold)):
        print(f"note: the stored threshold {threshold:.4g} {words}; it is the {origin}")
    names = ", ".join(("scores.json", *(name for name, _ in tables)))
    print(f"written in {scores_dir}: {names}; now: python test.py --scores_dir {scores_dir}")


def find_run(args: argparse.Namespace, run_dir: Path) -> Path:
    """The folder of the run that --resume goes on with: the one of the flags, or with --reset_lr one that had
    another rate.

    Raises:
        UserError: no run has these flags, but others are there, and no path says which one is meant.
    """
    if not args.resume or list_checkpoints(run_dir / "model"):
        return run_dir
    runs = list_runs(args.log_dir)
    if args.reset_lr:
        keys = ("img_dim", "depth", "batch_size")
        settings = RUN_NAME.fullmatch(run_dir.name).group(*keys)
        alike = [run for run in runs if RUN_NAME.fullmatch(run.name).group(*keys) == settings]
        if args.resume != NEWEST:  # the run that the path lies in
            whole = args.resume.resolve()
            alike = [run for run in alike if run.resolve() in (whole, *whole.parents)]
        if len(alike) == 1:
            return alike[0]
        runs = alike or runs
    if runs and args.resume == NEWEST:
        new_rate = f" --reset_lr --lr {args.lr:g}" if args.reset_lr else ""
        commands = [resume_command(run, args.out_dir, args.epochs) + new_rate for run in runs]
        raise UserError(
            f"--resume: {run_dir} holds no checkpoint; to go on with one of the runs that are there: "
            f"{in_one_line(commands)}; to start this one leave --resume out or name another --log_dir."
        )
    return run_dir


def resume_command(run: Path, out_dir: Path, epochs: int) -> str:
    """The command line that goes on with a run, to `epochs` in all."""
    defaults = vars(parse_args(["--out_dir", str(out_dir)]))
    flags = command_of(run, defaults, (*MODE_FLAGS, "asked", "epochs"))
    return f"python train.py --resume --epochs {epochs} --out_dir {shlex.quote(str(out_dir))} {flags}".strip()


def find_best(run_dir: Path, flag: str) -> Path:
    """The best checkpoint of a run; UserError, with those of the other runs that are there, if it has none."""
    try:
        return best_checkpoint(run_dir / "model")
    except UserError as error:
        found = [list_checkpoints(run / "model", best=True)[:1] for run in list_runs(run_dir.parent)]
        commands = [f"{flag} {shlex.quote(str(path))}" for paths in found for path in paths]
        if not commands:
            raise
        raise UserError(f"{str(error).removesuffix('.')}: {in_one_line(commands)}.") from error


def find_start(
    resume: Path | None, model_dir: Path, config: dict, val_fraction: float
) -> tuple[Path, dict] | None:
    """The checkpoint that --resume asks for, checked against the flags; None if there is none to go on from.

    Raises:
        UserError: it can't be read, is of another network, or would mix two runs in one folder.
    """
    if resume is None or (resume == NEWEST and not list_checkpoints(model_dir)):
        return None
    path, checkpoint = load_resumable(model_dir if resume == NEWEST else resume, config)
    if path.resolve().parent != model_dir.resolve() and list_checkpoints(model_dir):
        raise UserError(
            f"{path} would take the place of the checkpoints in {model_dir}; go on from those with --resume alone, or name "
            "another --log_dir."
        )
    flags = {name: value for name, value in checkpoint["config"].items() if name != "dropout"}
    if "optimizer" in checkpoint:  # else it holds initial weights, and the choice is free
        flags["val_fraction"] = checkpoint.get("args", {}).get("val_fraction", val_fraction)
    given = config | {"val_fraction": val_fraction}
    differ = [f"--{name} {value}" for name, value in flags.items() if value != given[name]]
    if differ:
        raise UserError(f"{path} was trained with {' '.join(' '.join(differ).split())}; give the same flags.")
    return path, checkpoint


def forecast(step_s: float, n_steps: int, img_dim: int) -> str:
    """What a training on a CPU will take, from its first step."""
    in_all = step_s * n_steps
    words = f"{in_all / 60:.0f} minutes" if in_all < 7200 else f"{in_all / 3600:.0f} hours"
    advice = (
        f"; --img_dim 64 takes about {(64 / img_dim) ** 2:.0%} of that"
        if in_all > LONG_S and img_dim > 64
        else ""
    )
    return f"{step_s:.2g} s a step, {words} in all{advice}"


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    asked = vars(args).pop("asked")  # of the network, named on the command line
    run_dir = args.log_dir / run_name(args.img_dim, args.net, args.batch_size, args.lr)
    config = {name: vars(args)[name] for name in ("net", "img_dim", "final_dim", "dropout", "distance")}
    if args.export:
        if args.export[0].exists():
            raise UserError(f"--export {args.export[0]}: the file exists; name another one or delete it.")
        path = args.export[1] if len(args.export) == 2 else find_best(run_dir, f"--export {args.export[0]}")
        checkpoint = load_checkpoint(path, config)
        refuse_other_network(path, checkpoint, asked)
        export_weights(args.export[0], checkpoint)
        print(
            f"written: {args.export[0]}, the weights of {path}; threshold: {stored_threshold(checkpoint)[1]}"
        )
        return 0

    stopping = "stopping; no scores are written" if args.test else "stopping as soon as the state is saved"
    with Ranks(args.device, args.gpu) as ranks, StopSignal(stopping) as stop, ExitStack() as held:
        say = print if ranks.is_main else lambda *_: None
        on_gpu = ranks.device.type == "cuda"
        num_workers = max(1, n_cores() // ranks.local_size) if args.num_workers is None else args.num_workers

        def score(model: TwoStreamNet, index: pd.DataFrame, what: str) -> pd.DataFrame:
            """Score the chunks of an index, shared among the ranks."""
            batches = scoring_batches(len(index), args.batch_size, ranks.rank, ranks.size)
            loader = build_loader(
                ChunkDataset(index, args.out_dir, model.img_dim), batches, num_workers, on_gpu
            )
            with naming_dead_workers():
                return score_chunks(model, index, loader, ranks, stop, args.amp, what, compile=args.compile)

        if args.test:
            path = ranks.decide(lambda: find_best(run_dir, "--test") if args.test == NEWEST else args.test)
            index = read_index(args.out_dir, "test")
            checkpoint = load_checkpoint(path, config)
            refuse_other_network(path, checkpoint, asked)
            ranks.decide(lambda: make_folder(args.scores_dir))  # before the work of hours
            say(
                f"scoring {len(index)} chunks of {index.video.nunique()} videos with {path}, on {ranks.device}"
            )
            try:
                chunks = score(
                    build_model(checkpoint, path).to(ranks.device), index, "scoring the test split"
                )
            except Stopped:
                return stop.exit_status
            if ranks.is_main:
                write_scores(args.scores_dir, path, checkpoint, index, chunks)
            return 0

        # what to train on
        index = read_index(args.out_dir, "train")
        if index.label.nunique() < 2:
            only = next(name for name, code in LABELS.items() if code == index.label[0])
            raise UserError(f"the training split has only {only} chunks; it needs real and fake ones.")
        held_out = index[:0]
        if args.val_fraction:
            index, held_out = hold_out(index, args.val_fraction)
        per_step = args.batch_size * args.accumulate * ranks.size
        if len(index) < per_step:
            raise UserError(
                f"the training split has {len(index)} chunks, a step takes {per_step} (--batch_size "
                f"{args.batch_size}, --accumulate {args.accumulate}, {ranks.size} processes); lower it."
            )
        names = AUGMENTATIONS if args.augment == [] else args.augment
        augmentation = Augmentation(names, args.img_dim) if names else None
        dataset = ChunkDataset(index, args.out_dir, args.img_dim, augmentation, args.seed, replace_bad=True)
        order_digest = digest("\n".join([*index.path, str(args.seed), args.balance])).hex()

        # where to begin: rank 0 chooses, before the weights of all ranks are made equal
        resume, found = args.resume, []  # the checkpoint, on rank 0

        def choose_start() -> tuple[Path, Path | None, bool]:
            """The run folder, locked; the checkpoint to go on from, if any; whether the run has a best one
            until then.
            """
            folder = find_run(args, run_dir)
            model_dir = folder / "model"
            held.callback(lock_run(folder).release)
            again = (
                resume and ranks.n_restarts and list_checkpoints(model_dir)
            )  # torchrun has started the ranks again
            start = find_start(NEWEST if again else resume, model_dir, config, args.val_fraction)
            if not start:
                if list_checkpoints(model_dir) and not resume and not args.overwrite:
                    raise UserError(
                        f"{model_dir} holds checkpoints; go on with --resume, start anew with --overwrite, or name "
                        "another --log_dir."
                    )
                if args.overwrite and folder.exists():
                    shutil.rmtree(folder)  # which is locked, so no training is at work in it
                make_folder(model_dir)
                return folder, None, False
            make_folder(model_dir)
            found.append(start[1])
            n_epochs = start[1].get("epoch", 0)
            return (
                folder,
                start[0],
                any(epoch_of(best) <= n_epochs for best in list_checkpoints(model_dir, best=True)),
            )

        run_dir, path, has_best = ranks.decide(choose_start)
        model_dir = run_dir / "model"
        checkpoint = found.pop() if found else load_checkpoint(path, config) if path else None

        # what to train
        torch.manual_seed(args.seed)
        model = TwoStreamNet(**config, init=args.init).to(ranks.device)
        if checkpoint:
            load_state(model, checkpoint["state_dict"], path)
        class_weight = None
        if args.balance == "loss":
            class_weight = torch.tensor(
                class_weights(dataset.labels), dtype=torch.float32, device=ranks.device
            )
        trainer = Trainer(
            model,
            ranks,
            args.lr,
            args.wd,
            args.hyper_param,
            args.amp,
            class_weight,
            args.compile,
            args.sync_bn,
        )

        # what has been done
        first_epoch, iteration, least_loss, best_value = args.start_epoch, 0, float("inf"), float("inf")
        records: list[dict] = []  # log.jsonl
        under_way = None
        if checkpoint:
            if missing := {"optimizer", "epoch", "iteration", "least_loss"} - checkpoint.keys():
                say(
                    f"{path} holds no {', '.join(sorted(missing))}: its weights are the initial ones of a new training"
                )
            else:
                trainer.load_optimizer(
                    checkpoint["optimizer"], path, checkpoint.get("scaler")
                )  # none if trained without fp16
                rate = trainer.optimizer.param_groups[0]["lr"]
                if args.reset_lr:
                    for group in trainer.optimizer.param_groups:
                        group["lr"] = args.lr
                    say(f"note: the learning rate is now {args.lr:g}, it was {rate:g}")
                elif rate != args.lr:
                    say(
                        f"note: the checkpoint's learning rate {rate:g} goes on; --reset_lr takes --lr {args.lr:g}"
                    )
                first_epoch, iteration = checkpoint["epoch"], checkpoint["iteration"]
                records, under_way = checkpoint.get("log", []), checkpoint.get("under_way")
                if has_best:  # else it is to come
                    least_loss = checkpoint["least_loss"]
                    best_value = checkpoint.get("best_value", least_loss)
                steps = f" and {under_way['n_steps']} steps" if under_way else ""
                say(f"resumed from {path} after {first_epoch} epochs{steps}")
                old = checkpoint.get("args", {})
                changed = [
                    f"--{name} {old[name]} -> {vars(args)[name]}"
                    for name in RESULT_FLAGS
                    if name in old and plain(old[name]) != plain(vars(args)[name])
                ]
                n_before = checkpoint.get("env", {}).get("processes", ranks.size)
                if n_before != ranks.size:
                    changed.append(f"processes {n_before} -> {ranks.size}, so {per_step} chunks a step")
                if changed:
                    say(f"note: other flags than before: {', '.join(changed)}")
                if under_way and checkpoint["order_digest"] != order_digest:
                    under_way = None
                    say(
                        f"note: other chunks or another order than before, so epoch {first_epoch + 1} begins anew"
                    )
                with fitting(path, "a training to go on with: its epoch under way"):
                    Epoch(index, ranks, under_way)
            del checkpoint  # large
        elif resume:
            say(f"nothing to resume in {model_dir}, so this run starts with epoch 1")
        environment = describe_environment(ranks.device, ranks.size)
        scalars = None
        if ranks.is_main:
            write_json(run_dir / "args.json", vars(args))
            write_json(run_dir / "env.json", environment)
            write_log(run_dir / "log.jsonl", records)
            rewind_scalars(run_dir / "img" / "train", iteration, first_epoch)
            scalars = Scalars(run_dir / "img" / "train")
        n_out = len(index) % per_step
        say(
            f"run folder {run_dir}, {len(index)} chunks of {index.video.nunique()} videos, on {ranks.device}"
            + (f", {ranks.size} processes" if ranks.size > 1 else "")
            + (f"; {held_out.video.nunique()} videos held out" if len(held_out) else "")
            + (
                f"; each epoch leaves {n_out} chunks out, others each time: they fill no step"
                if n_out
                else ""
            )
        )
        if first_epoch >= args.epochs:
            say(f"nothing left to train: {first_epoch} epochs are done, --epochs is {args.epochs}")

        def save(n_epochs: int, under_way: dict | None, is_best: bool = False) -> None:
            """Write a checkpoint, after `n_epochs` whole epochs and what is under way of the next one."""
            if not ranks.is_main:
                return
            scalars.flush()  # first, so that no step before the checkpoint is missing
            last = records[-1] if records else {}
            checkpoint = {
                "epoch": n_epochs,
                "net": args.net,
                "config": config,
                "state_dict": model.state_dict(),
                "least_loss": least_loss,
                "best_value": best_value,
                "avg_score_real": last.get("avg_score_real", float("nan")),
                "avg_score_fake": last.get("avg_score_fake", float("nan")),
                "optimizer": trainer.optimizer.state_dict(),
                "scaler": trainer.scaler.state_dict(),
                "iteration": iteration,
                "log": records,
                "under_way": under_way,
                "order_digest": order_digest,
                "polarity": POLARITY,
                "args": plain(vars(args)),
                "env": environment,
            }
            keep_checkpoint(model_dir, checkpoint, under_way["n_steps"] if under_way else 0, is_best)

        last_curves = -math.inf  # when curves.png was drawn

        def draw_curves() -> None:
            with replacing(run_dir / "curves.png") as partial:
                plot_curves(records, partial, LOSS_TERMS)

        is_first_step = True
        try:
            for epoch in range(first_epoch, args.epochs):
                seed = args.seed + epoch
                dataset.epoch = epoch
                state = Epoch(index, ranks, under_way)
                under_way = None
                batches = epoch_batches(
                    dataset.labels,
                    seed,
                    args.batch_size,
                    args.balance == "sampler",
                    state.position,
                    ranks.rank,
                    ranks.size,
                    args.accumulate,
                )
                n_steps = state.n_steps + len(batches) // args.accumulate
                last_save = time.monotonic()
                model.train()
                progress = tqdm(
                    total=n_steps,
                    initial=state.n_steps,
                    unit="step",
                    desc=f"epoch {epoch + 1}",
                    leave=False,
                    disable=not ranks.is_main,
                )
                loader = build_loader(dataset, batches, num_workers, on_gpu)
                with naming_dead_workers(), progress, closing(state.batches(loader)) as loaded:
                    while state.n_steps < n_steps:
                        before_s = state.seconds
                        state.step(trainer, loaded, args.accumulate, seed)
                        iteration += 1
                        progress.update()
                        if is_first_step and ranks.is_main and not on_gpu:
                            n_left = (
                                1
                                + n_steps
                                - state.n_steps
                                + (args.epochs - epoch - 1) * (len(index) // per_step)
                            )
                            progress.write(forecast(state.seconds - before_s, n_left, args.img_dim))
                        is_first_step = False
                        if state.n_steps % args.print_freq == 0 or state.n_steps == n_steps:
                            values = state.check_finite(epoch + 1)
                            if ranks.is_main:
                                named = "  ".join(
                                    f"{name} {value:.4f}"
                                    for name, value in zip(LOSS_TERMS, values, strict=True)
                                )
                                progress.write(
                                    f"epoch {epoch + 1} step {state.n_steps}/{n_steps}  loss {sum(values):.4f}  "
                                    f"{named}  {state.position / state.seconds:.1f} chunks/s"
                                )
                                scalars.add("local/loss", sum(values), iteration)
                        is_due = ranks.is_main and 0 < 60 * args.save_every_min < time.monotonic() - last_save
                        if is_due:
                            last_save = time.monotonic()
                        must_save, must_stop = ranks.agree(is_due, stop.number > 0)
                        if must_save or must_stop:
                            if state.unchecked:
                                state.check_finite(epoch + 1)
                            save(epoch, state.gathered())
                        if must_stop:
                            raise Stopped
                whole = state.gathered()
                check_bad(whole["bad"], len(index))
                stats = {
                    "epoch": epoch + 1,
                    "iteration": iteration,
                    "lr": trainer.optimizer.param_groups[0]["lr"],
                }
                stats |= epoch_stats(whole, index, ranks.device)
                # DEVIATION: the best epoch has the lowest mean loss of the whole epoch, not of its last 5
                # batches
                value = stats["loss"]
                if len(held_out):
                    try:
                        stats["val_auc"] = video_auc(video_scores(score(model, held_out, "held-out videos")))
                    except Stopped:
                        save(epoch, whole)
                        raise
                    value = -stats["val_auc"]
                is_best = value < best_value
                best_value, least_loss = min(best_value, value), min(least_loss, stats["loss"])
                records.append(stats)
                if ranks.is_main:
                    for name, figure in stats.items():
                        if name not in ("epoch", "iteration"):
                            scalars.add(f"global/{name}", figure, epoch + 1)
                save(epoch + 1, None, is_best)
                if ranks.is_main:
                    write_log(run_dir / "log.jsonl", records)
                    if time.monotonic() - last_curves > CURVES_EVERY_S:
                        draw_curves()
                        last_curves = time.monotonic()
                    hidden = (
                        "epoch",
                        "iteration",
                        "lr",
                        "avg_score_real",
                        "avg_score_fake",
                    )  # the last two are like mean_mds
                    named = "  ".join(
                        f"{name} {figure:.4g}" for name, figure in stats.items() if name not in hidden
                    )
                    print(
                        f"epoch {epoch + 1} done, on average:  {named}{'  (best so far)' if is_best else ''}"
                    )

            best = ranks.decide(
                lambda: best_checkpoint(model_dir)
            )  # rank 0's answer comes when its checkpoints are written
            checkpoint = load_checkpoint(best, config)
            if not checkpoint.keys() >= {"threshold", "mean_mds_real", "mean_mds_fake"}:
                load_state(model, checkpoint["state_dict"], best)
                # DEVIATION: with --val_fraction the threshold is of the held-out videos, since training
                # scores overfit
                known, whose = (held_out, "held-out") if len(held_out) else (index, "training")
                means = mean_mds(video_scores(score(model, known, f"threshold from the {whose} videos")))
                if not np.isfinite(list(means.values())).all():
                    raise UserError(
                        not_finite(list(means.values()), list(means), f"the scores of the {whose} videos")
                    )
                checkpoint |= {**means, "threshold_from": whose}
                if ranks.is_main:
                    save_checkpoint(best, checkpoint)
        except Stopped:
            ranks.gather(None)  # the state is saved: torchrun ends all ranks when the first one exits
            if ranks.is_main:
                if records:
                    draw_curves()
                print(f"stopped; --resume, without a path, goes on from {list_checkpoints(model_dir)[0]}")
            return stop.exit_status
        if ranks.is_main:
            scalars.close()
            draw_curves()
        whose = threshold_videos(checkpoint).split(",")[0]
        say(
            f"best: {best}  mean MDS of {whose}: real {checkpoint['mean_mds_real']:.4f}, fake "
            f"{checkpoint['mean_mds_fake']:.4f}, threshold {checkpoint['threshold']:.4f}"
        )
    return 0


if __name__ == "__main__":
    run(main, " with --resume")
