"""Speech with the mouth that makes it: a speaker's sounds and pauses, the way of the articulators, the voice.

`speak` gives an utterance: sound, and for each frame of a video how far the mouth is open, how wide it is and
whether the lower lip touches the teeth.  A formant synthesiser (or espeak.py) makes the sound.  Sound and
mouth come from one sequence of phones, but the mouth is slower than the sound and begins a little sooner,
a fast vowel does not reach its target, and a loud hiss or a murmur comes from a mouth nearly or wholly shut.
"""

import argparse
from dataclasses import dataclass

import numpy as np
from scipy.signal import resample_poly

from demo import espeak
from utils.cli import UserError

FPS = 25
RATE_HZ = 44_100
SYNTHESIS_HZ = RATE_HZ // 2
BLOCKS_HZ = 210  # of the articulators: some 5 ms, over which the vocal tract stands still
KINDS = ("formant", "espeak")


@dataclass(frozen=True)
class Phone:
    """A sound and its mouth.

    Attributes:
        formants: of a man's tract, Hz (vowels: Peterson and Barney 1952).
        mouth: opening 0..1; width relative to rest; lower lip at the teeth 0..1.
        voice: level of the glottis, as a rule higher in an open vowel.
        noise: level, centre and breadth in Hz of the hiss.
        ms: shortest and longest duration.
        nasal: 0..1, damped by the nose. lips_shut: the lips touch, whatever surrounds the phone.
    """

    formants: tuple[float, float, float]
    mouth: tuple[float, float, float]
    voice: float
    noise: tuple[float, float, float] = (0.0, 3000.0, 1000.0)
    ms: tuple[float, float] = (50, 90)
    nasal: float = 0.0
    lips_shut: bool = False


def vowel(f1: float, f2: float, f3: float, opening: float, width: float) -> Phone:
    return Phone((f1, f2, f3), (opening, width, 0), 0.4 + 0.6 * opening, ms=(110, 240))


VOWELS = {
    "i": vowel(270, 2290, 3010, 0.26, 1.20),
    "I": vowel(390, 1990, 2550, 0.36, 1.12),
    "e": vowel(400, 2100, 2600, 0.42, 1.15),
    "E": vowel(530, 1840, 2480, 0.58, 1.10),
    "&": vowel(660, 1720, 2410, 0.82, 1.10),
    "a": vowel(730, 1090, 2440, 1.00, 1.00),
    "V": vowel(640, 1190, 2390, 0.70, 0.98),
    "@": vowel(500, 1500, 2500, 0.38, 0.98),
    "3": vowel(490, 1350, 1690, 0.42, 0.86),
    "O": vowel(570, 840, 2410, 0.72, 0.76),
    "o": vowel(450, 820, 2400, 0.50, 0.70),
    "U": vowel(440, 1020, 2240, 0.36, 0.74),
    "u": vowel(300, 870, 2240, 0.24, 0.62),
    "y": vowel(270, 1800, 2200, 0.24, 0.66),
}
LIPS, GUMS, PALATE = (250, 900, 2200), (300, 1750, 2650), (280, 2000, 2500)  # formants at a closure there
CONSONANTS = {
    "m": Phone(LIPS, (0, 1, 0), 0.2, nasal=1, lips_shut=True, ms=(60, 110)),
    "b": Phone(LIPS, (0, 1, 0), 0.10, nasal=1, lips_shut=True, ms=(55, 95)),
    "p": Phone(LIPS, (0, 1, 0), 0.0, lips_shut=True, ms=(70, 120)),
    "f": Phone((350, 1100, 2300), (0.10, 1.02, 1), 0.0, (0.12, 6500, 4500), ms=(80, 140)),
    "v": Phone((300, 1100, 2300), (0.10, 1.02, 1), 0.35, (0.06, 6500, 4500), ms=(50, 90)),
    "s": Phone(GUMS, (0.12, 1.08, 0), 0.0, (0.22, 6200, 1400), ms=(85, 150)),
    "z": Phone(GUMS, (0.13, 1.08, 0), 0.30, (0.15, 6200, 1400), ms=(60, 100)),
    "S": Phone(PALATE, (0.16, 0.76, 0), 0.0, (0.22, 3300, 1000), ms=(90, 150)),
    "T": Phone((350, 1400, 2600), (0.15, 1.02, 0), 0.0, (0.10, 7000, 4000), ms=(70, 120)),
    "h": Phone((500, 1500, 2500), (0.30, 1.0, 0), 0.0, (0.10, 1800, 1500), ms=(45, 80)),
    "n": Phone(GUMS, (0.15, 1.04, 0), 0.2, nasal=1, ms=(50, 95)),
    "d": Phone(GUMS, (0.14, 1.04, 0), 0.08, nasal=1, ms=(45, 80)),
    "t": Phone(GUMS, (0.12, 1.05, 0), 0.0, ms=(55, 95)),
    "l": Phone((360, 1250, 2700), (0.28, 1.02, 0), 0.4, ms=(50, 90)),
    "r": Phone((380, 1250, 1650), (0.24, 0.82, 0), 0.4, ms=(50, 90)),
    "k": Phone(PALATE, (0.20, 1.0, 0), 0.0, ms=(60, 100)),
    "g": Phone(PALATE, (0.20, 1.0, 0), 0.08, nasal=1, ms=(50, 85)),
    "N": Phone(PALATE, (0.22, 1.0, 0), 0.2, nasal=1, ms=(55, 95)),
    "w": Phone((300, 700, 2200), (0.14, 0.60, 0), 0.3, ms=(50, 90)),
    "j": Phone((280, 2200, 2950), (0.22, 1.16, 0), 0.3, ms=(45, 80)),
}
BURSTS = {  # plosive -> what is heard when it opens: level, centre, breadth; shortest and longest ms
    "p": ((0.45, 1200, 1500), (18, 45)),
    "b": ((0.25, 900, 1000), (6, 12)),
    "t": ((0.55, 4500, 2200), (20, 50)),
    "d": ((0.35, 4000, 1800), (7, 14)),
    "k": ((0.50, 2200, 900), (22, 55)),
    "g": ((0.32, 2000, 800), (10, 20)),
}
PAUSE = Phone((500, 1500, 2500), (0, 1, 0), 0.0, ms=(150, 500))
PHONES = VOWELS | CONSONANTS | {"_": PAUSE}

