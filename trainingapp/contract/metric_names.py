"""The metrics that tasks give: their names for people, and which way is better (no torch)."""

from dataclasses import dataclass


def _(message: str) -> str:
    return message


@dataclass(frozen=True)
class Metric:
    """`is_share`: from 0 to 1, shown as a percentage."""

    label: str
    higher_is_better: bool = True
    is_share: bool = True


METRICS: dict[str, Metric] = {
    "loss": Metric(_("Loss"), higher_is_better=False, is_share=False),
    "top1": Metric(_("Top-1 accuracy")),
    "top5": Metric(_("Top-5 accuracy")),
    "macro_f1": Metric(_("Macro F1")),
    "ap": Metric(_("AP")),
    "ap50": Metric(_("AP50")),
    "ap75": Metric(_("AP75")),
    "ap_small": Metric(_("AP, small")),
    "ap_medium": Metric(_("AP, medium")),
    "ap_large": Metric(_("AP, large")),
    "ar": Metric(_("Average recall")),
    "f1": Metric(_("F1")),
    "mean_iou": Metric(_("Mean IoU")),
    "dice": Metric(_("Dice")),
    "pixel_accuracy": Metric(_("Pixel accuracy")),
}

BEST_METRICS: dict[str, tuple[str, ...]] = {
    "classification": ("top1", "macro_f1", "top5", "loss"),
    "detection": ("ap", "ap50", "ap75", "f1"),
    "segmentation": ("mean_iou", "dice", "pixel_accuracy", "loss"),
}
"""Those that may decide which checkpoint is best, the task's own choice first."""
