"""Predict with an exported network: python predict.py IMAGE ... [--out FOLDER] [--confidence 0.5] [--iou 0.5]

Needs numpy, pillow, and onnxruntime for model.onnx or openvino for model.xml. Reads one of these and model.json beside
it; for each image it prints one line of JSON and, with --out, writes the image with the predictions drawn in. Masks of
objects are COCO's packed run lengths (run_lengths.py). Images of more than 8 bits per channel are converted as in
training where model.json says how (deep_images.py, tiff_bands.py).

Legend: B boxes, C classes; xyxy = left, top, right, bottom in pixels.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

PADDING_GREY = 114
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)
TOP_CLASSES = 5
USUAL_THRESHOLD = 0.5
MOST_CANDIDATES = 1000
COLOURS = ["#e6433c", "#2f9bff", "#35c759", "#ffb000", "#b25cff", "#00c2c7", "#ff6fb5", "#8bd000"]

Floats = NDArray[np.float32]
Card = dict[str, Any]


@dataclass(frozen=True)
class Prepared:
    """An image for the network: float32 [1, 3, S, S], the upright size, and where it lies in the square."""

    image_NCHW: Floats
    width: int
    height: int
    left: int
    top: int
    inner_width: int
    inner_height: int


def opened(
    path: Path, size: int, card: Card, decoding: str = "auto", *, fitted: bool = False
) -> tuple[Image.Image, int, int]:
    """The image, RGB and upright, and its full width and height; a large JPEG is decoded as far as `size` needs."""
    if image := reduced(path, card):
        return rgb(image), *image.size
    with Image.open(path) as image:
        width, height = image.size
        if least := least_decoded(decoding, width, height, size, fitted=fitted):
            image.draft("RGB", least)
        if image.getexif().get(ORIENTATION, 1) in SIDEWAYS:
            width, height = height, width
        return rgb(ImageOps.exif_transpose(image)), width, height


def least_decoded(decoding: str, width: int, height: int, size: int, *, fitted: bool) -> tuple[int, int] | None:
    """The least width and height at which a JPEG of `width` x `height` is decoded for a square of `size`; None where
    every pixel is.

    `decoding` is that of the configuration; `fitted`: the image keeps its aspect ratio.
    """
    if decoding == "full":
        return None
    if decoding != "fast":
        return 2 * size, 2 * size
    scale = size / max(width, height)
    return (math.ceil(width * scale), math.ceil(height * scale)) if fitted else (size, size)


def reduced(path: Path, card: Card) -> Image.Image | None:
    """An image of more than 8 bits or of many bands as the dataset of the model has them, upright; None for others.

    Models without such a dataset, and those of older versions, have no "conversion" in their card.
    """
    if not card.get("conversion"):
        return None
    from trainingapp.contract.deep_images import Conversion, converted

    conversion = Conversion.from_data(card["conversion"])
    return converted(path, conversion) if conversion else None


def rgb(image: Image.Image) -> Image.Image:
    """Transparent parts become white; of 16-bit greys, the upper 8 bits are used."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def prepared(path: Path, card: Card) -> Prepared:
    """The image as the network saw images in training: stretched to the square, or fitted into it with grey padding.

    Raises the errors of PIL for a file that is not a complete image.
    """
    size = int(card["image_size"])
    decoding, fitted = card.get("decoding", "auto"), card["image_fit"] == "letterbox"
    image, width, height = opened(path, size, card, decoding, fitted=fitted)
    new_width = new_height = size
    if fitted:
        inner_width, inner_height = (width, height) if decoding == "fast" else image.size
        scale = size / max(inner_width, inner_height)
        new_width, new_height = max(1, round(inner_width * scale)), max(1, round(inner_height * scale))
    left, top = (size - new_width) // 2, (size - new_height) // 2
    square = Image.new("RGB", (size, size), (PADDING_GREY,) * 3)
    square.paste(image.resize((new_width, new_height), Image.Resampling.BILINEAR), (left, top))
    pixels_CHW = np.asarray(square, dtype=np.float32).transpose(2, 0, 1)
    mean, std = (np.array(card["normalisation"][name], dtype=np.float32)[:, None, None] for name in ("mean", "std"))
    normalised = ((pixels_CHW - 255 * mean) / (255 * std))[None]
    return Prepared(np.ascontiguousarray(normalised), width, height, left, top, new_width, new_height)


