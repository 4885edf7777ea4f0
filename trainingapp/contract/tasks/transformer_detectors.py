"""Detectors of the library transformers: what the form and the pages know about them, without the library.

The values of their configurations are in `engine/tasks/detection/transformer_configs.py`.
"""

from pydantic import JsonValue

from trainingapp.contract.architectures import HF, Architecture

FINE_TUNING: dict[str, JsonValue] = {
    "image_size": 640,
    "batch_size": 8,
    "learning_rate": 0.0001,
    "backbone_lr_factor": 0.1,
    "weight_decay": 0.0001,
    "gradient_clip": 0.1,
    "ema_decay": 0.9999,
    "iou_thres": 1.0,
}
"""Of RT-DETRv2 as it was published. What finds each object once needs no suppression: no overlap exceeds 1."""

RF_DETR: dict[str, JsonValue] = FINE_TUNING | {"batch_size": 4, "backbone_lr_factor": 0.5, "ema_decay": 0.993}

TRANSFORMER_DETECTORS: dict[str, Architecture] = {
    "hf/rtdetrv2_r18": Architecture(20_174_608, FINE_TUNING),
    "hf/rtdetrv2_r34": Architecture(31_424_388, FINE_TUNING),
    "hf/rtdetrv2_r50": Architecture(42_891_372, FINE_TUNING | {"batch_size": 4}),
    "hf/dfine_n": Architecture(3_770_421, FINE_TUNING | {"learning_rate": 0.0004, "backbone_lr_factor": 0.5}),
    "hf/dfine_s": Architecture(10_309_605, FINE_TUNING | {"learning_rate": 0.0002, "backbone_lr_factor": 0.5}),
    "hf/dfine_m": Architecture(19_563_368, FINE_TUNING | {"learning_rate": 0.0002}),
    "hf/rfdetr_nano": Architecture(30_466_914, RF_DETR | {"image_size": 384}),
    "hf/rfdetr_small": Architecture(32_110_786, RF_DETR | {"image_size": 512}),
    "hf/rfdetr_medium": Architecture(33_687_074, RF_DETR | {"image_size": 576}),
}
"""RT-DETRv2 (arXiv:2407.17140), D-FINE (arXiv:2410.13842) and RF-DETR (arXiv:2511.09554)."""

assert all(name.startswith(HF) for name in TRANSFORMER_DETECTORS)
