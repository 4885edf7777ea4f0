"""Weights that others have published: fetched once, kept in a folder."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit

import torch

from trainingapp.contract.errors import WeightsUnavailable

DOWNLOAD_TIMEOUT_S = 30.0


def fetched_state(url: str, folder: Path) -> dict[str, Any]:
    """The state dict at `url`, from `folder` where it was fetched before. Raises WeightsUnavailable."""
    file, host = folder / url.rpartition("/")[2], urlsplit(url).hostname
    advice = f"Connect this machine to {host}, or put the file into {folder} by hand, or turn pretrained off."
    try:
        with socket_timeout(DOWNLOAD_TIMEOUT_S):
            state: dict[str, Any] = torch.hub.load_state_dict_from_url(
                url, str(folder), map_location="cpu", progress=False, check_hash=True, weights_only=True
            )
            return state
    except (UnpicklingError, EOFError, RuntimeError) as error:
        raise WeightsUnavailable(f"{file} is damaged: {error}. Delete it. {advice}") from error
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise WeightsUnavailable(f"Pretrained weights could not be fetched from {url}: {reason}. {advice}") from error


@contextmanager
def socket_timeout(seconds: float) -> Iterator[None]:
    """A host that takes connections and says nothing must not hold the run for ever; torch.hub has no timeout."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
