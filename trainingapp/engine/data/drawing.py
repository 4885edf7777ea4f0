"""Images for pages: a training batch after augmentation, with its annotations."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from trainingapp.contract.class_colours import class_rgb

BATCH_IMAGES_DRAWN = 16
"""The largest number of images of a batch that a sheet shows."""

SHOWN_SIDE = 192
"""The least side of an image on a sheet, in pixels: smaller images are enlarged without smoothing."""


def enlarged(image_CHW: torch.Tensor) -> tuple[Image.Image, int]:
    """uint8 [3, H, W] as an image whose longer side has at least SHOWN_SIDE pixels, and the integer scale factor."""
    image = Image.fromarray(image_CHW.permute(1, 2, 0).contiguous().numpy())
    factor = max(1, -(-SHOWN_SIDE // max(image.size)))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST), factor


def image_with_caption(image_CHW: torch.Tensor, caption: str) -> Image.Image:
    """uint8 [3, H, W] as an image with a line of text at the bottom."""
    image, _factor = enlarged(image_CHW)
    draw = ImageDraw.Draw(image, "RGBA")
    font = ImageFont.load_default(12)
    draw.rectangle((0, image.height - 18, image.width, image.height), fill=(0, 0, 0, 150))
    draw.text((4, image.height - 16), caption, fill=(255, 255, 255), font=font)
    return image


def image_with_boxes(
    image_CHW: torch.Tensor, boxes_xyxy: torch.Tensor, labels_N: torch.Tensor, classes: Sequence[str]
) -> Image.Image:
    """uint8 [3, H, W] as an image with boxes [N, 4] (xyxy, in pixels) and the names of their classes."""
    image, factor = enlarged(image_CHW)
    _draw_boxes(image, boxes_xyxy * factor, labels_N, classes)
    return image


def image_with_objects(
    image_CHW: torch.Tensor,
    boxes_xyxy: torch.Tensor,
    labels_N: torch.Tensor,
    masks_NHW: torch.Tensor,
    classes: Sequence[str],
) -> Image.Image:
    """The same with half transparent masks, uint8 [N, H, W], 1 where the object is."""
    image, factor = enlarged(image_CHW)
    layer = np.zeros((*image_CHW.shape[-2:], 4), dtype=np.uint8)
    for label, mask_HW in zip(labels_N.tolist(), masks_NHW, strict=True):
        layer[mask_HW.numpy() > 0] = (*class_rgb(label), 130)
    masks = Image.fromarray(layer).resize(image.size, Image.Resampling.NEAREST)
    image = Image.alpha_composite(image.convert("RGBA"), masks).convert("RGB")
    _draw_boxes(image, boxes_xyxy * factor, labels_N, classes)
    return image


def _draw_boxes(image: Image.Image, boxes_xyxy: torch.Tensor, labels_N: torch.Tensor, classes: Sequence[str]) -> None:
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(11)
    for box, label in zip(boxes_xyxy.tolist(), labels_N.tolist(), strict=True):
        draw.rectangle(tuple(box), outline=class_rgb(label), width=2)
        draw.text(
            (box[0] + 3, box[1] + 1),
            classes[label],
            fill=class_rgb(label),
            font=font,
            stroke_width=1,
            stroke_fill=(0, 0, 0),
        )


def image_with_mask(image_CHW: torch.Tensor, mask_HW: torch.Tensor) -> Image.Image:
    """uint8 [3, H, W] as an image with a half transparent mask, uint8 [H, W] with i + 1 for classes[i]; ignored pixels
    are darkened."""
    image, factor = enlarged(image_CHW)
    mask_HW = mask_HW.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    layer = np.zeros((*mask_HW.shape, 4), dtype=np.uint8)
    values_HW = mask_HW.numpy()
    for value in np.unique(values_HW).tolist():
        if value:
            layer[values_HW == value] = (0, 0, 0, 110) if value == 255 else (*class_rgb(value - 1), 130)
    return Image.alpha_composite(image.convert("RGBA"), Image.fromarray(layer)).convert("RGB")


def contact_sheet(images: Sequence[Image.Image], columns: int = 4) -> Image.Image:
    """The images (at least one) in rows of `columns`, with a gap of 4 pixels between them."""
    gap, width, height = 4, max(one.width for one in images), max(one.height for one in images)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), (128, 128, 128))
    for number, one in enumerate(images):
        sheet.paste(one, (number % columns * (width + gap), number // columns * (height + gap)))
    return sheet
