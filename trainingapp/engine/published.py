"""Published weights: downloaded once, then read from a folder."""

import re
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from urllib.parse import urlsplit

import torch

from trainingapp.contract.errors import WeightsUnavailable
from trainingapp.contract.messages import Message
from trainingapp.contract.messages.weights import CONNECT_OR_COPY, PUBLISHED_CORRUPTED, PUBLISHED_NOT_DOWNLOADED
from trainingapp.contract.published_files import NotPublished, Unreachable, downloaded, located
from trainingapp.contract.published_weights import Published

HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")


def fetched_state(url: str, folder: Path) -> dict[str, Any]:
    """The state dict at `url`, from `folder` where it was fetched before. Raises WeightsUnavailable."""
    name = url.rpartition("/")[2]
    digest = HASH_IN_NAME.search(name)
    path = obtained(Published(name, url, name, digest=digest[1] if digest else ""), folder)
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, EOFError, RuntimeError, OSError) as error:
        advice = _advice(url, folder)
        raise WeightsUnavailable(PUBLISHED_CORRUPTED(path=str(path), error=str(error), advice=advice)) from error
    return state


def obtained(published: Published, folder: Path) -> Path:
    """The file in the cache `folder`, downloaded where it is not there. Raises WeightsUnavailable."""
    if found := located(published, folder):
        return found
    try:
        return downloaded(published, folder)
    except (NotPublished, Unreachable) as error:
        advice = _advice(published.url, (folder / published.place).parent)
        message = PUBLISHED_NOT_DOWNLOADED(url=published.url, error=error.message, advice=advice)
        raise WeightsUnavailable(message) from error


def _advice(url: str, folder: Path) -> Message:
    return CONNECT_OR_COPY(host=str(urlsplit(url).hostname), path=str(folder))
