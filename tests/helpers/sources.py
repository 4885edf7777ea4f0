"""Images, zips and folders for tests, and checks of refused imports."""

import io
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from trainingapp.datasets.importing.importer import run_import
from trainingapp.models import Dataset

Tree = Mapping[str, bytes | None]
"""Content by path; None stands for an empty folder."""


def image(seed: int, size: tuple[int, int] = (12, 10), format_: str = "PNG") -> bytes:
    """An image of noise, different for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format_)
    return buffer.getvalue()


def two_classes(each: int = 5, prefix: str = "") -> dict[str, bytes | None]:
    """cat/0.png ... dog/0.png ..., all different."""
    return {
        f"{prefix}{name}/{number}.png": image(zlib.crc32(f"{prefix}{name}{number}".encode()))
        for name in ("cat", "dog")
        for number in range(each)
    }


def write_tree(folder: Path, tree: Tree) -> Path:
    for path, content in tree.items():
        if content is None:
            (folder / path).mkdir(parents=True)
        else:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
    folder.mkdir(exist_ok=True)
    return folder


def write_zip(path: Path, tree: Tree, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in tree.items():
            archive.writestr(name if content is not None else f"{name}/", content or b"")
    return path


def files_under(folder: Path) -> list[str]:
    """All files and empty folders, except the two folders of the studio."""
    found = [path for path in folder.rglob("*") if path.is_file() or not any(path.iterdir())]
    names = sorted(str(path.relative_to(folder)) for path in found)
    return [name for name in names if name not in {"datasets", "uploads"}]


@contextmanager
def whole_import(
    dataset: Dataset, source: Path, data_dir: Path, on_error: str, reading: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Within: `source` is imported, or refused without leftover files. Removes everything at the end."""
    try:
        options = {"on_error": on_error, "reading": dict(reading or {})}
        Dataset.objects.filter(pk=dataset.pk).update(options=options)
        dataset.refresh_from_db()
        run_import(dataset)
        if dataset.status != Dataset.Status.READY:
            assert (dataset.status, bool(dataset.errors)) == (Dataset.Status.REFUSED, True)
            assert files_under(data_dir) == []
        yield
    finally:
        shutil.rmtree(source)
        shutil.rmtree(dataset.folder, ignore_errors=True)
        dataset.delete()


def codes(dataset: Dataset, level: str = "error") -> list[str]:
    return [item["code"] for item in dataset.report if item["level"] == level]


def assert_refused(dataset: Dataset, data_dir: Path, code: str, *texts: str, keeps_upload: bool = False) -> None:
    """Assert that the dataset was refused with a finding of this category and these texts, and no file is left.

    With `keeps_upload`, the uploaded archive is left, since it can be read again with other choices.
    """
    assert dataset.status == Dataset.Status.REFUSED
    assert code in codes(dataset)
    message = " ".join(item["message"] for item in dataset.report if item["code"] == code)
    for text in texts:
        assert text in message
    assert files_under(data_dir) == (["uploads/upload.zip"] if keeps_upload else [])
