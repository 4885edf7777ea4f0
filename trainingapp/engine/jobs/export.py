"""A stored model as a zip for others: params {"card", "weights": path, "formats": [...], "options", "dataset_dir"}.

Each format is checked on images of the dataset, or on drawn ones where `dataset_dir` is empty or gone.
"""

import shutil
from pathlib import Path

import torch

from trainingapp.contract.dataset_index import read_index
from trainingapp.contract.export_options import options_of
from trainingapp.contract.job_request import JobRequest
from trainingapp.engine.device import available_threads
from trainingapp.engine.export import drawn_images, export

IMAGES_CHECKED = 10


def run(request: JobRequest) -> dict[str, object]:
    torch.set_num_threads(max(1, available_threads() // 2))  # beside runs that train
    params = request.params
    images, are_drawn = check_images(params.get("dataset_dir", ""), request.folder)
    options = options_of(params.get("options"))
    weights = Path(params["weights"])
    found = export(params["card"], weights, params["formats"], images, request.folder, request.report, options)
    shutil.rmtree(request.folder / "drawn", ignore_errors=True)
    return {**found, "are_drawn": are_drawn}


def check_images(dataset_dir: str, folder: Path) -> tuple[list[Path], bool]:
    """Ten images spread over the validation split, or drawn ones, and whether they are drawn."""
    try:
        index = read_index(Path(dataset_dir)) if dataset_dir else None
    except ValueError:
        index = None
    paths = [index.folder / sample.path for sample in index.split("val")] if index else []
    paths = [path for path in paths if path.is_file()]
    if not paths:
        return drawn_images(folder / "drawn", IMAGES_CHECKED), True
    count = min(IMAGES_CHECKED, len(paths))
    return [paths[number * len(paths) // count] for number in range(count)], False
