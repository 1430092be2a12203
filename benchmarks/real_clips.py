"""Does the sync preset learn from real clips, and does what it learnt on generated ones hold for them?

    python benchmarks/real_clips.py --clips CLIPS --out real_clips --detector yunet
    python benchmarks/real_clips.py --clips CLIPS --out real_clips --detector yunet --tune

CLIPS holds index.csv: file, label (real, fake), manipulated (none, audio, video), pair (clips of the same
footage), identity (may be empty) and source of each clip.  All clips are encoded alike, their sound at 16 kHz
and mono, and parted into train/ and test/: clips that share footage or a person stay together, half of each
source's groups goes either way, by a hash of their names.  pre-process.py and write_csv.py make the chunks,
learning.py generated videos, whose sound gets the same band, train.py trains and scores.

The test half is scored as it is and in three more ways: real pictures under the sound of another second of
the clip, and of another clip of the source; and, the control, the picture of another clip under the sounds of
a real one and of its fakes, where a network can find something in the sound alone.  Prints a Markdown table
and writes results.json to --out: mean AUC over the seeds, in brackets the 95 % interval from 2,000 bootstrap
samples of the groups, so that neither many fakes of one clip nor its seconds count as many.

--tune keeps the test half out: seed s holds out fold s of three of the training half and is tested on it.
What is there is kept: another call goes on with the network at which one was stopped.  Other frames, widths
and generated videos need another --out.
"""

import argparse
import shutil
import subprocess
import sys
from contextlib import ExitStack, redirect_stdout
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import av
import numpy as np
import pandas as pd
import torch
from scipy.signal import resample_poly
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import dataset
import train
import write_csv
from benchmarks import learning
from dataset import digest, with_foreign_sound
from mds import video_scores
from utils.chunkfiles import read_wav, write_wav
from utils.cli import HelpFormatter, UserError, number, run, to_path
from utils.constants import LABELS, SAMPLE_RATE_HZ, SPLITS
from utils.environment import device_name
from utils.jsonfiles import write_json
from utils.tables import write_frame

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = {"file", "label", "manipulated", "pair", "identity", "source"}  # of the clips' index
SOUND_HZ = 16_000
N_FOLDS = 3  # of the training half
N_RESAMPLES = 2000
MAX_DECODED = 2048  # chunks that are kept in memory
# how the names begin of real pictures under a sound of another second, of another clip
SECOND, CLIP = "fake/second ", "fake/clip "
CONTROL = "control "


class Setup(NamedTuple):
    """How a network is trained."""

    words: str
    steps: int
    labels: tuple[str, ...] = ()  # of the clips that it is trained on; none: generated videos
    start: str = ""  # the setup whose network of the same seed it begins with


SETUPS = {
    "generated": Setup("generated videos", 138),
    "real": Setup("real clips", 60, ("real",)),
    "both": Setup("real clips and their fakes", 60, ("real", "fake")),
    "generated-real": Setup("generated videos, then real clips", 40, ("real",), "generated"),
    "generated-both": Setup("generated videos, then real clips and fakes", 40, ("real", "fake"), "generated"),
}