def top_classes(probabilities_NC: Floats, limit: int = TOP_CLASSES) -> list[tuple[int, float]]:
    """(class, probability), the most likely first."""
    order = np.argsort(-probabilities_NC[0], kind="stable")[:limit]
    return [(int(label), float(probabilities_NC[0, label])) for label in order]


def likely_classes(
    probabilities_C: Floats | NDArray[np.float64],
    thresholds_C: Sequence[float],
    limit: int = TOP_CLASSES,
) -> list[tuple[int, float]]:
    """(class, probability) of an image that may have several classes, the most likely first: those that reach their
    threshold, and others up to `limit`."""
    chances_C = np.asarray(probabilities_C, dtype=np.float64)
    order = np.argsort(-chances_C, kind="stable")
    kept = [label for place, label in enumerate(order) if place < limit or chances_C[label] >= thresholds_C[label]]
    return [(int(label), float(chances_C[label])) for label in kept]


def thresholds_of(card: Card) -> list[float] | None:
    """The threshold of each class where an image can have several classes, else None."""
    if card.get("label_mode") != "multi":
        return None
    return card.get("thresholds") or [USUAL_THRESHOLD] * len(card["classes"])


def candidates(
    boxes: Floats, scores_BC: Floats, image: Prepared, least: float, limit: int = MOST_CANDIDATES
) -> list[list[float]]:
    """[label, score, left, top, right, bottom] in pixels of the upright image, by descending score, before suppression.

    `boxes` is [B, 4], or [B, C, 4] where each class has its own.
    """
    places, labels = np.nonzero(scores_BC >= least)
    scores = scores_BC[places, labels]
    order = np.argsort(-scores, kind="stable")[:limit]
    places, labels, scores = places[order], labels[order], scores[order]
    return placed(boxes[places] if boxes.ndim == 2 else boxes[places, labels], scores, labels, image)


def placed(boxes_D4: Floats, scores_D: Floats, labels_D: Any, image: Prepared) -> list[list[float]]:
    """Rows of `candidates` for boxes in pixels of the square. Those that are outside of the image are left out."""
    found = boxes_D4.astype(np.float64) - np.array([image.left, image.top] * 2)
    found *= np.array([image.width / image.inner_width, image.height / image.inner_height] * 2)
    found = found.clip(0, np.array([image.width, image.height] * 2))
    kept = ((found[:, 2:] - found[:, :2]) > 0).all(axis=1)
    rows = zip(labels_D[kept].tolist(), scores_D[kept].tolist(), found[kept].tolist(), strict=True)
    return [[label, score, *box] for label, score, box in rows]


def instances(outputs: Sequence[Any], image: Prepared, least: float) -> tuple[list[list[float]], list[str]]:
    """The objects of an image from a network's boxes [D, 4], scores [D], labels [D] and masks [D, side, side].

    Gives rows of `candidates`, and for each the packed run lengths of its mask in the upright image: see
    `run_lengths.py`.
    """
    from trainingapp.contract.run_lengths import encoded

    boxes_D4, scores_D, labels_D, masks_Dmm = outputs
    rows, counts = [], []
    for place in np.flatnonzero(scores_D >= least):
        one = slice(place, place + 1)
        for row in placed(boxes_D4[one], scores_D[one], labels_D[one], image):
            inside_hw, left, top = mask_in_box(masks_Dmm[place], row[2:], image.width, image.height)
            rows.append(row)
            counts.append(encoded(inside_hw, image.height, image.width, left, top))
    return rows, counts


def mask_in_box(
    chances_mm: Floats, box: Sequence[float], width: int, height: int
) -> tuple[NDArray[np.bool_], int, int]:
    """The pixels of an image that an object covers: bool [h, w], and the left and top of that part of the image.

    `chances_mm` are the probabilities within the box (left, top, right, bottom), scaled to it bilinearly; outside of
    the box they are zero.
    """
    left, top = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
    right, bottom = min(width, math.ceil(box[2])), min(height, math.ceil(box[3]))
    framed = np.pad(np.asarray(chances_mm, dtype=np.float32), 1)
    for first, last, low, high in ((top, bottom, box[1], box[3]), (left, right, box[0], box[2])):
        place = (np.arange(first, last) + 0.5 - low) / (high - low) * len(chances_mm) + 0.5
        place = place.clip(0, len(chances_mm) + 1)
        before = np.floor(place).astype(np.int64).clip(max=len(chances_mm))
        share = (place - before).astype(np.float32)[:, None]
        # Rows first; transposed, the columns are the rows.
        framed = ((1 - share) * framed[before] + share * framed[before + 1]).T
    return framed >= USUAL_THRESHOLD, left, top


