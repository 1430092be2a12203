"""The two-stream audio-visual dissonance network (Chugh et al., ACM MM 2020, section 3) and its contrastive
loss.

    python -c "import model; print(model.TwoStreamNet())"

Shape letters, here and everywhere in this project: B batch, C channels, T frames, H W pixels, F cepstral
coefficients, L MFCC frames, D embedding.  A chunk is T = 30 frames (1 s) of video and (F, L) = (13, 99) MFCC;
in networks for other lengths (`chunk_s`) T, L and what follows from them differ.
Labels are the authors': fake = 0, real = 1.

Parameter names and shapes are those of the authors' checkpoints, which therefore load as they are.
"""

import math
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

RESNETS = {  # depth -> (bottleneck?, blocks in layer1 .. layer4)
    # DEVIATION: resnet50 and deeper work, as bottlenecks; the authors' code crashes on them
    "resnet18": (False, (2, 2, 2, 2)),
    "resnet34": (False, (3, 4, 6, 3)),
    "resnet50": (True, (3, 4, 6, 3)),
    "resnet101": (True, (3, 4, 23, 3)),
    "resnet152": (True, (3, 8, 36, 3)),
    "resnet200": (True, (3, 24, 36, 3)),
}
WIDTHS = (64, 128, 256, 256)  # of layer1 .. layer4; the last is 256, not ResNet's usual 512
HIDDEN_DIM = 4096
AUDIO_FRAMES = {0.5: 49, 1.0: 99, 2.0: 199}  # L of a chunk, by its length in seconds
AUDIO_CHANNELS = 512  # left of its MFCC by the audio convolutions, at `audio_positions`
STREAMS = ("both", "video", "audio")
INITS = ("authors", "torch")
NORMS = ("batch", "clip")
DISTANCES = ("authors", "standardised")


class ClipNorm3d(nn.BatchNorm3d):
    """Batch normalisation by batch statistics in training, by each clip's own statistics in evaluation.

    The authors' layer keeps no running statistics and normalises by the batch in evaluation too, where their
    batch size is 1.  Normalising each clip by itself gives the same result at any batch size.
    """

    per_clip = False  # by each clip's own statistics in training too

    def __init__(self, channels: int):
        super().__init__(channels, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        # DEVIATION: with --norm clip each clip's own statistics in training too, as in evaluation
        if self.training and not self.per_clip:
            return super().forward(x)
        # DEVIATION: each clip by itself at any batch size; the same as the authors' code at its batch size of
        # 1
        return normalise_clips(x, self.weight, self.bias, self.eps)


def normalise_clips(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalise each clip of (B, C, T, H, W) by its own statistics, per channel: an instance norm.

    PyTorch's own copies its input into another memory format, which takes a third of the network's time on a
    CPU.
    """
    if len(x) > 1 and x.is_cuda:  # all clips at once: many small kernels would keep a GPU waiting
        var, mean = torch.var_mean(x.float(), (2, 3, 4), correction=0, keepdim=True)  # (B, C, 1, 1, 1)
        scale = weight[:, None, None, None] * (var + eps).rsqrt()
        shift = bias[:, None, None, None] - mean * scale
        return (x * scale + shift).to(x.dtype)
    clips = [F.batch_norm(clip, None, None, weight, bias, training=True, eps=eps) for clip in x.split(1)]
    return torch.cat(clips) if len(clips) > 1 else clips[0]


class MeanOverRanks(torch.autograd.Function):
    """The mean of a tensor over all processes, with gradient."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x / dist.get_world_size()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return MeanOverRanks.forward(ctx, gradient)


class SyncNorm(nn.modules.batchnorm._BatchNorm):
    """A batch normalisation by the statistics of all processes' batches, in place of another, whose
    parameters and buffers it takes.

    PyTorch's own has no CPU version, and evaluates `ClipNorm3d` by the batch.
    """

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm):
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self._parameters, self._buffers = norm._parameters, norm._buffers

    def forward(self, x: Tensor) -> Tensor:
        if not self.training and self.track_running_stats:
            return super().forward(x)
        if not self.training:
            return normalise_clips(x, self.weight, self.bias, self.eps)
        dims, shape = [0, *range(2, x.dim())], (1, -1, *[1] * (x.dim() - 2))
        centred = x.float()
        mean = MeanOverRanks.apply(centred.mean(dims))
        centred = centred - mean.view(shape)
        var = MeanOverRanks.apply(centred.square().mean(dims))
        if (
            self.running_mean is not None
            and self.running_var is not None
            and self.num_batches_tracked is not None
        ):
            n, momentum = x.numel() // x.shape[1] * dist.get_world_size(), self.momentum or 0.0
            self.running_mean.lerp_(mean.detach(), momentum)
            self.running_var.lerp_(var.detach() * n / (n - 1), momentum)
            self.num_batches_tracked.add_(1)
        normalised = centred * (var + self.eps).rsqrt().view(shape)
        if self.affine:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        return normalised.to(x.dtype)

    def _check_input_dim(self, x: Tensor) -> None:
        """Any number of dimensions will do."""


def synchronise_norms(model: nn.Module) -> None:
    """Have every batch normalisation of a network take the statistics of all processes' batches, in equal
    shares.
    """
    for module in list(model.modules()):
        for name, child in module.named_children():
            is_per_clip = isinstance(child, ClipNorm3d) and child.per_clip
            if isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)) and not is_per_clip:
                setattr(module, name, SyncNorm(child))


