"""Encoding on every core: chunks of examples go to processes and come back in order.

The tokenizer's Rust side uses all cores by itself, but making columns of its output is Python. Processes
start only once a split has proved large, for each has to import what a task needs first.
"""

import logging
import os
import pickle
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any, Protocol

from xlt.data.encode import TextEncoder
from xlt.data.features import Columns

log = logging.getLogger(__name__)

ALONE = 50
"""Chunks encoded in this process before others are started."""

AHEAD = 2
"""Chunks waiting for each process."""

Encoded = tuple[list[Any], Columns, int]
"""A chunk's examples, their columns, and how many lost text to the length limit."""


class Encodes(Protocol):
    """What is needed of a task."""

    @property
    def name(self) -> str:
        """The task's name."""
        ...

    def encode(self, examples: Any, first: int, text: TextEncoder) -> tuple[Columns, int]:
        """Examples to columns."""
        ...


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(task: Encodes, text: TextEncoder, chunks: Iterable[list[Any]]) -> Iterator[Encoded]:
    """Each chunk encoded, in order; memory is bounded by a few chunks a process."""
    left, first = iter(chunks), 0
    for _, chunk in zip(range(ALONE), left, strict=False):
        yield chunk, *task.encode(chunk, first, text)
        first += len(chunk)
    upcoming = next(left, None)
    if upcoming is None:
        return
    rest = _chain(upcoming, left)
    reason = _why_not_sent(task)
    if reason:
        log.warning(
            "%s is encoded on one core, for %s: make read a function of its module", task.name, reason
        )
        for chunk in rest:
            yield chunk, *task.encode(chunk, first, text)
            first += len(chunk)
    else:
        yield from _on_processes(task, text, rest, first, num_cores())


def _why_not_sent(task: Encodes) -> str:
    """Why a task cannot be sent to another process, such as one whose `read` is a lambda; empty if it can."""
    try:
        pickle.dumps(task)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        return str(error)
    return ""


def _chain(one: list[Any], others: Iterator[list[Any]]) -> Iterator[list[Any]]:
    yield one
    yield from others


def _on_processes(
    task: Encodes, text: TextEncoder, chunks: Iterator[list[Any]], first: int, num_processes: int
) -> Iterator[Encoded]:
    """Each chunk encoded by one of so many processes."""
    waiting: deque[tuple[list[Any], Future[tuple[Columns, int]]]] = deque()
    context = get_context("spawn")
    with ProcessPoolExecutor(num_processes, context, _start, (task, text)) as pool:
        for chunk in chunks:
            waiting.append((chunk, pool.submit(_encode, chunk, first)))
            first += len(chunk)
            if len(waiting) > AHEAD * num_processes:
                done, future = waiting.popleft()
                yield done, *future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, *future.result()


_own: tuple[Encodes, TextEncoder]
"""In a process of the pool: its task and tokenizer."""


def _start(task: Encodes, text: TextEncoder) -> None:
    """Keep what every chunk needs; one core a process, which ends with its parent however that ends."""
    global _own
    Thread(target=_end_with_parent, daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _own = task, text


def _end_with_parent() -> None:
    """Wait for the parent's end, and end."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _encode(chunk: list[Any], first: int) -> tuple[Columns, int]:
    task, text = _own
    return task.encode(chunk, first, text)
