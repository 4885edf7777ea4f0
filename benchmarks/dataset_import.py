"""Importing a COCO set beside reading it with pycocotools and torchvision, and the memory that it takes.

    python benchmarks/dataset_import.py [--quick | --large]

The set is drawn: JPEG images of 640 x 480 pixels with seven outlined objects each. Each contender goes through all of
it in a process of its own, one after the other in every round, with the files in the page cache:

    import           the studio's: annotations, every image copied, hashed, decoded, looked at for near-duplicates,
                     a semantic mask painted and written, an index, statistics, a flush to the disk
    import, boxes    the same set without outlines, so that no masks are written
    pycocotools      COCO(), every image decoded by Pillow, every object's mask by annToMask
    torchvision      CocoDetection, iterated: images decoded, annotations as they stand

Counted are seconds after the imports of modules; figures are medians of the rounds. Memory is the highest resident set
(VmHWM) of the importing process, for a small set and for one of ten times as many images (`--quick`: five times).
`--large` measures nothing but the memory for a COCO file of 500 MB: a million outlined objects in 20,000 images.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

WIDTH, HEIGHT = 640, 480
OBJECTS, CORNERS = 7, 24
CLASSES = 20
LARGE_IMAGES, LARGE_BYTES = 20_000, 500 * 1000**2


@dataclass(frozen=True)
class Plan:
    """Images of the set that is timed, rounds, and images of the two sets whose memory is compared."""

    images: int
    rounds: int
    memory: tuple[int, int]


QUICK = Plan(images=200, rounds=3, memory=(200, 1000))
FULL = Plan(images=1000, rounds=5, memory=(1000, 10_000))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="Fewer images and rounds.")
    parser.add_argument("--large", action="store_true", help="The memory for a COCO file of 500 MB, and nothing else.")
    parser.add_argument("--child", nargs=2, metavar=("CONTENDER", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(CONTENDERS[arguments.child[0]](Path(arguments.child[1]))))
        return
    with tempfile.TemporaryDirectory(prefix="cvstudio-bench-") as folder:
        if arguments.large:
            figures = measure_large(Path(folder))
        else:
            figures = measure(Path(folder), QUICK if arguments.quick else FULL)
    print(json.dumps(figures))


def measure(folder: Path, plan: Plan) -> dict[str, Any]:
    outlined = draw_set(folder / "outlined", plan.images, outlined=True)
    boxes = draw_set(folder / "boxes", plan.images, outlined=False)
    contenders = {
        "import": ("import", outlined),
        "import, boxes": ("import", boxes),
        "pycocotools": ("pycocotools", outlined),
        "torchvision": ("torchvision", outlined),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(plan.rounds + 1):
        for name, (contender, source) in contenders.items():
            took = run_child(contender, source)["seconds"]
            if number:  # the first round warms the page cache
                seconds[name].append(took)
    figures = _show_times(plan, seconds)
    return figures | measure_memory(folder, plan)


def _show_times(plan: Plan, seconds: dict[str, list[float]]) -> dict[str, Any]:
    figures: dict[str, Any] = {"images": plan.images}
    print(f"{plan.images:,} images of {WIDTH} x {HEIGHT}, {OBJECTS} objects each; median of {plan.rounds} rounds")
    print(f"{'':<16}{'seconds':>9}{'lowest':>9}{'highest':>9}{'img/s':>12}")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"{name:<16}{median:>9.2f}{min(values):>9.2f}{max(values):>9.2f}{plan.images / median:>12.0f}")
        figures[f"{name.replace(', ', '_')}_s"] = round(median, 3)
    return figures


def measure_memory(folder: Path, plan: Plan) -> dict[str, Any]:
    """Highest resident set of an import of each size, in MiB."""
    peaks = []
    for count in plan.memory:
        source = draw_set(folder / "memory", count, outlined=True)
        peaks.append(run_child("import", source)["peak_mib"])
        shutil.rmtree(source)
    small, large = plan.memory
    print(f"\nmemory: {peaks[0]:.0f} MiB for {small:,} images, {peaks[1]:.0f} MiB for {large:,}")
    growth_kib = (peaks[1] - peaks[0]) * 1024 / (large - small)
    print(f"growth: {peaks[1] - peaks[0]:.0f} MiB, {growth_kib:.1f} KiB an image")
    return {"peak_small_mib": round(peaks[0]), "peak_large_mib": round(peaks[1]), "growth_kib": round(growth_kib, 1)}


def measure_large(folder: Path) -> dict[str, Any]:
    """Highest resident set, in MiB, and seconds of an import of a COCO file of 500 MB."""
    source, objects = draw_large_set(folder / "large")
    found = run_child("import", source)
    size_mb = (source / "annotations.json").stat().st_size / 1e6
    print(f"{size_mb:.0f} MB of COCO JSON, {objects:,} objects: {found['peak_mib']:.0f} MiB, {found['seconds']:.0f} s")
    return {"large_mb": round(size_mb), "peak_mib": round(found["peak_mib"]), "seconds": round(found["seconds"], 1)}


def run_child(contender: str, source: Path) -> dict[str, float]:
    command = [sys.executable, str(Path(__file__)), "--child", contender, str(source)]
    result = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    found: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return found


# The set


def draw_set(folder: Path, count: int, *, outlined: bool) -> Path:
    """train/ and val/ (a fifth) with _annotations.coco.json in each."""
    rng = np.random.default_rng(0)
    content: dict[str, dict[str, list[Any]]] = {}
    for number in range(count):
        split = "val" if number % 5 == 4 else "train"
        part = content.setdefault(split, {"images": [], "annotations": [], "categories": _categories()})
        name = f"{number:06}.jpg"
        (folder / split).mkdir(parents=True, exist_ok=True)
        _draw_image(rng, folder / split / name)
        part["images"].append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
        part["annotations"] += [_draw_object(rng, number, index, outlined) for index in range(OBJECTS)]
    for split, part in content.items():
        (folder / split / "_annotations.coco.json").write_text(json.dumps(part))
    return folder


def draw_large_set(folder: Path) -> tuple[Path, int]:
    """(images/ of 64 x 48 pixels with an annotations.json of 500 MB, the number of its objects)"""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    images = []
    for number in range(LARGE_IMAGES):
        name = f"{number:06}.jpg"
        pixels = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 48)).save(folder / "images" / name, quality=60)
        images.append({"id": number, "file_name": name, "width": 64, "height": 48})
    objects = 0
    with (folder / "annotations.json").open("w") as file:
        file.write(f'{{"images": {json.dumps(images)}, "categories": {json.dumps(_categories())}, "annotations": [')
        while file.tell() < LARGE_BYTES:
            points = (rng.uniform(0.05, 0.95, (int(rng.integers(15, 40)), 2)) * [64, 48]).round(2)
            (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
            entry = {
                "id": objects,
                "image_id": objects % LARGE_IMAGES,
                "category_id": objects % CLASSES + 1,
                "bbox": [left, top, round(right - left, 2), round(bottom - top, 2)],
                "area": round((right - left) * (bottom - top), 4),
                "iscrowd": 0,
                "segmentation": [points.ravel().tolist()],
            }
            file.write((", " if objects else "") + json.dumps(entry))
            objects += 1
        file.write("]}")
    return folder, objects


def _categories() -> list[dict[str, Any]]:
    return [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)]


def _draw_image(rng: np.random.Generator, path: Path) -> None:
    coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(path, quality=85)


def _draw_object(rng: np.random.Generator, image: int, index: int, outlined: bool) -> dict[str, Any]:
    radius = rng.uniform(10, 100)
    x, y = rng.uniform(radius, WIDTH - radius), rng.uniform(radius, HEIGHT - radius)
    angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    radii = radius * rng.uniform(0.6, 1.0, CORNERS)
    points = np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)], axis=1).round(2)
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return {
        "id": image * OBJECTS + index + 1,
        "image_id": image,
        "category_id": int(rng.integers(1, CLASSES + 1)),
        "bbox": [left, top, right - left, bottom - top],
        "area": radius**2,
        "iscrowd": 0,
        "segmentation": [points.ravel().tolist()] if outlined else [],
    }


# What is compared, each in a process of its own


def import_set(source: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="cvstudio-bench-data-") as folder:
        os.environ.update(DATA_DIR=folder, DJANGO_SETTINGS_MODULE="cvstudio.settings", LOG_LEVEL="WARNING")
        os.environ.update(DATABASE_URL="", REDIS_URL="")
        import django

        django.setup()
        from django.contrib.auth.models import User
        from django.core.management import call_command

        from trainingapp.datasets.importing.importer import run_import
        from trainingapp.models import Dataset

        call_command("migrate", verbosity=0)
        owner = User.objects.create_superuser("bench")
        dataset = Dataset.objects.create(name="bench", owner=owner, source=str(source))
        began = time.perf_counter()
        run_import(dataset)
        seconds = time.perf_counter() - began
        assert dataset.status == Dataset.Status.READY, dataset.report[:3]
    return {"seconds": seconds, "peak_mib": peak_mib()}


def read_with_pycocotools(source: Path) -> dict[str, float]:
    from pycocotools.coco import COCO

    began = time.perf_counter()
    for split in ("train", "val"):
        reader = COCO(str(source / split / "_annotations.coco.json"))
        for image in reader.loadImgs(reader.getImgIds()):
            with Image.open(source / split / image["file_name"]) as opened:
                opened.convert("RGB")
            for entry in reader.loadAnns(reader.getAnnIds(imgIds=image["id"])):
                reader.annToMask(entry)
    return {"seconds": time.perf_counter() - began, "peak_mib": peak_mib()}


def read_with_torchvision(source: Path) -> dict[str, float]:
    from torchvision.datasets import CocoDetection

    began = time.perf_counter()
    for split in ("train", "val"):
        for _image, _target in CocoDetection(str(source / split), str(source / split / "_annotations.coco.json")):
            pass
    return {"seconds": time.perf_counter() - began, "peak_mib": peak_mib()}


CONTENDERS: dict[str, Callable[[Path], dict[str, float]]] = {
    "import": import_set,
    "pycocotools": read_with_pycocotools,
    "torchvision": read_with_torchvision,
}


def peak_mib() -> float:
    """The highest resident set of this process so far."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
