"""What is said once: labels and splits, the chunk's clock and sizes, columns that several files share."""

LABELS = {
    "real": 1,
    "fake": 0,
}  # the authors' encoding; also names of folders; figures take fake as the positive class
LABEL_NAMES = {code: name for name, code in LABELS.items()}
SPLITS = ("train", "test")  # also names of folders

FPS = 30
SAMPLE_RATE_HZ = 48_000
SAMPLES_PER_FRAME = SAMPLE_RATE_HZ // FPS
CHUNK_FRAMES = 30
CHUNK_SAMPLES = CHUNK_FRAMES * SAMPLES_PER_FRAME
CHUNK_S = CHUNK_FRAMES / FPS
CROP_SIZE_PX = 224
MAX_DURATION_S = 24 * 3600  # of a video; more than this is a broken time stamp
SILENCE_DBFS = -60  # a sound begins with the first sample above it (1/1000 of full scale)

# what an index may say of a video; figures go by them
GROUP_COLUMNS = ("manipulation", "method", "category", "source")
COLLECTED_COLUMNS = ("original", "identity", *GROUP_COLUMNS)  # by collect.py; go through to the scores

# what the network says of a chunk: columns of tables, rows of arrays
CHUNK_SCORES = ("dissimilarity", "p_fake_video", "p_fake_audio")
POLARITY = "higher is more fake"  # of dissimilarity and MDS, as files say it
DECISION = f"{POLARITY}; fake from the threshold on"

# the choices of flags; tables in model.py, engine.py and augmentation.py have the same names
NETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet200")
PRECISIONS = ("off", "bf16", "fp16")
INITS = ("authors", "torch")
DISTANCES = ("authors", "standardised")
AUTHORS_DISTANCE, AUTHORS_MARGIN = "authors", 0.99  # what their fixed threshold belongs to
NORMS = ("batch", "clip")
PAIRS = ("dataset", "twins", "cross")
AUGMENTATIONS = ("hflip", "jitter", "crop", "jpeg", "noise", "gain")