def rounded(rows: Sequence[list[float]]) -> list[list[float]]:
    """Rows for pages and files: four digits of the score, hundredths of a pixel."""
    return [[row[0], round(row[1], 4), *(round(x, 2) for x in row[2:])] for row in rows]


def suppressed(rows: Sequence[list[float]], iou: float, limit: int) -> list[list[float]]:
    """Non-maximum suppression: of boxes of one class that overlap by more than `iou`, the one with the highest score
    stays. At most `limit` boxes."""
    kept: list[list[float]] = []
    for row in rows:
        if all(row[0] != other[0] or overlap(row, other) <= iou for other in kept):
            kept.append(row)
            if len(kept) == limit:
                break
    return kept


def overlap(one: list[float], other: list[float]) -> float:
    """Intersection over union of two rows of `candidates`."""
    width = min(one[4], other[4]) - max(one[2], other[2])
    height = min(one[5], other[5]) - max(one[3], other[3])
    shared = max(0.0, width) * max(0.0, height)
    areas = [(row[4] - row[2]) * (row[5] - row[3]) for row in (one, other)]
    return shared / max(sum(areas) - shared, 1e-12)


def mask(probabilities_NKHW: Floats, image: Prepared) -> NDArray[np.uint8]:
    """The most likely class of each pixel, 0 for the background, without the padding: [inner_height, inner_width]."""
    right, bottom = image.left + image.inner_width, image.top + image.inner_height
    inner = probabilities_NKHW[0, :, image.top : bottom, image.left : right]
    found: NDArray[np.uint8] = inner.argmax(axis=0).astype(np.uint8)
    return found


def mask_shares(mask_HW: NDArray[np.uint8], classes: Sequence[str]) -> dict[str, float]:
    """The share of the image that each class covers, the largest first, without the background."""
    counts = np.bincount(mask_HW.ravel(), minlength=len(classes) + 1)[1 : len(classes) + 1] / mask_HW.size
    return {classes[label]: round(float(counts[label]), 6) for label in np.argsort(-counts) if counts[label]}


def network_of(folder: Path, runtime: str | None) -> Callable[[Floats], list[Any]]:
    """The network in the folder: its outputs for [N, 3, H, W]. Without `runtime`, model.onnx where it exists."""
    if runtime == "openvino" or (runtime is None and not (folder / "model.onnx").exists()):
        import openvino

        # Some processors compute in bfloat16 by default.
        compiled = openvino.Core().compile_model(folder / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda images_NCHW: list(compiled([images_NCHW]).values())
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    return lambda images_NCHW: list(session.run(None, {"image": images_NCHW}))


def main(arguments: Sequence[str] | None = None) -> int:
    folder = Path(__file__).resolve().parent
    options, card = _options(arguments), json.loads((folder / "model.json").read_text(encoding="utf-8"))
    if options.size is not None:
        if card["export"]["size"] != "dynamic":
            sys.stderr.write(f"--size: this export takes images of {card['image_size']} pixels alone\n")
            return 2
        card["image_size"] = options.size
    network = network_of(folder, options.runtime)
    for path in options.images:
        try:
            image = prepared(path, card)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            sys.stderr.write(f"{path}: cannot be read as an image: {error}\n")
            return 1
        began = time.perf_counter()
        outputs = network(image.image_NCHW)
        milliseconds = round((time.perf_counter() - began) * 1000, 1)
        line, drawn = _found(outputs, card, image, options)
        sys.stdout.write(json.dumps({"image": str(path), "milliseconds": milliseconds, **line}) + "\n")
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            _drawn(path, card, line, drawn).save(options.out / f"{path.stem}.png")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Predict with model.onnx or model.xml.")
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="draw the predictions into PNG files there")
    parser.add_argument("--confidence", type=float, help="confidence threshold of boxes; default: that of model.json")
    parser.add_argument("--iou", type=float, help="NMS IoU threshold; default: that of model.json")
    parser.add_argument("--top", type=int, default=TOP_CLASSES, help="number of classes that are listed")
    parser.add_argument("--size", type=int, help="side of the square, a multiple of 32; for a dynamic size alone")
    parser.add_argument("--runtime", choices=["onnx", "openvino"], help="default: onnx where model.onnx exists")
    return parser.parse_args(arguments)


