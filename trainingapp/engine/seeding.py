"""Where randomness comes from, so that a run repeats bit by bit."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derived_seed(seed: int, *parts: int | str) -> int:
    """A seed in [0, 2^63) fixed by `seed` and `parts` alone; other parts give an unrelated one."""
    text = ":".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def seed_everything(seed: int) -> None:
    """Set the global generators of Python, NumPy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def own_cpu_randomness() -> Iterator[torch.Generator]:
    """Lend torch's CPU generator, on which the transforms draw, and give it back as it was.

    Dropout draws from the same generator: what the loader does must not be seen there, or the number of loader
    processes would change the run.
    """
    generator = torch.default_generator
    state = generator.get_state()
    try:
        yield generator
    finally:
        generator.set_state(state)


def rng_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The states of the generators that the model draws on: the CPU's and, on a GPU, its own."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_rng_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """Put back what `rng_state` gave. A state of a GPU is left out on the CPU, and the other way round."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
