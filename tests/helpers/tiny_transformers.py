"""Detectors of transformers with few parameters, in the place of the smallest network of each family."""

import pytest

from trainingapp.engine.tasks.detection.transformer_configs import VARIANTS, Variant

_DECODER = {
    "d_model": 32,
    "encoder_hidden_dim": 32,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "encoder_in_channels": [16, 32, 32],
    "decoder_in_channels": [32, 32, 32],
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "decoder_layers": 3,
    "hidden_expansion": 0.5,
    "num_denoising": 8,
    "num_queries": 20,
}

TINY = {
    "hf/rtdetrv2_r18": Variant(
        "rtdetrv2",
        _DECODER,
        {
            "embedding_size": 16,
            "hidden_sizes": [16, 16, 32, 32],
            "depths": [1, 1, 1, 1],
            "layer_type": "basic",
            "out_indices": [2, 3, 4],
        },
    ),
    "hf/dfine_n": Variant(
        "dfine",
        {**_DECODER, "depth_mult": 0.34, "decoder_n_points": [2, 3, 2], "lqe_hidden_dim": 8},
        {
            "hidden_sizes": [16, 16, 32, 32],
            "stem_channels": [3, 8, 8],
            "stage_in_channels": [8, 16, 16, 32],
            "stage_mid_channels": [8, 8, 8, 8],
            "stage_out_channels": [16, 16, 32, 32],
            "stage_num_blocks": [1, 1, 1, 1],
            "stage_numb_of_layers": [2, 2, 2, 2],
            "use_learnable_affine_block": True,
            "out_indices": [2, 3, 4],
        },
    ),
    "hf/rfdetr_nano": Variant(
        "rfdetr",
        {
            "d_model": 32,
            "decoder_layers": 2,
            "decoder_ffn_dim": 32,
            "decoder_n_points": 2,
            "decoder_self_attention_heads": 4,
            "decoder_cross_attention_heads": 4,
            "group_detr": 3,
            "num_queries": 10,
        },
        {
            "hidden_size": 32,
            "num_attention_heads": 2,
            "num_hidden_layers": 3,
            "patch_size": 16,
            "num_windows": 2,
            "image_size": 128,
            "out_features": ["stage1", "stage3"],
            "use_mask_token": False,
        },
    ),
}


@pytest.fixture
def tiny_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process the networks of TINY are small."""
    for name, variant in TINY.items():
        monkeypatch.setitem(VARIANTS, name, variant)
