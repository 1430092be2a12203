"""The network as one ONNX file, which onnxruntime runs without PyTorch; proved to give PyTorch's numbers
before it is put in place.

    python train.py --export mds.onnx mds.pth

Inputs, outputs and properties of the file are in docs/files.md.
"""

import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from augmentation import IMAGENET_MEAN, IMAGENET_STD, normalize
from engine import build_model, chunk_score, p_fake
from model import AUDIO_FRAMES, ClipNorm3d, TwoStreamNet
from utils.checkpoint import Checkpoint, stored_calibration, stored_threshold
from utils.cli import UserError
from utils.constants import AUTHORS_DISTANCE, FPS, POLARITY, SAMPLE_RATE_HZ, ChunkLength
from utils.files import file_digest, replacing
from utils.mfcc import N_FFT, N_MFCC, chunk_mfcc
from utils.onnxfiles import NO_NETWORK

OPSET = 17  # of ONNX's operators: known to onnxruntime since 1.12
MAX_FILE_BYTES = 2**31 - 2**24  # an ONNX file has less than 2 GiB; the graph takes some of it
MAX_DIFFERENCE = 1e-4  # from PyTorch, see `differences`
INPUTS = {"video": "frames", "audio": "mfcc"}  # by stream
# of `probe_chunks`: alone and, so that a chunk's scores depend on no other, in a batch
PROBE_BATCHES = ([0], [2], [1, 2, 3])
Outputs = dict[str, np.ndarray]  # by the names of `named_outputs`


class Chunk(NamedTuple):
    """One chunk as it is scored."""

    video: Tensor  # (T, H, W, 3) uint8 RGB
    audio: Tensor  # (1, F, L) float32 MFCC


class ExportNet(nn.Module):
    """The network with `named_outputs` as its outputs, and the inputs of its streams alone."""

    def __init__(self, net: TwoStreamNet):
        super().__init__()
        self.net, self.streams = net, streams_of(net)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        by_stream = dict.fromkeys(INPUTS) | dict(zip(self.streams, inputs, strict=True))
        return tuple(named_outputs(self.net(by_stream["video"], by_stream["audio"])).values())


def streams_of(net: TwoStreamNet) -> list[str]:
    return list(INPUTS) if net.streams == "both" else [net.streams]


