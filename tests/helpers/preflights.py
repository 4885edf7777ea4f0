"""Results of a preflight check, for tests of its rendering."""

from typing import Any


def result(**changes: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "device": "cuda:0",
        "accumulation_steps": 1,
        "memory": {"peak_bytes": 10**9, "free_bytes": 8 * 10**9, "fits": True},
        "time": {"seconds_per_epoch": 32.0, "seconds_in_all": 640.0, "images_per_s": 450.0},
        "loader": {"images_per_s": 900.0, "is_slower": False},
        "disk": {
            "bytes_per_checkpoint": 10**8,
            "checkpoints": 4,
            "bytes_in_all": 4 * 10**8,
            "free_bytes": 10**10,
            "short_by_bytes": 0,
        },
        "finite": {"loss": True, "gradients": True, "weights": True, "loss_value": 0.693},
        "warnings": [],
    }
    for name, values_ in changes.items():
        whole[name] = {**whole[name], **values_} if isinstance(whole[name], dict) else values_
    return whole
