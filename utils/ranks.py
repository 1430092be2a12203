"""A training process among others: the ranks of torchrun, and signals that ask to stop."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from utils.cli import UserError, pick_device
from utils.launch import Launch

T = TypeVar("T")


class Ranks(Launch):
    """This process and its companions, as torchrun started them (or it alone), joined by torch.distributed.

    Tensors on a GPU go by NCCL, on the CPU by gloo. Use it in a `with` block.

    Args:
        device: auto, cpu or cuda; with several ranks each takes the GPU of its local rank.
        gpu: index of the GPU to take, of a process without companions.
    """

    def __init__(self, device: str, gpu: int = 0):
        super().__init__()
        self.device = pick_device(device, self.local_rank if self.size > 1 else gpu)
        self.is_main, self.on_gpu = self.rank == 0, self.device.type == "cuda"
        self._asked: tuple[dist.Work, Tensor] | None = None
        self._n_meetings = 0

    def __enter__(self) -> "Ranks":
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        if self.size > 1:
            backend = "cpu:gloo,cuda:nccl" if self.device.type == "cuda" else "gloo"
            self._store = self.store()
            dist.init_process_group(backend, store=self._store, rank=self.rank, world_size=self.size)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        if (
            self.size > 1 and kind is None
        ):  # after an error the companions may be elsewhere; torchrun ends them
            dist.destroy_process_group()
        elif isinstance(error, dist.DistError) or re.search("Connection (closed|reset) by peer", str(error)):
            raise UserError(
                "another process of this run died, see what it says; go on with --resume, as torchrun does "
                "with --max-restarts N."
            ) from error

    def gather(self, value: object) -> list:
        """The values of all ranks, in order; each rank gets them. Waits for all."""
        if self.size == 1:
            return [value]
        values: list = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def meet(self) -> None:
        """Wait until all ranks are here, however long that takes: a collective gives up after 10 or 30
        minutes.
        """
        if self.size == 1:
            return
        self._n_meetings += 1
        name = f"meeting {self._n_meetings}"
        self._store.add(name, 1)
        while self._store.add(name, 0) < self.size:
            time.sleep(0.1)

    def decide(self, choose: Callable[[], T]) -> T:
        """What rank 0 chooses, the same on all ranks; a UserError or OSError of its choice is raised on all
        as a UserError.
        """
        choice, problem = None, ""
        if self.is_main:
            try:
                choice = choose()
            except UserError as error:
                problem = str(error)
            except OSError as error:
                problem = f"{error.filename}: {error.strerror}"
        choice, problem = self.gather((choice, problem))[0]
        if problem:
            raise UserError(problem)
        return choice  # type: ignore[return-value]  # rank 0's, which is no None then

    def spread(self, tensors: Iterable[Tensor]) -> None:
        """Give rank 0's values to all ranks, in place."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def agree(self, *wishes: bool) -> list[bool]:
        """Which wishes any rank has, the same answer on all ranks: with several, that of the call before, so
        nobody waits.
        """
        if self.size == 1:
            return list(wishes)
        answer = [False] * len(wishes)
        if self._asked:
            work, tensor = self._asked
            work.wait()
            answer = tensor.bool().tolist()
        tensor = torch.tensor(wishes, dtype=torch.int32)
        self._asked = dist.all_reduce(tensor, dist.ReduceOp.MAX, async_op=True), tensor
        return answer


class Stopped(Exception):
    """A signal asked to stop."""


class StopSignal:
    """Turns SIGTERM and Ctrl-C into a wish to stop, for the program to fulfil when it can; a second Ctrl-C
    stops at once.

    Use it in a `with` block of the main thread.

    Args:
        what: is said when the signal comes.
    """

    number = 0  # of the signal that came

    def __init__(self, what: str):
        self.what = what

    def __enter__(self) -> "StopSignal":
        self._before = {
            number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)
        }
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: object) -> None:
        if self.number == number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.number:
            os.write(2, f"\n{self.what}; a second Ctrl-C stops at once\n".encode())
        self.number = number

    @property
    def exit_status(self) -> int:
        """Of a program that a signal stopped, by the shell's convention; with several ranks another one may
        have got it.
        """
        return 128 + (self.number or signal.SIGTERM)
