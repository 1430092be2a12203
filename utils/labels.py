"""The two labels, in the authors' encoding."""

LABELS = {"real": 1, "fake": 0}  # also the names of the folders; figures take fake as the positive class