class FoldedConv3d(nn.Conv3d):
    """A 3-D convolution that in mixed precision computes as a 2-D one of all frames, where kernel and stride
    are 1 in time.

    The same up to rounding and, with channels last in memory, without a copy; for half precision there are
    far faster 2-D kernels than 3-D ones.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel_size[0] > 1 or self.stride[0] > 1 or not torch.is_autocast_enabled(x.device.type):
            return super().forward(x)
        frames = x.transpose(1, 2).flatten(0, 1)  # (B, C, T, H, W) -> (B*T, C, H, W)
        y = F.conv2d(frames, self.weight[:, :, 0], None, self.stride[1:], self.padding[1:])
        return y.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)


def conv3d(c_in: int, c_out: int, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> nn.Conv3d:
    """A 3-D convolution without bias whose padding keeps the size at stride 1."""
    t, h, w = kernel
    return FoldedConv3d(c_in, c_out, kernel, stride, padding=(t // 2, h // 2, w // 2), bias=False)


class ResidualBlock(nn.Module):
    """A basic block (two convolutions) or a bottleneck (1x1x1, k, 1x1x1) with its shortcut.

    `kernel_t` is 1 for the 2-D blocks of layer1 and layer2, 3 for the 3-D blocks of layer3 and layer4.
    """

    def __init__(
        self, c_in: int, width: int, bottleneck: bool, kernel_t: int, stride: tuple, final_relu: bool
    ):
        super().__init__()
        kernel, unit = (kernel_t, 3, 3), (1, 1, 1)
        c_out = 4 * width if bottleneck else width
        if bottleneck:
            self.conv1, self.bn1 = conv3d(c_in, width, unit, unit), ClipNorm3d(width)
            self.conv2, self.bn2 = conv3d(width, width, kernel, stride), ClipNorm3d(width)
            self.conv3, self.bn3 = conv3d(width, c_out, unit, unit), ClipNorm3d(c_out)
        else:
            self.conv1, self.bn1 = conv3d(c_in, width, kernel, stride), ClipNorm3d(width)
            self.conv2, self.bn2 = conv3d(width, c_out, kernel, unit), ClipNorm3d(c_out)
        self.bottleneck = bottleneck
        self.final_relu = final_relu
        self.downsample = None
        if c_in != c_out or stride != unit:
            self.downsample = nn.Sequential(conv3d(c_in, c_out, unit, stride), ClipNorm3d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.bn2(self.conv2(x))
        if self.bottleneck:
            x = self.bn3(self.conv3(F.relu(x, inplace=True)))
        x += shortcut
        return F.relu(x, inplace=True) if self.final_relu else x


def scaled(channels: int, width: float) -> int:
    """How many channels a layer has in a network of a share `width` of the paper's."""
    return max(1, round(channels * width))


