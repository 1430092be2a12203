"""The two labels, in the authors' encoding, and the two splits."""

LABELS = {"real": 1, "fake": 0}  # also the names of the folders; figures take fake as the positive class
SPLITS = ("train", "test")  # also the names of the folders
