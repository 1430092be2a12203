"""Audio features: MFCC as the paper's reference implementation computes them."""

import numpy as np
from python_speech_features import mfcc

from utils.constants import SAMPLE_RATE_HZ

N_FFT = 2048
N_MFCC = 13  # F


def chunk_mfcc(samples: np.ndarray) -> np.ndarray:
    """MFCC of one chunk: (48000,) int16 at 48 kHz -> (1, F=13, L=99) float32; L is 49 for half a second, 199
    for two.

    25 ms windows every 10 ms, 26 filters, pre-emphasis 0.97, lifter 22, the energy in place of the first
    coefficient.
    """
    features = mfcc(samples, SAMPLE_RATE_HZ, nfft=N_FFT, numcep=N_MFCC)  # (L, F)
    return features.T[None].astype(np.float32)