class VisualNet(nn.Module):
    """The "2D-3D" ResNet: frames (B, 3, 30, H, W) -> features (B, C, 8, H/32, W/32), rounded up."""

    stride = 32  # pixels of the frame to a place of the features
    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(self, net: str, width: float = 1.0):
        super().__init__()
        bottleneck, depths = RESNETS[net]
        widths = [scaled(channels, width) for channels in WIDTHS]
        c_in = widths[0]
        self.conv1 = conv3d(3, c_in, (1, 7, 7), (1, 2, 2))
        self.bn1 = ClipNorm3d(c_in)
        for i, (c_out, depth) in enumerate(zip(widths, depths, strict=True)):
            stride = ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2))[i]
            blocks = []
            for j in range(depth):
                is_last = i == len(widths) - 1 and j == depth - 1
                steps = stride if j == 0 else (1, 1, 1)
                blocks.append(ResidualBlock(c_in, c_out, bottleneck, 1 if i < 2 else 3, steps, not is_last))
                c_in = 4 * c_out if bottleneck else c_out
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.out_channels = c_in

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        if x.is_cuda:  # frame by frame, which torch.compile makes a kernel for
            frames = x.transpose(1, 2).flatten(0, 1)  # (B, C, T, H, W) -> (B*T, C, H, W)
            frames = F.max_pool2d(frames, 3, 2, 1)  # (B*T, C, H/2, W/2)
            x = frames.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)
        else:
            x = F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


# the visual streams: modules with `stride` and `out_channels`, made for a width; their names are also in
# utils/constants.py
BACKBONES: dict[str, Callable[[float], nn.Module]] = {net: partial(VisualNet, net) for net in RESNETS}


