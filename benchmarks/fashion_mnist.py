"""Turn Fashion-MNIST into class folders that the studio can import.

Reads the four idx files of Debian's package (`apt-get install dataset-fashion-mnist`) or of any other copy, and writes
OUT/{train,val}/{class}/{number}.png: 60,000 images to train on and 10,000 for validation, 28 x 28 pixels, 10 classes.

    python benchmarks/fashion_mnist.py --out /tmp/fashion-mnist
    python manage.py import_dataset /tmp/fashion-mnist --name "Fashion-MNIST"

In the browser: Datasets, Import, server folder. A configuration that goes past 90 % in a few epochs on two cores:
model mobilenet_v3_small or resnet18, image_size 32, epochs 4, batch_size 128, AdamW with learning_rate 0.002, one-cycle
schedule, warmup_epochs 0, augmentation light. resnet18 ends higher; a step of it takes about 0.25 s, an epoch two
minutes.
"""

import argparse
import gzip
import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASSES = ["T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FILES = {"train": "train", "val": "t10k"}
QUICK_IMAGES = {"train": 2000, "val": 500}


def main() -> None:
    arguments = _arguments()
    started = time.monotonic()
    counts = {split: _write_split(arguments.source, arguments.out, split, arguments.quick) for split in FILES}
    seconds = time.monotonic() - started
    _print_table(counts)
    result = {"benchmark": "fashion_mnist", "out": str(arguments.out), "quick": arguments.quick}
    totals = {split: sum(by_class.values()) for split, by_class in counts.items()}
    print(json.dumps({**result, "images": totals, "classes": len(CLASSES), "seconds": round(seconds, 2)}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--source", type=Path, default=DEBIAN_FOLDER, help="folder of the idx files (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; it must be empty or not there")
    parser.add_argument("--quick", action="store_true", help="only the first 2,000 and 500 images")
    arguments = parser.parse_args()
    if not arguments.source.is_dir():
        parser.error(f"{arguments.source} is not there. On Debian: apt-get install dataset-fashion-mnist")
    if arguments.out.exists() and any(arguments.out.iterdir()):
        parser.error(f"{arguments.out} is not empty")
    return arguments


def _write_split(source: Path, out: Path, split: str, quick: bool) -> dict[str, int]:
    """Write one split; returns the number of images of each class."""
    counts = dict.fromkeys(CLASSES, 0)
    for name in CLASSES:
        (out / split / name).mkdir(parents=True, exist_ok=True)
    for index, (image_HW, label) in enumerate(_images(source, FILES[split])):
        if quick and index >= QUICK_IMAGES[split]:
            break
        name = CLASSES[label]
        counts[name] += 1
        Image.fromarray(image_HW).save(out / split / name / f"{index:05d}.png", compress_level=1)
    return counts


def _images(source: Path, prefix: str) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """(H, W) uint8 and label of each image."""
    images_NHW = _read_idx(source / f"{prefix}-images-idx3-ubyte")
    labels_N = _read_idx(source / f"{prefix}-labels-idx1-ubyte")
    assert len(images_NHW) == len(labels_N)
    yield from zip(images_NHW, labels_N.tolist(), strict=True)


def _read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an idx file of unsigned bytes, compressed or not: two zeros, type 8, axes, their lengths, the values."""
    packed = path.with_name(f"{path.name}.gz")
    content = gzip.decompress(packed.read_bytes()) if packed.exists() else path.read_bytes()
    zeros, kind, axes = struct.unpack_from(">HBB", content)
    if (zeros, kind) != (0, 8):
        raise SystemExit(f"{path} is no idx file of unsigned bytes")
    shape = struct.unpack_from(f">{axes}I", content, 4)
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * axes).reshape(shape)


def _print_table(counts: dict[str, dict[str, int]]) -> None:
    print(f"{'class':12} {'train':>7} {'val':>7}")
    for name in CLASSES:
        print(f"{name:12} {counts['train'][name]:7,} {counts['val'][name]:7,}")


if __name__ == "__main__":
    main()
