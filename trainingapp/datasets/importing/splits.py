"""Selection of the images for validation."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable

from trainingapp.contract.dataset_index import Split

VAL_SHARE = 0.2
_POOL = -2
"""The group that collects all groups too small to divide."""


def choose_val(digests_by_index: Iterable[tuple[int, str]], seed: int = 0, share: float = VAL_SHARE) -> set[int]:
    """Indices of one class's images for validation: the given share, and at least one if there are two or more images.

    The selection depends only on the seed and the content of the images, not on names or order. Identical images are
    assigned to the same split.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for index, digest in digests_by_index:
        groups[digest].append(index)
    ranked = sorted(groups, key=lambda digest: hashlib.sha256(f"{seed} {digest}".encode()).digest())
    wanted = max(1, round(share * sum(map(len, groups.values()))))
    chosen: set[int] = set()
    for digest in ranked[1:]:  # the first group always stays in training
        if len(chosen) >= wanted:
            break
        chosen.update(groups[digest])
    return chosen


def stratified(
    digests: list[str], classes: list[frozenset[int]], seed: int, share: float, *, pool_rare: bool
) -> list[Split]:
    """The split of each image, chosen so that about the same share of every class is used for validation.

    An image with several classes counts for the rarest of them, as in iterative stratification (Sechidis et al., On the
    Stratification of Multi-Label Data, ECML PKDD 2011); images without classes form a separate group. Images with the
    same digest stay together. With `pool_rare`, groups that are too small to divide are merged and divided as one.
    """
    shown = Counter(label for labels in classes for label in labels)
    group_of: dict[str, int] = {}
    for digest, labels in zip(digests, classes, strict=True):
        rarest = min(labels, key=lambda label: (shown[label], label), default=-1)
        group_of[digest] = max(rarest, group_of.get(digest, -1))
    sizes = Counter(group_of.values())
    by_group: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for index, digest in enumerate(digests):
        group = group_of[digest]
        by_group[_POOL if pool_rare and sizes[group] < 2 else group].append((index, digest))
    val = set[int]().union(*(choose_val(group, seed, share) for group in by_group.values()))
    return ["val" if index in val else "train" for index in range(len(digests))]
