"""Seeds and states of random number generators, so that a run repeats bit by bit."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derived_seed(seed: int, *parts: int | str) -> int:
    """A seed in [0, 2^63) that depends on `seed` and `parts` alone; other parts give an unrelated seed."""
    text = ":".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def seed_everything(seed: int) -> None:
    """Set the global generators of Python, NumPy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def seed_device(seed: int, device: torch.device) -> None:
    """Set the generators that the model draws from: that of the CPU and, on a GPU, that of the GPU. Cheap."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)


@contextmanager
def own_cpu_randomness() -> Iterator[torch.Generator]:
    """torch's global CPU generator, from which the transforms draw; its state is restored afterwards.

    Dropout draws from the same generator: without the restoration, the number of loader processes would change the run.
    """
    generator = torch.default_generator
    state = generator.get_state()
    try:
        yield generator
    finally:
        generator.set_state(state)


def rng_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The states of the generators that the model draws from: that of the CPU and, on a GPU, that of the GPU."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_rng_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """Restore a result of `rng_state`. The state of a GPU is ignored on the CPU; a GPU keeps its own where none is
    given."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


@contextmanager
def seeded(device: torch.device) -> Iterator[None]:
    """Within it, the model draws the same random numbers each time; afterwards the generators are as before."""
    state = rng_state(device)
    seed_device(0, device)
    try:
        yield
    finally:
        set_rng_state(state, device)
