"""Several processes that train one program together, as torchrun starts them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed


def count() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """This process's place among them, from 0. The first alone prints and writes."""
    return int(os.environ.get("RANK", "0"))


@contextmanager
def together() -> Iterator[None]:
    """Within it they can talk to each other; a process that is alone has nobody to talk to."""
    if count() == 1:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()
