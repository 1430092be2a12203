"""One video -> its verdict.  `from verdicts import Judge` is the way in."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from verdicts.judge import Judge as Judge


def __getattr__(name: str) -> object:
    """Import `Judge` when somebody asks for it: it needs PyTorch, the curves and the words don't."""
    if name != "Judge":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from verdicts.judge import Judge

    return Judge