def _found(
    outputs: Sequence[Any], card: Card, image: Prepared, options: argparse.Namespace
) -> tuple[dict[str, Any], NDArray[np.uint8] | None]:
    """The content of the line, and the mask where the task predicts one."""
    classes: list[str] = card["classes"]
    if thresholds := thresholds_of(card):
        found = likely_classes(outputs[0][0], thresholds, options.top)
        labels = [classes[label] for label, p in found if p >= thresholds[label]]
        return {"labels": labels, "classes": _with_thresholds(found, classes, thresholds)}, None
    if card["prediction"] == "classes":
        top = top_classes(outputs[0], options.top)
        return {"classes": [{"class": classes[label], "probability": round(p, 4)} for label, p in top]}, None
    if card["prediction"] == "mask":
        mask_HW = mask(outputs[0], image)
        return {"shares": mask_shares(mask_HW, classes)}, mask_HW
    confidence = card["confidence"] if options.confidence is None else options.confidence
    if card["prediction"] == "objects":
        found_rows, counts = instances(outputs, image, confidence)
        objects = _objects(rounded(found_rows), classes)
        for one, text in zip(objects, counts, strict=True):
            one["mask"] = {"size": [image.height, image.width], "counts": text}
        return {"boxes": objects}, None
    iou = card["iou"] if options.iou is None else options.iou
    made = card["export"]
    if made["nms"]:
        rows = rounded([row for row in placed(outputs[0], outputs[1], outputs[2], image) if row[1] >= confidence])
    else:
        boxes_of, scores_BC = (part[0] for part in outputs[:2]) if made["batch"] == "dynamic" else outputs[:2]
        rows = rounded(suppressed(candidates(boxes_of, scores_BC, image, confidence), iou, card["max_boxes"]))
    return {"boxes": _objects(rows, classes)}, None


def _objects(rows: list[list[float]], classes: Sequence[str]) -> list[dict[str, Any]]:
    return [{"class": classes[int(row[0])], "confidence": row[1], "box": row[2:]} for row in rows]


def _with_thresholds(
    found: list[tuple[int, float]], classes: Sequence[str], thresholds: Sequence[float]
) -> list[dict[str, Any]]:
    return [
        {"class": classes[label], "probability": round(p, 4), "threshold": round(thresholds[label], 4)}
        for label, p in found
    ]


def _drawn(path: Path, card: Card, line: dict[str, Any], mask_HW: NDArray[np.uint8] | None) -> Image.Image:
    image = reduced(path, card)
    if image is None:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
    image = rgb(image)
    if mask_HW is not None:
        return _with_mask(image, mask_HW)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(max(11, image.height // 30))
    if card["prediction"] == "objects":
        image = _with_objects(image, line["boxes"], card["classes"])
        draw = ImageDraw.Draw(image)
    for box in line.get("boxes", []):
        colour = COLOURS[card["classes"].index(box["class"]) % len(COLOURS)]
        draw.rectangle(tuple(box["box"]), outline=colour, width=max(2, image.height // 200))
        words = f"{box['class']} {box['confidence']:.2f}"
        draw.text(tuple(box["box"][:2]), words, fill=colour, font=font, stroke_width=1, stroke_fill="black")
    if "labels" in line:
        draw.text(
            (4, 4), ", ".join(line["labels"]) or "-", fill="white", font=font, stroke_width=2, stroke_fill="black"
        )
    elif top := line.get("classes"):
        words = f"{top[0]['class']} {top[0]['probability']:.2f}"
        draw.text((4, 4), words, fill="white", font=font, stroke_width=2, stroke_fill="black")
    return image


def _with_objects(image: Image.Image, objects: Sequence[dict[str, Any]], classes: Sequence[str]) -> Image.Image:
    """The image with the mask of each object in the color of its class."""
    from trainingapp.contract.run_lengths import decoded

    layer = np.zeros((image.height, image.width, 4), dtype=np.uint8)
    for one in reversed(objects):  # the most confident one on top
        colour = COLOURS[classes.index(one["class"]) % len(COLOURS)]
        layer[decoded(one["mask"]["counts"], *one["mask"]["size"])] = (*bytes.fromhex(colour[1:]), 140)
    return Image.alpha_composite(image.convert("RGBA"), Image.fromarray(layer)).convert("RGB")


def _with_mask(image: Image.Image, mask_HW: NDArray[np.uint8]) -> Image.Image:
    colours = [(*bytes.fromhex(text[1:]), 140) for text in COLOURS]
    table = np.array([(0, 0, 0, 0), *(colours[label % len(colours)] for label in range(255))], dtype=np.uint8)
    layer = Image.fromarray(table[mask_HW]).resize(image.size, Image.Resampling.NEAREST)
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


if __name__ == "__main__":
    sys.exit(main())
