"""Which prediction is to find which object, where each object is found once (Carion et al., arXiv:2005.12872).

The Hungarian algorithm runs on the CPU: all costs of a step are copied there in one go, so that the host waits for the
device once.

Legend: S sets of predictions that are matched independently (layers of the decoder), N images, Q queries, M objects
(padded), P pairs (padded), C classes; a box is x and y of its center, width and height, in shares of the image.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchvision.ops import box_convert

from trainingapp.engine.tasks.detection.losses.boxes import generalized_iou_losses
from trainingapp.engine.tasks.detection.losses.targets import PaddedTargets

ALPHA, GAMMA = 0.25, 2.0
CLASS_COST, DISTANCE_COST, IOU_COST = 2.0, 5.0, 2.0
"""Of RT-DETR, D-FINE and RF-DETR alike."""

SMALLEST_AREA = 1e-12
"""Added to divisors; in shares of the image, objects have areas around 1e-4."""

PairList = list[tuple[int, int]]
"""(query, object) of an image."""


@dataclass(frozen=True)
class SetTargets:
    """The objects of a batch, padded: boxes float32 [N, M, 4], labels int64 [N, M] (0 for padding), and `counts`."""

    boxes_NM4: torch.Tensor
    labels_NM: torch.Tensor
    counts: tuple[int, ...]

    @classmethod
    def of(cls, targets: PaddedTargets, image_size: int) -> "SetTargets":
        boxes_NM4 = box_convert(targets.boxes_NM4 / image_size, "xyxy", "cxcywh")
        return cls(boxes_NM4, torch.where(targets.is_object_NM, targets.labels_NM, 0), targets.counts)

    def repeated(self, times: int) -> "SetTargets":
        """The objects of each image `times` times, one after the other, as if there were so many images."""
        boxes, labels = (part.repeat_interleave(times, dim=0) for part in (self.boxes_NM4, self.labels_NM))
        return SetTargets(boxes, labels, tuple(count for count in self.counts for _turn in range(times)))

    @property
    def object_count(self) -> int:
        """Objects of the batch, at least one."""
        return max(1, sum(self.counts))


@dataclass(frozen=True)
class Pairs:
    """Queries with the objects that they are to find: int64 [S, N, P], `is_pair_SNP` false for padding.

    `count` divides sums over the pairs. Where S is 1, the pairs hold for each set.
    """

    queries_SNP: torch.Tensor
    objects_SNP: torch.Tensor
    is_pair_SNP: torch.Tensor
    count: int

    @classmethod
    def of(cls, lists: Sequence[Sequence[PairList]], count: int, device: torch.device) -> "Pairs":
        """From the pairs of each image in each set."""
        most = max((len(pairs) for images in lists for pairs in images), default=0)
        packed = np.full((3, len(lists), len(lists[0]), max(1, most)), 0, dtype=np.int64)
        for number, images in enumerate(lists):
            for place, pairs in enumerate(images):
                if pairs:
                    packed[:2, number, place, : len(pairs)] = np.array(pairs).T
                    packed[2, number, place, : len(pairs)] = 1
        tensors = torch.from_numpy(packed)
        if device.type == "cuda":
            tensors = tensors.pin_memory()  # so that the host does not wait
        queries, objects, is_pair = tensors.to(device, non_blocking=True)
        return cls(queries, objects, is_pair.bool(), max(1, count))

    def for_sets(self, count: int) -> "Pairs":
        """The same pairs for each of `count` sets."""
        queries, objects, is_pair = (part.expand(count, -1, -1) for part in self._parts)
        return Pairs(queries, objects, is_pair, self.count)

    def first_sets(self, count: int) -> "Pairs":
        """The pairs of the first `count` sets."""
        queries, objects, is_pair = (part[:count] for part in self._parts)
        return Pairs(queries, objects, is_pair, self.count)

    @property
    def _parts(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.queries_SNP, self.objects_SNP, self.is_pair_SNP

    def of_queries(self, values_SNQ: torch.Tensor) -> torch.Tensor:
        """[S, N, P, ...] of [S, N, Q, ...]: the values of the queries."""
        index = self.queries_SNP.view(*self.queries_SNP.shape, *(1,) * (values_SNQ.dim() - 3))
        return values_SNQ.gather(2, index.expand(-1, -1, -1, *values_SNQ.shape[3:]))

    def boxes(self, targets: SetTargets) -> torch.Tensor:
        """[S, N, P, 4]: the boxes of the objects."""
        boxes_SNM4 = targets.boxes_NM4.expand(len(self.objects_SNP), -1, -1, -1)
        return boxes_SNM4.gather(2, self.objects_SNP[..., None].expand(-1, -1, -1, 4))

    def labels(self, targets: SetTargets) -> torch.Tensor:
        """int64 [S, N, P]: their classes."""
        return targets.labels_NM.expand(len(self.objects_SNP), -1, -1).gather(2, self.objects_SNP)

    def at_queries(self, values_SNP: torch.Tensor, query_count: int) -> torch.Tensor:
        """[S, N, Q]: the value of the pair of each query; 0 where a query is in no pair."""
        places = torch.where(self.is_pair_SNP, self.queries_SNP, query_count)  # padding goes behind the last query
        zeros = values_SNP.new_zeros(*values_SNP.shape[:2], query_count + 1)
        return zeros.scatter(2, places, values_SNP)[..., :query_count]


def corners(boxes: torch.Tensor) -> torch.Tensor:
    """[.., 4] xyxy of boxes [.., 4]."""
    center, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([center - 0.5 * size, center + 0.5 * size], dim=-1)


@torch.no_grad()
def matching_costs(logits_SNQC: torch.Tensor, boxes_SNQ4: torch.Tensor, targets: SetTargets) -> torch.Tensor:
    """float32 [S, N, Q, M]: what it costs that a query finds an object. Large where it is not finite."""
    labels_NQM = targets.labels_NM[:, None].expand(-1, logits_SNQC.shape[2], -1)
    scores = logits_SNQC.gather(3, labels_NQM.expand(len(logits_SNQC), -1, -1, -1)).sigmoid()
    negative = (1 - ALPHA) * scores**GAMMA * -(1 - scores + 1e-8).log()
    positive = ALPHA * (1 - scores) ** GAMMA * -(scores + 1e-8).log()
    boxes_1NM4 = targets.boxes_NM4[None].expand(len(boxes_SNQ4), -1, -1, -1)
    distances = torch.cdist(boxes_SNQ4, boxes_1NM4, p=1)
    overlap_losses = generalized_iou_losses(
        corners(boxes_SNQ4)[:, :, :, None], corners(boxes_1NM4)[:, :, None], SMALLEST_AREA
    )
    costs = CLASS_COST * (positive - negative) + DISTANCE_COST * distances + IOU_COST * overlap_losses
    most = torch.finfo(costs.dtype).max
    return costs.nan_to_num(nan=most, posinf=most, neginf=most)


def matched_lists(logits_SNQC: torch.Tensor, boxes_SNQ4: torch.Tensor, targets: SetTargets) -> list[list[PairList]]:
    """The cheapest pairs of each image in each set, by rising query. Waits once for the device."""
    from scipy.optimize import linear_sum_assignment

    costs = matching_costs(logits_SNQC, boxes_SNQ4, targets).cpu().numpy()
    return [
        [
            list(zip(*(part.tolist() for part in linear_sum_assignment(image[:, :count])), strict=True))
            for image, count in zip(images, targets.counts, strict=True)
        ]
        for images in costs
    ]


def united(lists: Sequence[Sequence[PairList]]) -> list[PairList]:
    """The pairs of all sets, where each query keeps the object that it was given most often.

    Peng et al., arXiv:2410.13842, section 4.2. Of objects given equally often, the first is kept.
    """
    found = []
    for images in zip(*lists, strict=True):
        times = Counter(pair for pairs in images for pair in pairs)
        chosen: dict[int, int] = {}
        for query, number in sorted(times, key=lambda pair: (-times[pair], pair)):
            chosen.setdefault(query, number)
        found.append(sorted(chosen.items()))
    return found