def audio_positions(chunk_s: float) -> int:
    """How many places in time the audio convolutions leave of the MFCC of a chunk: 21 of a second."""
    return ((AUDIO_FRAMES[chunk_s] - 3) // 2 + 1 - 3) // 2 + 1 - 3


def audio_net(width: float = 1.0) -> nn.Sequential:
    """The audio convolutions: (B, 1, F=13, L=99) MFCC -> (B, 512, 1, 21) at full width."""

    def conv(c_in: int, c_out: int, kernel=3, padding: int = 1) -> list[nn.Module]:
        c_in, c_out = scaled(c_in, width) if c_in > 1 else 1, scaled(c_out, width)
        return [nn.Conv2d(c_in, c_out, kernel, padding=padding), nn.BatchNorm2d(c_out), nn.ReLU()]

    return nn.Sequential(
        *conv(1, 64),
        nn.MaxPool2d(1, 1),
        *conv(64, 192),
        nn.MaxPool2d(3, (1, 2)),
        *conv(192, 384),
        *conv(384, 256),
        *conv(256, 256),
        nn.MaxPool2d(3, (2, 2)),
        *conv(256, 512, kernel=(5, 4), padding=0),
    )


def embedding_head(features: int, hidden_dim: int, final_dim: int) -> nn.Sequential:
    hidden, norm = nn.Linear(features, hidden_dim), nn.BatchNorm1d(hidden_dim)
    return nn.Sequential(hidden, norm, nn.ReLU(), nn.Linear(hidden_dim, final_dim))


def initialise(layer: Any) -> None:
    """Give a layer the authors' initial weights: Kaiming normal, fan-out, zero biases."""
    nn.init.kaiming_normal_(layer.weight, mode="fan_out")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class TwoStreamNet(nn.Module):
    """Visual stream, audio stream and one real/fake classifier on each (paper, figure 2).

    Args:
        net: the visual stream, a key of `BACKBONES`.
        img_dim: side of the square input frames in pixels.
        final_dim: D, the size of the two embeddings.
        dropout: probability, before each classifier.
        distance: how the embeddings are compared: as they are ("authors"), or each of their dimensions
            standardised over the batch (in evaluation by the running statistics) and scaled so that unrelated
            ones are 1 apart ("standardised").
        init: "authors" (Kaiming normal, fan-out, zero biases everywhere) or "torch" (PyTorch's own for the
            linear layers, whose outputs then start small; the convolutions stay Kaiming).
        norm: of the visual stream in training: by the statistics of the batch, as the authors ("batch"), or
            by those of each clip alone, as in evaluation ("clip").
        width: of all layers but the embeddings, as a share of the paper's.
        detach_heads: train the classifiers on the embeddings as they are, without shaping these.
        streams: "both", or the one that is there, with its classifier and without the other ("video",
            "audio"; paper, section 4).
        chunk_s: length of a chunk in seconds, a key of `AUDIO_FRAMES`.
    """

    def __init__(
        self,
        net: str = "resnet18",
        img_dim: int = 224,
        final_dim: int = 1024,
        dropout: float = 0.5,
        distance: str = "authors",
        init: str = "authors",
        norm: str = "batch",
        width: float = 1.0,
        detach_heads: bool = False,
        streams: str = "both",
        chunk_s: float = 1.0,
    ):
        super().__init__()
        choices: dict[str, tuple[Any, Collection]] = {"net": (net, BACKBONES), "init": (init, INITS)}
        choices |= {"distance": (distance, DISTANCES), "norm": (norm, NORMS), "streams": (streams, STREAMS)}
        choices |= {"chunk_s": (chunk_s, AUDIO_FRAMES)}
        for name, (value, known) in choices.items():
            if value not in known:
                raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(str, known))}")
        self.img_dim, self.detach_heads = img_dim, detach_heads
        self.chunk_s, self.streams = chunk_s, streams
        self.has_video, self.has_audio = streams != "audio", streams != "video"
        hidden_dim = scaled(HIDDEN_DIM, width)
        visual_net: Any = BACKBONES[net](width) if self.has_video else None
        # in the authors' order, which their saved optimisers count on
        if self.has_audio:
            n_features = audio_positions(chunk_s) * scaled(AUDIO_CHANNELS, width)
            self.netcnnaud = audio_net(width)
            self.netfcaud = embedding_head(n_features, hidden_dim, final_dim)
        if self.has_video:
            n_features = visual_net.out_channels * math.ceil(img_dim / visual_net.stride) ** 2
            self.netcnnlip = visual_net
            self.netfclip = embedding_head(n_features, hidden_dim, final_dim)
            self.final_bn_lip = nn.BatchNorm1d(final_dim)
            self.final_fc_lip = nn.Sequential(nn.Dropout(dropout), nn.Linear(final_dim, 2))
        if self.has_audio:
            self.final_bn_aud = nn.BatchNorm1d(final_dim)
            self.final_fc_aud = nn.Sequential(nn.Dropout(dropout), nn.Linear(final_dim, 2))
        self.standardise = None
        if distance == "standardised" and streams == "both":
            self.standardise = nn.ModuleDict(
                {name: nn.BatchNorm1d(final_dim, affine=False) for name in ("video", "audio")}
            )
        for module in self.modules():
            if isinstance(module, ClipNorm3d):
                module.per_clip = norm == "clip"
            is_conv = isinstance(module, (nn.Conv2d, nn.Conv3d))
            if is_conv or (init == "authors" and isinstance(module, nn.Linear)):
                initialise(module)

    def forward(self, video: Tensor, audio: Tensor) -> dict[str, Tensor]:
        """Embed and classify a batch of chunks.

        Args:
            video: (B, 3, 30, H, W) float, RGB, normalised by the ImageNet mean and standard deviation.
            audio: (B, 1, 13, 99) float, MFCC.

        Returns:
            video_emb, audio_emb: (B, D), for `dissimilarity`; video_logits, audio_logits: (B, 2), columns
            fake, real.  Those of a stream that is not there are left out.
        """
        return self.compare(self.netcnnlip(video) if self.has_video else video, audio)

    def compare(self, video_features: Tensor, audio: Tensor) -> dict[str, Tensor]:
        """What `forward` returns, from the visual features: (B, C, 8, h, w), the last layer that knows where
        in the frame.
        """
        out: dict[str, Tensor] = {}
        if self.has_video:
            emb = self.netfclip(video_features.mean(2).flatten(1))  # (B, C, 8, h, w) -> (B, C*h*w)
            judged = emb.detach() if self.detach_heads else emb
            out |= {"video_emb": emb, "video_logits": self.final_fc_lip(self.final_bn_lip(judged))}
        if self.has_audio:
            emb = self.netfcaud(self.netcnnaud(audio).flatten(1))
            judged = emb.detach() if self.detach_heads else emb
            out |= {"audio_emb": emb, "audio_logits": self.final_fc_aud(self.final_bn_aud(judged))}
        if self.standardise is not None:
            for name in self.standardise:
                out[f"{name}_emb"] = self._standardised(name, out[f"{name}_emb"])
        return out

    def embed_sound(self, audio: Tensor) -> Tensor:
        """The `audio_emb` of `forward` alone: (B, 1, 13, 99) -> (B, D)."""
        emb = self.netfcaud(self.netcnnaud(audio).flatten(1))
        return emb if self.standardise is None else self._standardised("audio", emb)

    def _standardised(self, name: str, emb: Tensor) -> Tensor:
        """A stream's embeddings (B, D), such that those of unrelated pictures and sounds are 1 apart."""
        assert self.standardise is not None
        # of two unrelated standardised vectors' distance
        return self.standardise[name](emb) / math.sqrt(2 * emb.shape[1])