# columns of a tract: what is steered, and the ms within which it goes from one target to the next
GLIDES_MS = {
    "f1": 50,
    "f2": 80,
    "f3": 80,
    "voice": 25,
    "noise": 15,
    "centre": 25,
    "breadth": 25,
    "nasal": 30,
    "opening": 80,
    "width": 150,
    "tuck": 80,
}


@dataclass(frozen=True)
class Speaker:
    """Whose voice and mouth it is.

    Attributes:
        pitch_hz: mean; `melody`: how far it goes up and down, in octaves.
        tract: formants relative to a man's; `damping`: their bandwidths relative to 80, 110, 160 Hz.
        tilt_hz: above it the glottis falls by 6 dB an octave; `breath`: its noise; `jitter`: of its periods.
        rate: of speech; `loudness`: root mean square; `hiss`: of the room, relative to the voice.
        effort: how far the mouth opens, relative; `lead_s`: how much sooner the lips move than the sound.
        voice: of espeak-ng; empty for the formant synthesiser.
    """

    pitch_hz: float
    melody: float
    tract: float
    damping: float
    tilt_hz: float
    breath: float
    jitter: float
    rate: float
    loudness: float
    hiss: float
    effort: float
    lead_s: float
    voice: str = ""


def draw_speaker(rng: np.random.Generator, kind: str = "formant") -> Speaker:
    """A speaker at random, whose speech is made by `kind` of `KINDS`."""
    tract = rng.uniform(0.88, 1.16)  # below 1: a long tract, as a rule of a man with a low voice
    return Speaker(
        pitch_hz=float(np.clip(130 * (tract / 0.98) ** 2.2 * np.exp(rng.normal(0, 0.18)), 75, 260)),
        melody=rng.uniform(0.08, 0.4),
        tract=tract,
        damping=rng.uniform(0.8, 1.3),
        tilt_hz=rng.uniform(250, 900),
        breath=np.exp(rng.uniform(np.log(0.004), np.log(0.03))),
        jitter=rng.uniform(0.003, 0.02),
        rate=rng.uniform(1.0, 1.25),
        loudness=np.exp(rng.uniform(np.log(0.04), np.log(0.11))),
        hiss=10 ** rng.uniform(-3.2, -2.4),
        effort=rng.uniform(1.05, 1.2),
        lead_s=rng.uniform(0.0, 0.02),
        voice=espeak.draw_voice(rng) if kind == "espeak" else "",
    )


