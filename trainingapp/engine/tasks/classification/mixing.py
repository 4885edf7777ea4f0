"""Mixup and CutMix: training images mixed in pairs, within a batch.

The choice is drawn where the batch is made; the pixels are mixed on the device, as floats.
"""

from dataclasses import dataclass
from typing import Literal

import torch


@dataclass(frozen=True)
class Mix:
    """Image i is mixed with image i - 1 (the first with the last), of which it keeps the share `keep`.

    Mixup blends them. CutMix pastes a rectangle of the other: `box_xyxy`, as shares of the side.
    """

    kind: Literal["mixup", "cutmix"]
    keep: float
    box_xyxy: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


def draw_mix(mixup_alpha: float, cutmix_alpha: float) -> Mix | None:
    """A choice drawn on torch's global CPU generator: one of the two at even odds where both are on.

    Mixup: Zhang et al., arXiv:1710.09412. CutMix: Yun et al., arXiv:1905.04899. The share is Beta(alpha, alpha).
    """
    alphas = {"mixup": mixup_alpha, "cutmix": cutmix_alpha}
    kinds = [kind for kind, alpha in alphas.items() if alpha > 0]
    if not kinds:
        return None
    kind = kinds[int(torch.randint(len(kinds), ()).item())]
    keep = float(torch.distributions.Beta(alphas[kind], alphas[kind]).sample().item())
    if kind == "mixup":
        return Mix("mixup", keep)
    # A rectangle of the share 1 - keep around a random point, clipped to the image: it may keep more than was drawn.
    half = (1 - keep) ** 0.5 / 2
    x, y = torch.rand(2).tolist()
    left, top, right, bottom = max(0.0, x - half), max(0.0, y - half), min(1.0, x + half), min(1.0, y + half)
    return Mix("cutmix", 1 - (right - left) * (bottom - top), (left, top, right, bottom))


def mixed(images_NCHW: torch.Tensor, mix: Mix) -> torch.Tensor:
    """The mixed images: float [N, C, H, W] like `images_NCHW`."""
    others_NCHW = images_NCHW.roll(1, 0)
    if mix.kind == "mixup":
        return images_NCHW * mix.keep + others_NCHW * (1 - mix.keep)
    height, width = images_NCHW.shape[2:]
    left, top, right, bottom = mix.box_xyxy
    rows, columns = slice(round(top * height), round(bottom * height)), slice(round(left * width), round(right * width))
    result = images_NCHW.clone()
    result[:, :, rows, columns] = others_NCHW[:, :, rows, columns]
    return result
