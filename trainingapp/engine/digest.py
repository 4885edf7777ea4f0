"""What a checkpoint holds, as hashes: `python -m trainingapp.engine.digest FILE ...` prints {file: {part: SHA-256}}.

Two checkpoints with the same hashes hold the same tensors, bit by bit.
"""

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from trainingapp.engine.transfer import read_checkpoint

#: The parts that are equal in checkpoints of bit-identical runs.
PARTS = ("model_state_dict", "ema_state_dict", "optimizer_state_dict", "meter_state_dict", "rng_state", "metrics")


def digests(path: Path, parts: Sequence[str] = PARTS) -> dict[str, str]:
    """The SHA-256 of each of the parts that the checkpoint has. Raises WeightsUnavailable."""
    content = read_checkpoint(path)
    found = {}
    for part, value in content.items():
        if part in parts:
            state = hashlib.sha256()
            _feed(state, value)
            found[part] = state.hexdigest()
    return found


def _feed(state: "hashlib._Hash", value: object) -> None:
    """Names, shapes, types and bytes, in an order that does not depend on how a dict was filled."""
    if isinstance(value, torch.Tensor):
        state.update(f"{value.dtype}{tuple(value.shape)}".encode())
        state.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            state.update(f"{key}:".encode())
            _feed(state, value[key])
    elif isinstance(value, list | tuple):
        state.update(f"[{len(value)}".encode())
        for item in value:
            _feed(state, item)
    else:
        state.update(repr(value).encode())


if __name__ == "__main__":
    sys.stdout.write(json.dumps({name: digests(Path(name)) for name in sys.argv[1:]}))
