"""train.py with a network a thousand times smaller, so that tests may start it often: python tests/tiny_train.py --out_dir ..."""

import sys
from pathlib import Path

from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import model

TINY = {
    "WIDTHS": (4, 4, 8, 8),
    "HIDDEN_DIM": 16,
    "AUDIO_FEATURES": 8 * 21,
    "audio_net": lambda: nn.Sequential(nn.Conv2d(1, 8, (13, 79)), nn.BatchNorm2d(8), nn.ReLU()),
}

if __name__ == "__main__":
    import train
    from utils.cli import run

    for name, value in TINY.items():
        setattr(model, name, value)
    run(train.main)