def dissimilarity(video_emb: Tensor, audio_emb: Tensor) -> Tensor:
    """L2 distance of the two embeddings of each chunk (paper, equation 1): two (B, D) -> (B,)."""
    return torch.linalg.vector_norm(video_emb - audio_emb, dim=1)


def pair_loss(d: Tensor, agree: Tensor, margin: float) -> Tensor:
    """The contrastive loss of pairs of a picture and a sound at distances d (paper, equation 1).

    Args:
        d: distances, any shape.
        agree: of the same shape, 1 where picture and sound belong together, else 0.
        margin: the distance beyond which a pair that does not agree costs nothing.

    Returns:
        y d^2 + (1 - y) max(margin - d, 0)^2, of the same shape.
    """
    y = agree.to(d.dtype)
    return y * d**2 + (1 - y) * F.relu(margin - d) ** 2


def contrastive_loss(
    video_emb: Tensor, audio_emb: Tensor, label: Tensor, margin: float, reduction: str = "mean"
) -> Tensor:
    """Pull the embeddings of real chunks together, push those of fake ones `margin` apart: two (B, D), labels
    (B,), 1 real, 0 fake -> `pair_loss` of each chunk (B,) ("none"), or their mean, a scalar ("mean").
    """
    loss = pair_loss(dissimilarity(video_emb, audio_emb), label, margin)
    return loss.mean() if reduction == "mean" else loss


def cross_contrastive_loss(
    video_emb: Tensor, audio_emb: Tensor, label: Tensor, track: Tensor, margin: float
) -> Tensor:
    """`pair_loss` of every picture with every sound of the same track, (B,).

    A picture and its own sound agree if the chunk is real; with another chunk's sound it does not. Pairs that
    agree and pairs that do not count one half each in the mean over B.

    Args:
        video_emb, audio_emb: (B, D). label: (B,), 1 real, 0 fake.
        track: (B,), the number of each chunk's face track.
    """
    # DEVIATION: with --pairs cross a picture is also held against the sound of other seconds of its track
    d = torch.cdist(video_emb, audio_emb, compute_mode="donot_use_mm_for_euclid_dist")  # (B, B)
    agree = torch.diag(label == 1)
    disagree = (track[:, None] == track) & ~agree
    loss = pair_loss(d, agree, margin)
    agreeing = (loss * agree).sum(1) / agree.sum().clamp(min=1)  # (B,), of the mean over pairs that agree
    disagreeing = (loss * disagree).sum(1) / disagree.sum().clamp(min=1)
    return (agreeing + disagreeing) * len(d) / 2
