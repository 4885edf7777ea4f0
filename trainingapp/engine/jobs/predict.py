"""Predict a few images for a page: params {"card", "weights": path, "images": [{"file", "name"}, ...]}.

Reads FOLDER/images. Writes FOLDER/predictions.json (see `predictor.py`; each image with its "name", and with a
"problem" where it cannot be read), FOLDER/shown/{n}.webp for pages, and for masks FOLDER/masks/{n}.png (red: the class,
0 for the background; green: the confidence, 0 to 255) and FOLDER/masks/{n}.webp in colors.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from trainingapp.contract.class_colours import class_rgb
from trainingapp.contract.job_request import JobRequest, write_whole
from trainingapp.contract.messages.engine_jobs import LOADING_NETWORK, NOT_AN_IMAGE, PREDICTING
from trainingapp.contract.model_card import Card
from trainingapp.contract.prediction import opened
from trainingapp.engine.data.images import UNREADABLE
from trainingapp.engine.device import available_threads
from trainingapp.engine.predictor import network_of, predicted

PREDICTIONS_FILE = "predictions.json"
SHOWN_PIXELS = 1280
MASK_ALPHA = 150


def run(request: JobRequest) -> dict[str, object]:
    torch.set_num_threads(max(1, available_threads() // 2))  # beside runs that train
    card, images = request.params["card"], request.params["images"]
    request.report(0, len(images), LOADING_NETWORK())
    network = network_of(card, Path(request.params["weights"]))
    for name in ("shown", "masks"):
        (request.folder / name).mkdir(exist_ok=True)
    found = []
    for number, image in enumerate(images):
        request.report(number, len(images), PREDICTING())
        found.append({"name": image["name"], **_predict_image(request.folder, card, network, image["file"], number)})
    about = {name: card[name] for name in ("name", "version", "task", "classes", "sha256")}
    write_whole(request.folder / PREDICTIONS_FILE, {"weights": about, "images": found})
    request.report(len(images), len(images))
    good = [one for one in found if "problem" not in one]
    took = [one["milliseconds"] for one in good]
    return {
        "images": len(good),
        "problems": len(found) - len(good),
        "milliseconds": sorted(took)[len(took) // 2] if took else 0,
    }


def _predict_image(folder: Path, card: Card, network: nn.Module, file: str, number: int) -> dict[str, object]:
    path = folder / "images" / file
    try:
        found = predicted(network, card, path)
        shown, _width, _height = opened(path, SHOWN_PIXELS // 2, card)
    except UNREADABLE as error:
        message = NOT_AN_IMAGE(error=str(error).replace(str(path), file))
        return {"problem": str(message), "problem_data": message.as_data()}
    shown.thumbnail((SHOWN_PIXELS, SHOWN_PIXELS), reducing_gap=2.0)
    shown.save(folder / "shown" / f"{number}.webp", "WEBP", quality=85, method=2)
    if found.mask_HW is not None and found.sureness_HW is not None:
        both = np.stack([found.mask_HW, found.sureness_HW, np.zeros_like(found.mask_HW)], axis=-1)
        Image.fromarray(both).save(folder / "masks" / f"{number}.png")
        # (256, 4) RGBA by the value of a pixel: 0 is the background, i + 1 class i.
        table = [(0, 0, 0, 0), *((*class_rgb(label), MASK_ALPHA) for label in range(255))]
        colored = Image.fromarray(np.array(table, dtype=np.uint8)[found.mask_HW])
        colored.save(folder / "masks" / f"{number}.webp", "WEBP", lossless=True, method=2)
    return {**found.values, "number": number}
