"""Speech by espeak-ng, if its library is there (Debian: apt install espeak-ng): sound and its phones.

The library remembers what it said before, so that each utterance has a process of its own: this file, run as
a script, reads what is to be said from its argument and writes the sound and the phones to its output.
"""

import ctypes
import json
import subprocess
import sys

import numpy as np

LIBRARY = "libespeak-ng.so.1"
RATE_HZ = 22_050
WORDS = {  # language -> some of its words
    "en": "the of people water never about morning between little other mother family paper before window "
    "summer problem money become simple number above remember possible moment together over five move",
    "de": "und Wasser immer morgen zwischen andere Mutter Familie Papier bevor Fenster Sommer Problem kommen "
    "einfach Nummer oben möglich zusammen über bewegen heute Abend Baum Apfel",
    "es": "agua siempre mañana entre pequeño otro madre familia papel antes ventana verano problema dinero "
    "simple número arriba posible momento juntos sobre mover hombre pobre",
    "fr": "eau toujours matin entre petit autre famille papier avant fenêtre problème argent simple nombre "
    "possible moment ensemble pomme bouger homme pauvre beaucoup",
    "it": "acqua sempre mattina piccolo altro madre famiglia prima finestra problema semplice numero "
    "possibile momento insieme sopra muovere uomo povero bambino",
}
VARIANTS = [f"{sex}{i}" for sex, n in (("m", 8), ("f", 5)) for i in range(1, n + 1)]
PHONES = (  # ours, and what espeak-ng's IPA begins with
    "i:i I:ɪɨ e:e E:ɛ &:æ a:aɑä V:ʌɐ @:əɚ 3:ɜɝ O:ɔɒ o:oɵ U:ʊ u:u y:yʏøœ m:m b:bβ p:p f:f v:v s:s z:z "
    "S:ʃʒʂɕ T:θð h:hxçɣ n:nɲ d:d t:tʔ l:lʎɫ r:rɹɾʁʀ k:kc g:ɡg N:ŋ w:wɥʋ j:j"
)
OF_IPA = {letter: pair[0] for pair in PHONES.split() for letter in pair[2:]}
SYNCHRONOUS, PHONEMES_IN_IPA, UTF8 = 2, 3, 1  # as speak_lib.h numbers them
RATE, PITCH, RANGE = 1, 3, 4
END_OF_LIST, PHONEME = 0, 7
CLOSURE_S = 0.05  # of a plosive, before the moment that espeak-ng tells: its opening
SHORT_PAUSE_MS = 60


class Event(ctypes.Structure):
    """What happens in the sound, and when, as speak_lib.h has it."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # ms
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("string", ctypes.c_char * 8),
    )


Heard = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event))


def is_there() -> bool:
    """Whether the library can be loaded."""
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return True


def draw_voice(rng: np.random.Generator) -> str:
    """A language, a variant and a pitch, such as "en+f2 60"."""
    return f"{rng.choice(list(WORDS))}+{rng.choice(VARIANTS)} {rng.integers(20, 80)}"


def draw_text(rng: np.random.Generator, seconds: float, voice: str) -> str:
    """Phrases of one to five words, long enough to speak for `seconds`."""
    words = WORDS[voice.partition("+")[0]].split()
    phrases = [" ".join(rng.choice(words, rng.integers(1, 6))) for _ in range(4 + round(2 * seconds))]
    return "".join(phrase + str(rng.choice([", ", ". ", "; ", " "])) for phrase in phrases)


def run_espeak(voice: str, text: str, rate: int, pitch: int, pitch_range: int) -> tuple[bytes, list]:
    """16-bit sound at `RATE_HZ`, and (IPA, begin in ms) of each phoneme.  Once in a process: see above.

    Args:
        rate: words a minute. pitch, pitch_range: 0..99.
    """
    library = ctypes.CDLL(LIBRARY)
    library.espeak_Initialize(SYNCHRONOUS, 0, None, PHONEMES_IN_IPA)
    library.espeak_SetVoiceByName(voice.encode())
    for parameter, value in ((RATE, rate), (PITCH, pitch), (RANGE, pitch_range)):
        library.espeak_SetParameter(parameter, value, 0)
    pieces, phonemes = [], []

    def hear(samples, n, events):
        if samples and n > 0:
            pieces.append(ctypes.string_at(samples, 2 * n))
        i = 0
        while events[i].type != END_OF_LIST:
            if events[i].type == PHONEME:
                phonemes.append((events[i].string.decode(errors="replace"), events[i].audio_position))
            i += 1
        return 0

    callback = Heard(hear)  # held until the end: the library calls it
    library.espeak_SetSynthCallback(callback)
    spoken = text.encode()
    library.espeak_Synth(spoken, len(spoken) + 1, 0, 0, 0, UTF8, None, None)
    return b"".join(pieces), phonemes


def utter_words(
    rng: np.random.Generator, seconds: float, voice: str, rate: float
) -> tuple[np.ndarray, list[str], np.ndarray, float]:
    """Random words by espeak-ng, for `seconds` and a little more, with a random melody.

    Args:
        voice: as `draw_voice` gives it, with its pitch. rate: of speech, 1 is common.

    Returns: sound (n,) float at `RATE_HZ`; names of phones as in speech.py, "_" for silence; their begins in
        s, of the first 0; the end of the last one in s.
    """
    name, _, pitch = voice.rpartition(" ")
    text = draw_text(rng, seconds, name)
    said = json.dumps([name, text, round(135 * rate), int(pitch), int(rng.integers(30, 80))])
    done = subprocess.run([sys.executable, __file__, said], capture_output=True, check=True)
    head, _, pcm = done.stdout.partition(b"\n")
    events = json.loads(head)
    names, begins_s = ["_"], [0.0]
    for (ipa, ms), (_, end_ms) in zip(events, [*events[1:], (None, 1e9)], strict=True):
        phones = [OF_IPA[letter] for letter in ipa if letter in OF_IPA]
        name_here = phones[0] if phones else "_"
        if name_here == "_" and end_ms - ms < SHORT_PAUSE_MS:
            continue  # between two sounds of a word
        lead_s = CLOSURE_S if name_here in "pbtdkg" else 0.0
        names.append(name_here)
        begins_s.append(max(ms / 1000 - lead_s, begins_s[-1] + 0.02))
    sound = np.frombuffer(pcm, "<i2") / 32768
    end_s = max(len(sound) / RATE_HZ, seconds + 0.1)
    silence = max(0, round(end_s * RATE_HZ) - len(sound))
    return np.pad(sound, (0, silence)), names, np.array(begins_s), end_s


if __name__ == "__main__":
    sound, phonemes = run_espeak(*json.loads(sys.argv[1]))
    sys.stdout.buffer.write(json.dumps(phonemes).encode() + b"\n" + sound)