def add_speech_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of scripts that make speech: --speech and --test_speech."""
    add = parser.add_argument
    add("--speech", choices=KINDS, default="formant", help="who speaks: own syllables, or espeak-ng's words")
    add("--test_speech", choices=KINDS, help="the same for the test split (default: as --speech)")


def check_speech(*kinds: str) -> None:
    """Raises UserError if one of the kinds needs espeak-ng, which is not there."""
    if "espeak" in kinds and not espeak.is_there():
        raise UserError(
            f"--speech espeak: {espeak.LIBRARY} is not found; install espeak-ng (Debian: apt install "
            "espeak-ng), or take --speech formant."
        )


@dataclass
class Speech:
    """An utterance: `samples` (n,) float in -1..1 at 44.1 kHz; `mouth` (n_frames, 3) with how far it is open,
    0..1 and somewhat above, its width relative to rest, and 0..1 the lower lip at the teeth.
    """

    samples: np.ndarray
    mouth: np.ndarray


@dataclass
class Spoken:
    """Phones in their order, (n,) each: name, begin in s, stress 0..1; the last one ends at `end_s`."""

    names: list[str]
    begins_s: np.ndarray
    stress: np.ndarray
    end_s: float


def speak(rng: np.random.Generator, seconds: float, speaker: Speaker, fps: int = FPS) -> Speech:
    """Utter random syllables (espeak: words), with pauses, for `seconds`; the mouth is given at `fps`."""
    n, n_blocks = round(seconds * RATE_HZ), int(np.ceil(seconds * BLOCKS_HZ)) + 1
    if speaker.voice:
        sound, names, begins_s, end_s = espeak.utter_words(rng, seconds, speaker.voice, speaker.rate)
        spoken = Spoken(names, begins_s, rng.uniform(0, 1, len(names)), end_s)
        tract = articulate(rng, spoken, n_blocks, speaker)
    else:
        spoken = babble(rng, seconds, speaker)
        tract = articulate(rng, spoken, n_blocks, speaker)
        sound = utter(rng, tract, melody(rng, spoken, n_blocks, speaker), speaker)
    sound = resample_poly(sound, 2, 1)[:n]
    sound += speaker.hiss * np.sqrt((sound**2).mean()) * rng.standard_normal(n)
    # loud peaks stay below 1; the same speaker is always as loud
    sound = np.tanh(sound * (speaker.loudness / np.sqrt((sound**2).mean())))
    sound *= speaker.loudness / np.sqrt((sound**2).mean())
    middle = (np.arange(round(seconds * fps)) + 0.5) / fps * BLOCKS_HZ
    mouth = [np.interp(middle, np.arange(n_blocks), tract[name]) for name in ("opening", "width", "tuck")]
    return Speech(sound, np.stack(mouth, 1))


def babble(rng: np.random.Generator, seconds: float, speaker: Speaker) -> Spoken:
    """Words of one to four syllables in phrases with pauses between, from a random moment of them on."""
    names, lengths, stress = ["_"], [rng.uniform(0, 0.4)], [0.0]
    while sum(lengths) < seconds:
        for _ in range(rng.integers(1, 4)):  # words of a phrase
            n_syllables = int(rng.integers(1, 5))
            accent = int(rng.integers(n_syllables))
            for i in range(n_syllables):
                cluster = rng.choice(list(CONSONANTS), size=rng.choice(3, p=[0.1, 0.8, 0.1]))
                coda = rng.choice(list(CONSONANTS), size=int(rng.random() < 0.2))
                weight = rng.uniform(0.7, 1) if i == accent else rng.uniform(0, 0.35)
                for name in (*cluster, rng.choice(list(VOWELS)), *coda):
                    low, high = PHONES[name].ms
                    names.append(str(name))
                    relaxed = 0.75 + 0.5 * weight if name in VOWELS else 1
                    lengths.append(rng.uniform(low, high) / 1000 * relaxed / speaker.rate)
                    stress.append(weight)
        names.append("_")
        low, high = PAUSE.ms
        lengths.append(low / 1000 * (high / low) ** rng.random())
        stress.append(0.0)
    ends = np.cumsum(lengths)
    return Spoken(names, ends - lengths, np.array(stress), float(ends[-1]))


def articulate(
    rng: np.random.Generator, spoken: Spoken, n_blocks: int, speaker: Speaker
) -> dict[str, np.ndarray]:
    """How the articulators move: for each of `GLIDES_MS` its value in each block, (n_blocks,).

    A target holds from the beginning of a phone to its end; lips and jaw go there sooner than the sound.
    """
    phones = [PHONES[name] for name in spoken.names]
    rows = np.array([(*p.formants, p.voice, *p.noise, p.nasal, *p.mouth) for p in phones])
    columns = dict(zip(GLIDES_MS, rows.T, strict=True))
    is_vowel = np.isin(spoken.names, list(VOWELS))
    is_pause = np.array(spoken.names) == "_"
    # less effort: a smaller opening, a softer voice, a tongue on its way to the middle
    reach = np.where(is_vowel, 0.85 + 0.15 * spoken.stress, 1)
    columns["opening"] = columns["opening"] * reach * rng.uniform(0.92, 1.08, len(phones)) * speaker.effort
    columns["voice"] = columns["voice"] * np.where(is_vowel, 0.55 + 0.45 * spoken.stress, 0.8)
    for name, neutral in (("f1", 500), ("f2", 1500), ("f3", 2500)):
        columns[name] = neutral + (columns[name] - neutral) * reach
    rest = rng.choice([0.0, 0.04, 0.12], len(phones), p=[0.6, 0.25, 0.15])
    columns["opening"] = np.where(is_pause, rest, columns["opening"])
    columns["noise"] = np.where(is_pause & (rest > 0.1), 0.012, columns["noise"])  # breath is drawn
    time_s = (np.arange(n_blocks) + 0.5) / BLOCKS_HZ
    leads_s = np.clip(speaker.lead_s + rng.normal(0, 0.006, len(phones)), 0, 0.08)
    heard = np.searchsorted(spoken.begins_s, time_s, "right").clip(1) - 1
    seen = np.searchsorted(np.maximum.accumulate(spoken.begins_s - leads_s), time_s, "right").clip(1) - 1
    is_lips = {"opening", "width", "tuck"}
    tract = {name: column[seen if name in is_lips else heard] for name, column in columns.items()}
    add_bursts(rng, spoken, tract)
    for name, ms in GLIDES_MS.items():
        tract[name] = glide(tract[name], ms / (speaker.rate if ms > 100 else 1))
    shut = np.array([p.lips_shut for p in phones])
    tract["opening"] *= 1 - touch(time_s, spoken, shut)
    tract["opening"] *= 1 - 0.8 * tract["tuck"]
    return tract


def add_bursts(rng: np.random.Generator, spoken: Spoken, tract: dict[str, np.ndarray]) -> None:
    """The noise of plosives that open, in the last milliseconds of each, into `tract`."""
    ends_s = np.append(spoken.begins_s[1:], spoken.end_s)
    for name, end_s in zip(spoken.names, ends_s, strict=True):
        if name in BURSTS:
            noise, ms = BURSTS[name]
            first = max(0, round((end_s - 0.005) * BLOCKS_HZ))
            block = slice(first, first + max(1, round(rng.uniform(*ms) / 1000 * BLOCKS_HZ)))
            for column, value in zip(("noise", "centre", "breadth"), noise, strict=True):
                tract[column][block] = value
            if name in "ptk":
                tract["voice"][block] *= 0.2  # breath before the voice sets in


def glide(targets: np.ndarray, ms: float) -> np.ndarray:
    """On the way from one target to the next within `ms`; of the same shape."""
    n = max(1, round(ms / 1000 * BLOCKS_HZ / 2))
    window = np.hanning(2 * n + 3)[1:-1]
    return np.convolve(np.pad(targets, n, mode="edge"), window / window.sum(), "valid")


def touch(time_s: np.ndarray, spoken: Spoken, shut: np.ndarray) -> np.ndarray:
    """1 while lips touch, 0 elsewhere, with 45 ms of closing and 35 ms of opening between; (n_blocks,)."""
    ends_s = np.append(spoken.begins_s[1:], spoken.end_s)
    most = np.zeros(len(time_s))
    for begin_s, end_s in zip(spoken.begins_s[shut], ends_s[shut], strict=True):
        ramp = np.interp(time_s, [begin_s - 0.045, begin_s, end_s - 0.005, end_s + 0.03], [0, 1, 1, 0])
        most = np.maximum(most, 0.5 - 0.5 * np.cos(np.pi * ramp))
    return most


def melody(rng: np.random.Generator, spoken: Spoken, n_blocks: int, speaker: Speaker) -> np.ndarray:
    """Pitch in Hz in each block, (n_blocks,): it falls over a phrase and rises on what is stressed."""
    time_s = (np.arange(n_blocks) + 0.5) / BLOCKS_HZ
    now = np.searchsorted(spoken.begins_s, time_s, "right").clip(1) - 1
    is_pause = np.array(spoken.names) == "_"
    begin_s = np.maximum.accumulate(np.where(is_pause, spoken.begins_s, 0))[now]
    octaves = speaker.melody * (0.5 * spoken.stress[now] + np.exp(-(time_s - begin_s)) - 0.6)
    return speaker.pitch_hz * 2 ** (glide(octaves, 180) + 0.03 * rng.standard_normal())


def utter(
    rng: np.random.Generator, tract: dict[str, np.ndarray], pitch_hz: np.ndarray, speaker: Speaker
) -> np.ndarray:
    """The sound of a tract at `SYNTHESIS_HZ`: each pulse of the glottis, and each block of noise, has the
    spectrum that the tract gives it at that moment, and all are added up.
    """
    hop, n_blocks = SYNTHESIS_HZ // BLOCKS_HZ, len(pitch_hz)
    phase = np.cumsum(pitch_hz) / BLOCKS_HZ
    n_pulses = int(phase[-1])
    at_s = np.interp(np.arange(n_pulses), phase, np.arange(n_blocks) / BLOCKS_HZ)
    at_s += speaker.jitter * rng.standard_normal(n_pulses) / speaker.pitch_hz
    at_block = (at_s * BLOCKS_HZ).astype(int).clip(0, n_blocks - 1)
    out = np.zeros(n_blocks * hop + 2048)
    level = tract["voice"][at_block] * (1 + 3 * speaker.jitter * rng.standard_normal(n_pulses))
    at = at_s.clip(0) * SYNTHESIS_HZ
    hz = np.fft.rfftfreq(1024, 1 / SYNTHESIS_HZ).astype(np.float32)
    shape = resonance({name: column[at_block] for name, column in tract.items()}, hz, speaker)
    glottis = hz / (hz - 60j) / (1 + 1j * hz / speaker.tilt_hz)
    late = np.exp(-2j * np.pi / SYNTHESIS_HZ * hz * (at % 1)[:, None]).astype(np.complex64)
    pulses = np.fft.irfft(shape * late * glottis.astype(np.complex64) * level[:, None])
    for begin, pulse in zip(at.astype(int), pulses, strict=True):
        out[begin : begin + 1024] += pulse
    hz = np.fft.rfftfreq(512, 1 / SYNTHESIS_HZ).astype(np.float32)
    white = rng.standard_normal((n_blocks, 2 * hop)) * np.hanning(2 * hop)
    band = np.exp(-(((hz - tract["centre"][:, None]) / tract["breadth"][:, None]) ** 2))
    breath = speaker.breath * tract["voice"][:, None] * resonance(tract, hz, speaker)
    noise = np.fft.irfft(np.fft.rfft(white, 512) * (0.1 * tract["noise"][:, None] * band + breath))
    for i, piece in enumerate(noise):
        out[i * hop : i * hop + 512] += piece
    return out[: n_blocks * hop]


def resonance(tract: dict[str, np.ndarray], hz: np.ndarray, speaker: Speaker) -> np.ndarray:
    """The tract's answer to frequencies (F,) in each of its rows: (n, F) complex64, 1 at 0 Hz."""
    answer = np.ones((1, len(hz)), np.complex64)
    n = len(tract["f1"])
    higher = {"f4": np.full(n, 3500), "f5": np.full(n, 4500)}
    bandwidths_hz = {"f1": 80, "f2": 110, "f3": 160, "f4": 220, "f5": 280}
    for name, bandwidth in bandwidths_hz.items():
        f = (tract | higher)[name][:, None].astype(np.float32) * np.float32(speaker.tract)
        b = np.float32(bandwidth * speaker.damping) * (1 + 1.5 * tract["nasal"][:, None].astype(np.float32))
        answer = answer * (f * f / (f * f - hz * hz + 1j * hz * b))
    return answer
