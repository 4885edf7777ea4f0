"""Published weights: downloaded once, then read from a folder."""

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
from trainingapp.contract.messages.weights import CONNECT_OR_COPY, PUBLISHED_CORRUPTED, PUBLISHED_NOT_DOWNLOADED

DOWNLOAD_TIMEOUT_S = 30.0


def fetched_state(url: str, folder: Path) -> dict[str, Any]:
    """The state dict at `url`, from `folder` where it was fetched before. Raises WeightsUnavailable."""
    file, host = folder / url.rpartition("/")[2], urlsplit(url).hostname
    advice = CONNECT_OR_COPY(host=str(host), path=str(folder))
    try:
        with socket_timeout(DOWNLOAD_TIMEOUT_S):
            state: dict[str, Any] = torch.hub.load_state_dict_from_url(
                url, str(folder), map_location="cpu", progress=False, check_hash=True, weights_only=True
            )
            return state
    except (UnpicklingError, EOFError, RuntimeError) as error:
        raise WeightsUnavailable(PUBLISHED_CORRUPTED(path=str(file), error=str(error), advice=advice)) from error
    except (URLError, OSError) as error:
        reason = str(getattr(error, "reason", error))
        raise WeightsUnavailable(PUBLISHED_NOT_DOWNLOADED(url=url, error=reason, advice=advice)) from error


@contextmanager
def socket_timeout(seconds: float) -> Iterator[None]:
    """torch.hub has no timeout: a host that accepts connections and does not answer would block the run forever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
