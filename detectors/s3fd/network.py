"""The S3FD network (Zhang et al., "S3FD: Single Shot Scale-invariant Face Detector", ICCV 2017): layers,
anchors, decoding.

Parameter names and shapes are those of `sfd_face.pth`.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import nms

STRIDES_PX = (4, 8, 16, 32, 64, 128)
ANCHOR_SIZES_PX = (16, 32, 64, 128, 256, 512)
VARIANCES = (0.1, 0.2)
PRE_NMS_SCORE = 0.05
PRE_NMS_TOP = 5000
NMS_IOU = 0.3
MAX_DETECTIONS = 750
VGG_CHANNELS = (64, 64, "M", 128, 128, "M", 256, 256, 256, "C", 512, 512, 512, "M", 512, 512, 512, "M")
CONV3_3, CONV4_3, CONV5_3 = 15, 22, 29  # indices in `vgg` of their ReLUs


class L2Norm(nn.Module):
    """Scale every pixel's feature vector to a learned length per channel: (B, C, H, W) -> the same."""

    def __init__(self, channels: int, scale: float):
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), float(scale)))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight[:, None, None] * (x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + 1e-10))


def vgg_trunk() -> nn.ModuleList:
    layers: list[nn.Module] = []
    c_in = 3
    for c_out in VGG_CHANNELS:
        if isinstance(c_out, str):
            layers.append(nn.MaxPool2d(2, 2, ceil_mode=c_out == "C"))
        else:
            layers += [nn.Conv2d(c_in, c_out, 3, padding=1), nn.ReLU(inplace=True)]
            c_in = c_out
    layers += [nn.Conv2d(512, 1024, 3, padding=6, dilation=6), nn.ReLU(inplace=True)]
    layers += [nn.Conv2d(1024, 1024, 1), nn.ReLU(inplace=True)]
    return nn.ModuleList(layers)


class S3FDNet(nn.Module):
    """VGG-16 with six detection heads on feature maps of strides 4 to 128."""

    def __init__(self):
        super().__init__()
        self.vgg = vgg_trunk()
        self.L2Norm3_3 = L2Norm(256, 10)
        self.L2Norm4_3 = L2Norm(512, 8)
        self.L2Norm5_3 = L2Norm(512, 5)
        self.extras = nn.ModuleList(
            [
                nn.Conv2d(1024, 256, 1),
                nn.Conv2d(256, 512, 3, stride=2, padding=1),
                nn.Conv2d(512, 128, 1),
                nn.Conv2d(128, 256, 3, stride=2, padding=1),
            ]
        )
        channels = (256, 512, 512, 1024, 512, 256)
        self.loc = nn.ModuleList(nn.Conv2d(c, 4, 3, padding=1) for c in channels)
        self.conf = nn.ModuleList(
            nn.Conv2d(c, 4 if i == 0 else 2, 3, padding=1) for i, c in enumerate(channels)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, H, W) RGB minus the channel means -> loc (B, N, 4), conf (B, N, 2) after softmax, priors (N,
        4).

        N is the number of anchors; priors are centre x, centre y, width, height relative to the image; column
        1 of conf is the probability of a face.
        """
        sources, x = [], images
        norms = {CONV3_3: self.L2Norm3_3, CONV4_3: self.L2Norm4_3, CONV5_3: self.L2Norm5_3}
        for i, layer in enumerate(self.vgg):
            x = layer(x)
            if i in norms:
                sources.append(norms[i](x))
        sources.append(x)
        for i, layer in enumerate(self.extras):
            x = F.relu(layer(x))
            if i % 2:
                sources.append(x)
        loc = [head(source) for head, source in zip(self.loc, sources, strict=True)]
        conf = [head(source) for head, source in zip(self.conf, sources, strict=True)]
        background, face = conf[0].split((3, 1), dim=1)
        conf[0] = torch.cat([background.amax(1, keepdim=True), face], 1)  # max-out background label
        priors = torch.cat([anchors(i, s.shape[2:], images.shape[2:], s) for i, s in enumerate(sources)])
        return flatten_heads(loc, 4), flatten_heads(conf, 2).softmax(2), priors


def flatten_heads(maps: list[Tensor], channels: int) -> Tensor:
    """[(B, channels, h, w), ...] -> (B, N, channels)."""
    return torch.cat([m.permute(0, 2, 3, 1).reshape(len(m), -1, channels) for m in maps], 1)


def anchors(level: int, map_size: Sequence[int], image_size: Sequence[int], like: Tensor) -> Tensor:
    """(h*w, 4): centre x, centre y, width, height of one anchor per cell, relative to the image."""
    height, width = image_size
    y, x = torch.meshgrid(
        torch.arange(map_size[0], device=like.device),
        torch.arange(map_size[1], device=like.device),
        indexing="ij",
    )
    stride, size = STRIDES_PX[level], ANCHOR_SIZES_PX[level]
    columns = (
        (x + 0.5) * stride / width,
        (y + 0.5) * stride / height,
        torch.full_like(x, size, dtype=torch.float32) / width,
        torch.full_like(y, size, dtype=torch.float32) / height,
    )
    return torch.stack(columns, 2).reshape(-1, 4)


def decode(loc: Tensor, conf: Tensor, priors: Tensor) -> list[Tensor]:
    """Turn raw heads into faces: per image (n, 5) float32 with x1, y1, x2, y2 relative to the image and the
    score.

    Best score first; at most `MAX_DETECTIONS` an image.
    """
    centre = priors[:, :2] + loc[..., :2].float() * VARIANCES[0] * priors[:, 2:]
    size = priors[:, 2:] * torch.exp(loc[..., 2:].float() * VARIANCES[1])
    boxes = torch.cat([centre - size / 2, centre + size / 2], 2)  # (B, N, 4)
    scores = conf[..., 1].float()
    top_scores, top = scores.topk(min(PRE_NMS_TOP, scores.shape[1]), dim=1)
    faces = []
    for image_boxes, image_scores, index in zip(boxes, top_scores, top, strict=True):
        keep = image_scores > PRE_NMS_SCORE
        candidates = torch.cat([image_boxes[index[keep]], image_scores[keep, None]], 1)
        order = nms(candidates[:, :4], candidates[:, 4], NMS_IOU)
        faces.append(candidates[order[:MAX_DETECTIONS]])
    return faces