def named_outputs(out: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a file gives of each chunk, from what `TwoStreamNet.forward` gives: dissimilarity (B,), of both
    streams together, then p_fake_video and p_fake_audio (B,), video_emb and audio_emb (B, D), of those that
    are there.
    """
    streams = [stream for stream in INPUTS if f"{stream}_emb" in out]
    named = {"dissimilarity": chunk_score(out)} if len(streams) == 2 else {}
    named |= {f"p_fake_{stream}": p_fake(out, stream) for stream in streams}
    return named | {f"{stream}_emb": out[f"{stream}_emb"] for stream in streams}


def export_onnx(file: Path, checkpoint: Checkpoint, path: Path) -> str:
    """Write the network of a checkpoint to an ONNX file, if onnxruntime gives PyTorch's numbers with it.

    Args:
        checkpoint: as `load_checkpoint` gives it, of the file at `path`.

    Returns:
        How much its outputs differ from PyTorch's, in words.

    Raises:
        UserError: the package onnx is not there, the network is too large for one file, has an operation that
            ONNX does not, or gives other numbers; or the file can't be written.
    """
    try:
        import onnx  # here: nothing else needs it
    except ImportError as error:
        raise UserError(
            f"--export {file}: an ONNX file takes the package onnx, which can't be imported ({error}); "
            'install it: pip install "onnx>=1.17,<2"'
        ) from error
    net = build_model(checkpoint, path).eval()
    n_bytes = sum(x.nbytes for x in net.state_dict().values())
    if n_bytes > MAX_FILE_BYTES:
        raise UserError(
            f"--export {file}: the weights of {path} have {n_bytes:,} bytes, an ONNX file takes at most "
            f"{MAX_FILE_BYTES:,}; export a .pth, or train with a lower --img_dim or --width."
        )
    chunks = probe_chunks(net)
    expected = reference_outputs(net, chunks)
    if not all(np.isfinite(values).all() for values in expected.values()):
        raise UserError(
            f"{path} gives scores that are not finite; its training has diverged, nothing is written."
        )
    graph = onnx.load_from_string(to_onnx(net, chunks[:2], list(expected), file))
    onnx.helper.set_model_props(graph, properties(checkpoint, path, net))
    with replacing(file) as partial:
        partial.write_bytes(graph.SerializeToString())
        found = run_file(partial, net, chunks, file)

        def exact() -> dict[str, np.ndarray]:
            return reference_outputs(build_model(checkpoint, path).eval().double(), chunks)

        difference = check_outputs(found, expected, exact, file)
    reason = ", which is rounding in this network" if difference > MAX_DIFFERENCE else ""
    return f"outputs differ from PyTorch's by up to {difference:.0e} of their size{reason}"


def check_outputs(found: Outputs, expected: Outputs, exact: Callable[[], Outputs], file: Path) -> float:
    """The largest of the `differences` between what onnxruntime gives and what PyTorch gives.

    Rounding makes deep networks, and large frames, differ by more than `MAX_DIFFERENCE` from one library to
    the next. There an output may differ from PyTorch's in double precision by twice what PyTorch's in single
    precision does.

    Args:
        exact: gives PyTorch's in double precision, which takes long.

    Raises:
        UserError: the file gives other numbers.
    """
    differ = differences(found, expected)
    if all(difference <= MAX_DIFFERENCE for difference in differ.values()):  # NaN is not
        return max(differ.values())
    doubled = exact()
    off, rounding = differences(found, doubled), differences(expected, doubled)
    for name, difference in off.items():
        limit = max(MAX_DIFFERENCE, 2 * rounding[name])
        if not difference <= limit:
            raise UserError(
                f"--export {file}: onnxruntime's {name} differs from PyTorch's by {difference:.1e} of its "
                f"size, expected at most {limit:.0e}; nothing is written. Try other versions of torch and "
                "onnxruntime."
            )
    return max(differ.values())


def to_onnx(net: TwoStreamNet, chunks: list[Chunk], outputs: list[str], file: Path) -> bytes:
    """The network as an ONNX model; its `ClipNorm3d` become instance norms, which stay in `net`.

    Args:
        chunks: to follow through the network. `outputs`: names of `named_outputs`. `file`: for people.

    Raises:
        UserError: the network has an operation that the exporter does not know.
    """
    exported = ExportNet(with_instance_norms(net))
    inputs = input_arrays(net, chunks)
    names: dict[str, Any] = {"input_names": list(inputs), "output_names": outputs}
    names["dynamic_axes"] = {name: {0: "N"} for name in (*inputs, *outputs)}
    tensors, model = tuple(map(torch.from_numpy, inputs.values())), io.BytesIO()
    write: Any = torch.onnx.export  # to a file in memory, too, which its signature does not say
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # that this exporter is the older one
        try:
            # the newer exporter, dynamo, takes another package, onnxscript, and differs between versions
            write(exported, tensors, model, dynamo=False, opset_version=OPSET, **names)
        except RuntimeError as error:  # torch.onnx.OnnxExporterError is one
            detail = " ".join(f"{error}".split())[:300]
            raise UserError(f"--export {file}: PyTorch finds no ONNX for this network: {detail}") from error
    return model.getvalue()


def with_instance_norms(net: TwoStreamNet) -> TwoStreamNet:
    """The network that is given, in evaluation mode, after each `ClipNorm3d` in it was replaced by PyTorch's
    layer for what it does there, which is one operator of ONNX.
    """
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, ClipNorm3d):
                norm = nn.InstanceNorm3d(child.num_features, child.eps, affine=True)
                norm.weight, norm.bias = child.weight, child.bias
                setattr(module, name, norm.eval())
    return net


def probe_chunks(net: TwoStreamNet) -> list[Chunk]:
    """Four chunks to compare by: two of noise, then two with a mouth that opens with a voice."""
    rng, length = np.random.default_rng(0), ChunkLength.of(net.chunk_s)
    size, chunks = net.img_dim, []
    for _ in range(2):
        video = rng.integers(0, 256, (length.n_frames, size, size, 3), np.uint8)
        samples = rng.integers(-8000, 8000, length.n_samples, np.int16)
        chunks.append(Chunk(torch.from_numpy(video), torch.from_numpy(chunk_mfcc(samples))))
    for pitch_hz in (110, 210):
        seconds = np.arange(length.n_samples) / SAMPLE_RATE_HZ
        syllables = np.abs(np.sin(2 * np.pi * 2 * seconds + pitch_hz))  # 4 a second
        loudness = rng.uniform(0.5, 1) * syllables
        voice = sum(np.sin(2 * np.pi * pitch_hz * k * seconds) / k for k in range(1, 20))
        samples = (4000 * loudness * voice + rng.normal(0, 50, length.n_samples)).astype(np.int16)
        skin = cv2.resize(rng.uniform(60, 220, (6, 6, 3)), (size, size), interpolation=cv2.INTER_CUBIC)
        video = np.repeat(skin.clip(0, 255).astype(np.uint8)[None], length.n_frames, 0)
        for frame, openness in zip(video, loudness[:: length.n_samples // length.n_frames], strict=True):
            axes = (size // 6, 1 + int(openness * size / 8))
            cv2.ellipse(frame, (size // 2, 3 * size // 4), axes, 0, 0, 360, (70, 20, 20), -1)
        chunks.append(Chunk(torch.from_numpy(video), torch.from_numpy(chunk_mfcc(samples))))
    return chunks


def input_arrays(net: TwoStreamNet, chunks: list[Chunk]) -> dict[str, np.ndarray]:
    """A batch as a file takes it: frames (B, 3, T, H, W) and mfcc (B, 1, F, L), float32, of the streams that
    are there.
    """
    video = normalize(torch.stack([chunk.video for chunk in chunks]))
    batch = {"video": video, "audio": torch.stack([chunk.audio for chunk in chunks])}
    return {INPUTS[stream]: np.ascontiguousarray(batch[stream]) for stream in streams_of(net)}


@torch.inference_mode()
def reference_outputs(net: TwoStreamNet, chunks: list[Chunk]) -> Outputs:
    """`named_outputs` by PyTorch of each chunk alone, in the network's precision."""
    kind, rows = next(net.parameters()).dtype, []
    for chunk in chunks:
        out = net(normalize(chunk.video[None]).to(kind), chunk.audio[None].to(kind))
        rows.append(named_outputs(out))
    return {name: torch.cat([row[name] for row in rows]).numpy() for name in rows[0]}


def run_file(partial: Path, net: TwoStreamNet, chunks: list[Chunk], file: Path) -> Outputs:
    """The outputs of an ONNX file by onnxruntime on a CPU, for the chunks of `PROBE_BATCHES` in this order.

    Args:
        file: what it will be called.

    Raises:
        UserError: onnxruntime can't run it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # an error is told once
    try:
        session = onnxruntime.InferenceSession(partial, options, providers=["CPUExecutionProvider"])
        batches = [[chunks[i] for i in rows] for rows in PROBE_BATCHES]
        outputs = [session.run(None, input_arrays(net, batch)) for batch in batches]
    except NO_NETWORK as error:
        detail = " ".join(f"{error}".split())[:300]
        raise UserError(f"--export {file}: onnxruntime can't run it, nothing is written: {detail}") from error
    names = [output.name for output in session.get_outputs()]
    return {
        name: np.concatenate(parts) for name, parts in zip(names, zip(*outputs, strict=True), strict=True)
    }


def differences(found: Outputs, expected: Outputs) -> dict[str, float]:
    """The largest difference of each output, as a share of its size: of the largest absolute value that it is
    expected to have for any of the chunks; of probabilities 1.

    Args:
        found, expected: of `PROBE_BATCHES`, (5, ...), or of `probe_chunks`, (4, ...), by name.
    """
    differ, rows = {}, np.concatenate(PROBE_BATCHES)
    for name, values in expected.items():
        scale = 1.0 if name.startswith("p_fake") else np.abs(values).max() or 1.0
        wanted = values[rows] if len(found[name]) == len(rows) else values
        fits = found[name].shape == wanted.shape  # else the batch is not as large as it should be
        differ[name] = float(np.abs(found[name] - wanted).max() / scale) if fits else np.inf
    return differ


def properties(checkpoint: Checkpoint, path: Path, net: TwoStreamNet) -> dict[str, str]:
    """What the file says of itself, as docs/files.md explains it; threshold and calibration only where the
    checkpoint has them.
    """
    length, streams = ChunkLength.of(net.chunk_s), streams_of(net)
    threshold, origin = stored_threshold(checkpoint)
    calibration, valid_for = stored_calibration(checkpoint)
    known = {"threshold": threshold, "calibration": calibration and json.dumps(calibration)}
    mean, std = ([round(255 * value, 3) for value in values] for values in (IMAGENET_MEAN, IMAGENET_STD))
    size, n_frames, n_places = net.img_dim, length.n_frames, AUDIO_FRAMES[net.chunk_s]
    call = f"python_speech_features.mfcc(samples, {SAMPLE_RATE_HZ}, nfft={N_FFT}, numcep={N_MFCC})"
    inputs = {
        "frames": f"float32 (N, 3, {n_frames}, {size}, {size}): crops of a face, RGB, {FPS} a second, by "
        f"channel (value of 0 to 255 - {mean}) / {std}",
        "mfcc": f"float32 (N, 1, {N_MFCC}, {n_places}): {call}, transposed, of the same time's "
        f"{length.n_samples} samples of int16",
    }
    told = {
        "score": "dissimilarity" if len(streams) == 2 else f"p_fake_{streams[0]}",
        "polarity": POLARITY,
        "threshold_origin": origin,
        "calibration_origin": valid_for,
        "checkpoint_sha256": file_digest(path),
        **{"distance": AUTHORS_DISTANCE, **checkpoint["config"]},
        **{INPUTS[stream]: inputs[INPUTS[stream]] for stream in streams},
        **{name: value for name, value in known.items() if value is not None},
    }
    return {name: str(value) for name, value in told.items()}