def read_clips(folder: Path) -> pd.DataFrame:
    """The clips' index with the columns group, split and fold added; UserError if it lacks a column."""
    clips = pd.read_csv(folder / "index.csv", keep_default_na=False, dtype=str)
    if missing := COLUMNS - set(clips):
        raise UserError(f"{folder / 'index.csv'} lacks the columns {', '.join(sorted(missing))}.")
    clips["video"] = clips.label + "/" + [Path(file).stem for file in clips.file]
    person = clips.identity.where(clips.identity != "", "of pair " + clips.pair)
    pairs, people = pd.factorize(clips.pair)[0], pd.factorize(person)[0]  # the nodes of a graph
    n = len(clips)
    links = coo_array((np.ones(n), (pairs, n + people)), shape=(2 * n, 2 * n))
    _, component = connected_components(links, directed=False)
    clips["group"] = clips.groupby(component[pairs]).pair.transform("min")
    groups = clips.groupby("group").agg(source=("source", "min"), labels=("label", "max")).reset_index()
    groups["hash"] = groups.group.map(digest)
    groups = groups.sort_values(["source", "labels", "hash"])
    place = pd.Series(range(len(groups)), groups.group)
    clips["split"] = [SPLITS[place[group] % 2] for group in clips.group]
    clips["fold"] = [place[group] // 2 % N_FOLDS for group in clips.group]
    return clips


def encode(source: Path, target: Path) -> None:
    """Encode a clip anew: its pictures and their times as they are, in H.264, its sound as 16 bits mono."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".part")
    with av.open(str(source)) as clip, av.open(str(unfinished), "w", format="matroska") as file:
        pictures, sounds = clip.streams.video[0], clip.streams.audio[0]
        options = {"crf": "12", "preset": "veryfast", "threads": "1"}
        video = file.add_stream("libx264", rate=pictures.average_rate, options=options)
        video.width, video.height = pictures.width // 2 * 2, pictures.height // 2 * 2
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = pictures.time_base
        audio = file.add_stream("pcm_s16le", rate=SOUND_HZ, layout="mono")
        resampler = av.AudioResampler("s16", "mono", SOUND_HZ)
        for frame in clip.decode(pictures, sounds):
            if isinstance(frame, av.VideoFrame):
                frame = frame.reformat(video.width, video.height, "yuv420p")
                frame.pict_type = 0  # the encoder chooses
                file.mux(video.encode(frame))
            else:
                file.mux([packet for block in resampler.resample(frame) for packet in audio.encode(block)])
        file.mux(video.encode(None))
        file.mux([packet for block in resampler.resample(None) for packet in audio.encode(block)])
        file.mux(audio.encode(None))
    unfinished.rename(target)


def encode_clips(folder: Path, clips: pd.DataFrame, out: Path) -> None:
    """Encode the clips that are missing below `out`/<split>/<label>/, with an index of each split."""
    for clip in tqdm(clips.itertuples(), total=len(clips), desc="encoding", unit="clip"):
        target = out / clip.split / f"{clip.video}.mkv"
        if not target.exists():
            encode(folder / clip.file, target)
    originals = clips[clips.label == "real"].drop_duplicates("pair").set_index("pair").video
    for split, rows in clips.groupby("split"):
        index = rows[["video"]].assign(
            original=rows.pair.map(originals).where(rows.label == "fake", "").fillna(""),
            identity=rows.group,
            manipulation=rows.manipulated.where(rows.label == "fake", ""),
            source=rows.source,
        )
        index.to_csv(out / split / "index.csv", index=False)


def make_chunks(out: Path, detector: list[str]) -> None:
    """Find faces in both splits and index the chunks. Clips of a second are taken, too."""
    for split in SPLITS:
        script = [sys.executable, str(ROOT / "pre-process.py"), "--out_dir", str(out / split)]
        done = subprocess.run([*script, "--min_track", "30", *detector], check=False)
        if done.returncode not in (0, 1):  # 1: some clips have no face or are too short; failures.csv
            raise UserError(f"pre-process.py ended with status {done.returncode} in {out / split}.")
    write_csv.main(["--out_dir", str(out)])


def other_clips(real: pd.DataFrame) -> dict[str, str]:
    """For each real video the next one of its source that has another group, if there is one."""
    found = {}
    for _, of_source in real.groupby("source"):
        groups = of_source.groupby("video").identity.first()
        names = list(groups.index)
        for i, name in enumerate(names):
            others = (x for x in names[i + 1 :] + names[:i] if groups[x] != groups[name])
            found[name] = next(others, "")
    return {name: other for name, other in found.items() if other}


def with_sounds(index: pd.DataFrame) -> pd.DataFrame:
    """An index with a column `sound` and with `SECOND`, `CLIP` and, of real and fake ones, `CONTROL`."""
    index = index.assign(sound=index.path)
    real = index[index.label == LABELS["real"]].sort_values(["video", "track", "start_s"])
    seconds = with_foreign_sound(real)
    seconds = seconds[seconds.label == LABELS["fake"]]
    other, paths = other_clips(real), {name: rows.path.to_numpy() for name, rows in real.groupby("video")}
    parts = [index, seconds.assign(video=SECOND + seconds.video.str.removeprefix("fake/"))]
    for name, rows in index.groupby("video"):
        label, _, clip = name.partition("/")
        original = name if label == "real" else rows.original.iloc[0]
        if original in other:
            taken = np.resize(paths[other[original]], len(rows))
            parts.append(rows.assign(path=taken, video=f"{label}/{CONTROL}{clip}"))
            if label == "real":
                parts.append(rows.assign(sound=taken, label=LABELS["fake"], video=CLIP + clip))
    return pd.concat(parts, ignore_index=True)


class Bench(NamedTuple):
    """Where the networks of a call are trained and scored, and how."""

    args: argparse.Namespace
    index: pd.DataFrame  # of all chunks of the clips
    flags: list[str]  # of train.py, for all

    def parts(self, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The chunks of the clips to train on and to test on."""
        index, is_test = self.index, self.index.split == "test"
        if self.args.tune:
            index, is_test = index[~is_test], (index.fold == seed % N_FOLDS)[~is_test]
        return index[~is_test], index[is_test]

    def recipe(self, name: str) -> tuple[int, str]:
        """Steps and flags of a setup."""
        is_of_clips = bool(SETUPS[name].labels)
        steps = self.args.steps if is_of_clips else self.args.generated_steps
        return steps or SETUPS[name].steps, self.args.more * is_of_clips

    def folder(self, name: str, seed: int) -> Path:
        """Of a trained network."""
        steps, flags = self.recipe(name)
        half = ["tune"] * (self.args.tune and bool(SETUPS[name].labels))
        return self.args.out / "networks" / "_".join([*half, name, str(steps), *flags.split(), str(seed)])

    def train(self, name: str, seed: int) -> Path:
        """Train by a setup, unless it is done; the exported network."""
        folder, setup = self.folder(name, seed), SETUPS[name]
        network = folder / "mds.pth"
        if network.exists():
            return network
        start = ["--resume", str(self.train(setup.start, seed))] if setup.start else []
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        out_dir, index, labels = self.args.out, self.parts(seed)[0], setup.labels
        if not labels:
            out_dir, labels = out_dir / "generated", ("real",)
            index = pd.read_csv(out_dir / "train_split.csv", dtype={"chunk": str})
        index = index[index.label.isin([LABELS[label] for label in labels])]
        index.to_csv(folder / "train_split.csv", index=False)
        shutil.copy(folder / "train_split.csv", out_dir)
        steps, more = self.recipe(name)
        epochs = -(-steps // max(1, len(index) // self.args.batch_size))
        run_flags = ["--out_dir", str(out_dir), "--log_dir", str(folder / "log"), "--seed", str(seed)]
        run_flags += [*self.flags, "--save_every_min", "0", "--epochs", str(epochs), *more.split()]
        with redirect_stdout(StringIO()), ExitStack() as patches:
            # a threshold and a picture after each of many short epochs would take longer than training
            patches.enter_context(mock.patch.object(train, "store_threshold"))
            patches.enter_context(mock.patch.object(train.Run, "draw_curves"))
            train.main([*run_flags, *start])
            train.main([*run_flags, "--export", str(network)])
        shutil.rmtree(folder / "log")
        return network

    def scores(self, name: str, seed: int) -> pd.DataFrame:
        """The chunks that a network is tested on, with foreign sounds too, and their `dissimilarity`."""
        folder = self.folder(name, seed) / ("fold" if self.args.tune else "test")
        index = with_sounds(self.parts(seed)[1])
        if not (folder / "chunk_scores.csv").exists():
            network = self.train(name, seed)
            index.to_csv(self.args.out / "test_split.csv", index=False)
            words = ["--out_dir", str(self.args.out), "--test", str(network), "--scores_dir", str(folder)]
            with redirect_stdout(StringIO()):
                train.main([*self.flags, *words])
        scores = pd.read_csv(folder / "chunk_scores.csv", dtype={"chunk": str})
        key = ["video", "track", "chunk"]
        return index.merge(scores[[*key, "dissimilarity"]], on=key)


def comparisons(chunks: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """What is held against what: by name a table with label, mds, identity and perhaps `key`, where a fake is
    compared with the real ones of its key alone.
    """
    about = chunks.drop_duplicates("video")[["video", "original", "identity", "manipulation", "source"]]
    videos = video_scores(chunks).merge(about, on="video")
    videos["key"] = videos.original.where(videos.original != "", videos.video)
    chunks = chunks.assign(mds=chunks.dissimilarity)
    is_control = videos.video.str.contains(f"/{CONTROL}")
    own = videos[~videos.video.str.startswith((SECOND, CLIP)) & ~is_control]
    real, fakes = own[own.label == LABELS["real"]], own[own.label == LABELS["fake"]]
    found = {"fakes": own.drop(columns="key")}
    for column in ("manipulation", "source"):
        if fakes[column].nunique() < 2:
            continue  # they are all of them
        for kind, rows in fakes.groupby(column):
            rivals = real if column == "manipulation" else real[real.source == kind]
            found[f"fakes: {kind}"] = pd.concat([rivals, rows]).drop(columns="key")
    found["fakes, each against its original"] = own
    control = videos[is_control].assign(key=lambda x: x.key.str.replace(CONTROL, ""))
    found["control: their sounds, another clip's picture"] = control
    for start, words in ((SECOND, "another second's sound"), (CLIP, "another clip's sound")):
        for level, table in (("video", videos.drop(columns="key")), ("chunk", chunks)):
            foreign = table[table.video.str.startswith(start)]
            pictures = "real/" + foreign.video.str.removeprefix(start)
            both = pd.concat([table[table.video.isin(pictures)], foreign])
            found[f"{words}, by {level}"] = both
        found[f"{words}, the same picture"] = both.assign(key=both.path)
    return {name: table for name, table in found.items() if table.label.nunique() == 2}


def auc_interval(tables: list[pd.DataFrame]) -> list[float]:
    """AUC, mean over tables (one for each seed), and its 2.5 and 97.5 % over resampled groups."""
    groups = pd.Index(sorted(set(pd.concat(tables).identity)))
    shares = np.full(len(groups), 1 / len(groups))
    counts = np.random.default_rng(0).multinomial(len(groups), shares, N_RESAMPLES)
    counts = np.vstack([np.ones(len(groups)), counts])  # the first row: as they are
    aucs = []
    for table in tables:
        fake, real = (table[table.label == LABELS[label]] for label in ("fake", "real"))
        won = (np.sign(fake.mds.to_numpy()[:, None] - real.mds.to_numpy()) + 1) / 2
        counted = fake.key.to_numpy()[:, None] == real.key.to_numpy() if "key" in table else won >= 0
        of_fake, of_real = (np.eye(len(groups))[groups.get_indexer(x.identity)] for x in (fake, real))
        by_group = [of_fake.T @ x @ of_real for x in (won * counted, counted)]
        n_won, n_all = (((counts @ x) * counts).sum(1) for x in by_group)
        with np.errstate(invalid="ignore"):
            aucs.append(n_won / n_all)
    means = np.mean(aucs, 0)
    return [float(x) for x in (means[0], *np.nanquantile(means[1:], [0.025, 0.975]))]


def results(of_setup: dict[str, list[pd.DataFrame]]) -> list[dict]:
    """A record for each setup and comparison; `auc` and `auc_by_seed` are AUC, lowest and highest."""
    records = []
    for setup, scores in of_setup.items():
        by_seed = [comparisons(chunks) for chunks in scores]
        for name in dict.fromkeys(name for found in by_seed for name in found):
            tables = [found[name] for found in by_seed if name in found]
            counts = {label: int((tables[0].label == code).sum()) for label, code in LABELS.items()}
            counts["groups"] = tables[0].identity.nunique()
            aucs = {"auc": auc_interval(tables), "auc_by_seed": [auc_interval([x]) for x in tables]}
            records.append({"setup": setup, "comparison": name, **counts, **aucs})
    return records


def print_results(records: list[dict]) -> None:
    """The Markdown table: a row for each comparison, a column for each setup."""
    setups = dict.fromkeys(record["setup"] for record in records)
    print("| | fake, real, groups | " + " | ".join(SETUPS[name].words for name in setups) + " |")
    print("|---" * (len(setups) + 2) + "|")
    for name in dict.fromkeys(record["comparison"] for record in records):
        of_name = {record["setup"]: record for record in records if record["comparison"] == name}
        first = next(iter(of_name.values()))
        cells = [", ".join(str(first[x]) for x in ("fake", "real", "groups"))]
        cells += ["{:.3f} [{:.3f}, {:.3f}]".format(*of_name[setup]["auc"]) for setup in setups]
        print(f"| {name} | {' | '.join(cells)} |")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter, allow_abbrev=False)
    add = parser.add_argument
    add("--clips", type=to_path, required=True, help="folder with the clips and their index.csv")
    add("--out", type=to_path, required=True, help="folder for chunks, networks and scores")
    add("--setups", nargs="+", choices=SETUPS, default=list(SETUPS), metavar="NAME", help=", ".join(SETUPS))
    add("--detector", default="yunet", help="of pre-process.py")
    add("--weights", type=to_path, help="of the detector")
    add("--img_dim", type=number(int, 32), default=32, help="side of the frames in pixels")
    add("--width", type=number(float, 0.05, 1), default=0.25, help="of the network's layers")
    add("--batch_size", type=number(int, 2), default=32, help="chunks")
    add("--seeds", type=number(int, 1), default=3, help="trainings of each kind")
    add("--n_generated", type=number(int, 2), default=300, help="generated videos of 5 s")
    add("--tune", action="store_true", help="leave the test half out: see above")
    words = "of trainings on {} (default: each setup's own)"
    add("--generated_steps", type=number(int, 1), help=words.format("generated videos"))
    add("--steps", type=number(int, 1), help=words.format("clips"))
    add("--more", default="", metavar="FLAGS", help="of train.py, for trainings on clips: '--augment'")
    return parser.parse_args(argv)


def make_generated(args: argparse.Namespace) -> None:
    """Chunks of generated videos, with the band of sound that the clips have."""
    folder = args.out / "generated"
    how = f"--n_train {args.n_generated} --n_test 2 --img_dim {args.img_dim} --make_only"
    learning.main(["--out", str(folder), *how.split()])
    done = folder / f"{args.n_generated}_at_{SOUND_HZ}_hz"
    if done.exists():
        return
    times = SAMPLE_RATE_HZ // SOUND_HZ
    for path in tqdm(sorted(folder.rglob("*.wav")), desc="resampling sound", unit="chunk"):
        sound = resample_poly(resample_poly(read_wav(path).astype(np.float64), 1, times), times, 1)
        write_wav(path, np.clip(np.rint(sound), -32768, 32767).astype(np.int16))
    done.touch()


def prepare_clips(args: argparse.Namespace) -> pd.DataFrame:
    """The chunks of all clips, with group, split and fold; what is missing is made, generated ones too."""
    clips, path = read_clips(args.clips), args.out / "chunks.csv"
    if not path.exists():
        encode_clips(args.clips, clips, args.out)
        weights = ["--weights", str(args.weights)] if args.weights else []
        make_chunks(args.out, ["--detector", args.detector, *weights])
        both = [pd.read_csv(args.out / f"{split}_split.csv", dtype={"chunk": str}) for split in SPLITS]
        write_frame(path, pd.concat(both))
    index = pd.read_csv(path, keep_default_na=False, dtype={"chunk": str})
    make_generated(args)
    return index.merge(clips[["video", "split", "fold"]], on="video")


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    index = prepare_clips(args)
    flags = f"--preset sync --img_dim {args.img_dim} --width {args.width} --batch_size {args.batch_size}"
    bench = Bench(args, index, f"{flags} --device cpu --amp bf16 --num_workers 0".split())
    decoded = lru_cache(MAX_DECODED)(dataset.read_video)  # the same few chunks again and again
    with mock.patch.object(dataset, "read_video", lambda *which: decoded(*which).copy()):
        of_setup = {name: [bench.scores(name, seed) for seed in range(args.seeds)] for name in args.setups}
    records = results(of_setup)
    recipes = {name: bench.recipe(name) for name in args.setups}
    about = {"flags": flags, "seeds": args.seeds, "tune": args.tune, "steps_and_more_flags": recipes}
    file = args.out / ("results_tune.json" if args.tune else "results.json")
    write_json(file, about | {"results": records})
    print(f"{device_name(torch.device('cpu'))}; PyTorch {torch.__version__}; {flags}\n")
    print_results(records)


if __name__ == "__main__":
    run(main)
