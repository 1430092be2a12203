"""The published data sets that collect.py reads, a file for each.

A new data set is a new file, which calls `register`, and its name here.  They are named rather than searched
for, since their order counts (a root is said to look like the first that knows it, `folder` comes last), and
since other files lie beside them.
"""

from importlib import import_module

DATASETS = (
    *("dfdc", "dfdc_preview", "fakeavceleb", "dftimit", "lavdf", "avdeepfake1m"),
    *("deepspeak", "kodf", "avlips", "idforge", "mavosdd"),
    "folder",
)
for _name in DATASETS:
    import_module(f"corpora.{_name}")
