"""The values of the configurations with which the detectors of transformers were published.

They are written here, so that a network can be built without a connection. Where a value is missing, it is the default
of the library's class.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Family = Literal["rtdetrv2", "dfine", "rfdetr"]
Values = Mapping[str, Any]

CLASSES_OF_COCO: dict[Family, int] = {"rtdetrv2": 80, "dfine": 80, "rfdetr": 91}
"""The number of classes of the published weights. RF-DETR has one for each number that COCO gives to a class."""

PRIOR = 0.01
"""The score of a class with which training begins: most queries find no object."""


@dataclass(frozen=True)
class Variant:
    """A network of a family: its values that differ from the defaults of the library, and those of its backbone."""

    family: Family
    values: Values
    backbone: Values

    def with_values(self, values: Values, backbone: Values) -> "Variant":
        """This network with other values."""
        return Variant(self.family, {**self.values, **values}, {**self.backbone, **backbone})


_RT_DETR = Variant("rtdetrv2", {}, {"out_indices": [2, 3, 4]})
_SMALL_RESNET = {"hidden_sizes": [64, 128, 256, 512], "layer_type": "basic"}
_SMALL_RT_DETR = _RT_DETR.with_values(
    {"encoder_in_channels": [128, 256, 512], "hidden_expansion": 0.5, "decoder_layers": 3},
    {**_SMALL_RESNET, "depths": [2, 2, 2, 2]},
)

_SMALL_HGNET = {
    "hidden_sizes": [128, 256, 512, 1024],
    "stem_channels": [3, 16, 16],
    "stage_in_channels": [16, 64, 256, 512],
    "stage_mid_channels": [16, 32, 64, 128],
    "stage_out_channels": [64, 256, 512, 1024],
    "stage_num_blocks": [1, 1, 2, 1],
    "stage_numb_of_layers": [3, 3, 3, 3],
    "use_learnable_affine_block": True,
    "out_indices": [2, 3, 4],
}
_SMALL_D_FINE = Variant(
    "dfine",
    {
        "encoder_in_channels": [256, 512, 1024],
        "hidden_expansion": 0.5,
        "depth_mult": 0.34,
        "decoder_layers": 3,
        "decoder_n_points": [3, 6, 3],
    },
    _SMALL_HGNET,
)

_SMALL_DINO = {
    "hidden_size": 384,
    "num_attention_heads": 6,
    "patch_size": 16,
    "num_windows": 2,
    "image_size": 384,
    "out_features": ["stage3", "stage6", "stage9", "stage12"],
    "use_mask_token": False,  # of the pretraining of DINOv2
}
_RF_DETR = Variant("rfdetr", {"decoder_n_points": 2, "decoder_layers": 2}, _SMALL_DINO)

VARIANTS: dict[str, Variant] = {
    "hf/rtdetrv2_r18": _SMALL_RT_DETR,
    "hf/rtdetrv2_r34": _SMALL_RT_DETR.with_values({"decoder_layers": 4}, {"depths": [3, 4, 6, 3]}),
    "hf/rtdetrv2_r50": _RT_DETR,
    "hf/dfine_n": Variant(
        "dfine",
        {
            "num_feature_levels": 2,
            "feat_strides": [16, 32],
            "encode_proj_layers": [1],
            "encoder_in_channels": [512, 1024],
            "encoder_hidden_dim": 128,
            "encoder_ffn_dim": 512,
            "hidden_expansion": 0.34,
            "depth_mult": 0.5,
            "d_model": 128,
            "decoder_in_channels": [128, 128],
            "decoder_ffn_dim": 512,
            "decoder_n_points": [6, 6],
            "decoder_layers": 3,
        },
        {**_SMALL_HGNET, "out_indices": [3, 4]},
    ),
    "hf/dfine_s": _SMALL_D_FINE,
    "hf/dfine_m": _SMALL_D_FINE.with_values(
        {
            "encoder_in_channels": [384, 768, 1536],
            "hidden_expansion": 1.0,
            "depth_mult": 0.67,
            "decoder_layers": 4,
        },
        {
            "hidden_sizes": [192, 384, 768, 1536],
            "stem_channels": [3, 24, 32],
            "stage_in_channels": [32, 96, 384, 768],
            "stage_mid_channels": [32, 64, 128, 256],
            "stage_out_channels": [96, 384, 768, 1536],
            "stage_num_blocks": [1, 1, 3, 1],
            "stage_numb_of_layers": [4, 4, 4, 4],
        },
    ),
    "hf/rfdetr_nano": _RF_DETR,
    "hf/rfdetr_small": _RF_DETR.with_values({"decoder_layers": 3}, {"image_size": 512}),
    "hf/rfdetr_medium": _RF_DETR.with_values({"decoder_layers": 4}, {"image_size": 576}),
}


def query_count(variant: Variant, image_size: int) -> int:
    """Queries for images of this size: those of the publication, or one for each location where these are fewer."""
    strides = variant.values.get("feat_strides", (8, 16, 32))
    if variant.family == "rfdetr":
        strides = (variant.backbone["patch_size"],)
    locations = sum((image_size // int(stride)) ** 2 for stride in strides)
    return min(int(variant.values.get("num_queries", 300)), locations)


def smallest_step(variant: Variant) -> int:
    """Pixels of which the sides of images must be a multiple."""
    if variant.family == "rfdetr":
        return int(variant.backbone["patch_size"] * variant.backbone["num_windows"])
    return 32


def library_config(variant: Variant, class_count: int, image_size: int, *, frozen_norms: bool) -> Any:
    """The library's configuration of the network for square images of this size."""
    from transformers import (
        DFineConfig,
        HGNetV2Config,
        RfDetrConfig,
        RfDetrDinov2Config,
        RTDetrResNetConfig,
        RTDetrV2Config,
    )

    shared: dict[str, Any] = {"num_labels": class_count, "num_queries": query_count(variant, image_size)}
    if variant.family == "rfdetr":
        values = {**variant.values, **shared}
        values["backbone_config"] = RfDetrDinov2Config(**{**variant.backbone, "image_size": image_size})
        return RfDetrConfig(**values)
    values = {**variant.values, **shared, "initializer_bias_prior_prob": PRIOR}
    values["freeze_backbone_batch_norms"] = frozen_norms
    if variant.family == "rtdetrv2":
        return RTDetrV2Config(backbone_config=RTDetrResNetConfig(**variant.backbone), **values)
    return DFineConfig(backbone_config=HGNetV2Config(**variant.backbone), **values)
