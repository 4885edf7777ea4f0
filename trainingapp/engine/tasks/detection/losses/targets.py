"""The objects of a batch of images as tensors of one shape."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.utils.rnn import pad_sequence

NO_OBJECT = -1
"""The label of padding."""


@dataclass(frozen=True)
class PaddedTargets:
    """The objects of N images, padded to the same number M of at least one.

    `boxes_NM4` is float32 xyxy, `labels_NM` int64 in the numbers of the network, `is_object_NM` false for padding;
    `counts` are the objects of each image, numbers of the host.
    """

    boxes_NM4: torch.Tensor
    labels_NM: torch.Tensor
    is_object_NM: torch.Tensor
    counts: tuple[int, ...]

    @classmethod
    def of(
        cls, boxes_NM4: torch.Tensor, labels_NM: torch.Tensor, counts: Sequence[int], first_label: int
    ) -> "PaddedTargets":
        """From a result of `padded`, whose labels begin with 0; the first class has the number `first_label`."""
        return cls(boxes_NM4, labels_NM + first_label, labels_NM != NO_OBJECT, tuple(counts))

    def by_image(self) -> list[dict[str, torch.Tensor]]:
        """The same as torchvision takes it: "boxes" [M, 4] and "labels" [M] of each image, without padding."""
        return [
            {"boxes": boxes_M4[:count], "labels": labels_M[:count]}
            for boxes_M4, labels_M, count in zip(self.boxes_NM4, self.labels_NM, self.counts, strict=True)
        ]

    def labels_of(self, matched_NA: torch.Tensor) -> torch.Tensor:
        """int64 [N, A]: the label of the object with this number; of the first where the number is negative."""
        return self.labels_NM.gather(1, matched_NA.clamp(min=0))

    def boxes_of(self, matched_NA: torch.Tensor) -> torch.Tensor:
        """[N, A, 4]: the same for boxes."""
        return self.boxes_NM4.gather(1, matched_NA.clamp(min=0)[..., None].expand(-1, -1, 4))


def padded(boxes: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """float32 [N, M, 4] and int64 [N, M] from the boxes [.., 4] and labels [..] of each image."""
    boxes_NM4 = pad_sequence(list(boxes), batch_first=True)
    labels_NM = pad_sequence(list(labels), batch_first=True, padding_value=NO_OBJECT)
    if labels_NM.shape[1]:
        return boxes_NM4, labels_NM
    return boxes_NM4.new_zeros(len(boxes), 1, 4), labels_NM.new_full((len(labels), 1), NO_OBJECT)
