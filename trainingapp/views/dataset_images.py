"""The images of a dataset: pages of thumbnails, a single large image, and the annotations drawn over them."""

from collections import Counter
from typing import TypedDict

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from trainingapp.contract.class_colours import class_colour
from trainingapp.contract.dataset_index import Sample
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.datasets.previews import (
    IMAGES_DIR,
    MASKS_DIR,
    SIZES,
    UNKNOWN_COLOUR,
    can_filter_by_class,
    image_page,
    mask_overlay,
    mask_shares,
    thumbnail,
)
from trainingapp.models import Dataset
from trainingapp.views.access import visible_dataset

IMAGES_ON_A_PAGE = 60
LARGE_PIXELS = 1280
#: Boxes drawn on a thumbnail; more would hide the image.
BOXES_ON_A_SMALL_IMAGE = 60
CLASSES_IN_THE_LEGEND = 24
#: Up to this size an image is enlarged without interpolation.
TINY_PIXELS = 128


class DrawnBox(TypedDict):
    """A box in pixels. Lengths are strings, so that no language formats them with a decimal comma."""

    place: str
    name: str
    colour: str
    crowd: bool
    x: str
    y: str
    w: str
    h: str
    size: str


def images_context(request: HttpRequest, dataset: Dataset) -> dict[str, object]:
    """The context of _images.html: one page of the images that match the filter."""
    split, label = _filter(request.GET, dataset)
    number = request.GET.get("page", "1")
    page_number = max(1, int(number)) if number.isdecimal() and len(number) < 10 else 1
    offset = (page_number - 1) * IMAGES_ON_A_PAGE
    found = image_page(dataset, split=split, label=label, offset=offset, limit=IMAGES_ON_A_PAGE)
    page = Paginator(range(found.total), IMAGES_ON_A_PAGE).get_page(page_number)
    with_legend = _annotations(dataset) & {"boxes", "masks"}
    return {
        "images": [
            {
                "sample": sample,
                "caption": _caption(dataset, sample),
                "boxes": _boxes(dataset, sample, BOXES_ON_A_SMALL_IMAGE),
                "address": _view_address(dataset, place, split, label),
                "tiny": max(sample.width, sample.height) <= TINY_PIXELS,
            }
            for place, sample in enumerate(found.images, start=offset + 1)
        ],
        "page": page,
        "split": split or "",
        "label": label,
        "by_class": can_filter_by_class(dataset),
        "legend": [
            {"name": name, "colour": class_colour(number)}
            for number, name in enumerate(dataset.classes[:CLASSES_IN_THE_LEGEND])
            if with_legend
        ],
    }


def _annotations(dataset: Dataset) -> set[str]:
    """The kinds of annotations that the dataset has, as far as the tasks that it suffices for tell."""
    return {TASKS[name].annotation for name in dataset.tasks if name in TASKS}


def lacks_outlines(dataset: Dataset) -> bool:
    """Whether the dataset was imported with outlines by a version that stored them as boxes and one mask alone."""
    found = _annotations(dataset)
    return {"boxes", "masks"} <= found and "outlines" not in found


def _filter(query: QueryDict, dataset: Dataset) -> tuple[str | None, int | None]:
    """Split and class in the query; invalid values count as all."""
    split, label = query.get("split"), query.get("class", "")
    known = label.isdecimal() and len(label) < 10 and int(label) < len(dataset.classes)
    return split if split in ("train", "val") else None, int(label) if known else None


def _caption(dataset: Dataset, sample: Sample) -> str:
    """The known classes of the image, with the number of objects where there are several."""
    if sample.label >= 0 or sample.labels is not None:
        return _own_classes(dataset, sample)
    counts = Counter(dataset.classes[box.label] for box in sample.boxes)
    if counts:
        return ", ".join(f"{name} × {count}" if count > 1 else name for name, count in counts.items())
    return _("no objects") if "boxes" in _annotations(dataset) else sample.path.rsplit("/", 1)[-1]


def _own_classes(dataset: Dataset, sample: Sample) -> str:
    """The names of the labels of the image itself; empty where it is not known to have any."""
    if sample.labels is not None:
        return ", ".join(dataset.classes[label] for label in sample.labels) or _("no labels")
    return str(dataset.classes[sample.label]) if sample.label >= 0 else ""


def _boxes(dataset: Dataset, sample: Sample, most: int | None = None) -> list[DrawnBox]:
    """Boxes as _boxes.html draws them."""
    drawn: list[DrawnBox] = []
    for place, box in enumerate(sample.boxes[:most], start=1):
        width, height = box.right - box.left, box.bottom - box.top
        drawn.append(
            {
                "place": str(place),
                "name": dataset.classes[box.label],
                "colour": class_colour(box.label),
                "crowd": box.crowd,
                "x": f"{box.left:.8g}",
                "y": f"{box.top:.8g}",
                "w": f"{width:.8g}",
                "h": f"{height:.8g}",
                "size": f"{width:.0f} × {height:.0f}",
            }
        )
    return drawn


def _query(split: str | None, label: int | None, page: int = 1) -> str:
    query = QueryDict(mutable=True)
    values = {"split": split, "class": label, "page": page if page > 1 else None}
    query.update({name: str(value) for name, value in values.items() if value is not None})
    return f"?{query.urlencode()}" if query else ""


def _view_address(dataset: Dataset, place: int, split: str | None, label: int | None) -> str:
    return reverse("dataset_view", args=[dataset.pk, place]) + _query(split, label)


@require_safe
def dataset_view(request: HttpRequest, pk: int, place: int) -> HttpResponse:
    """One large image, number `place` of those that match the filter, with the names of its objects."""
    dataset = visible_dataset(request, pk, status=Dataset.Status.READY)
    split, label = _filter(request.GET, dataset)
    if place < 1:
        raise Http404
    found = image_page(dataset, split=split, label=label, offset=place - 1, limit=1)
    if not found.images:
        raise Http404
    [sample] = found.images
    context = {
        "section": "datasets",
        "dataset": dataset,
        "sample": sample,
        "place": place,
        "total": found.total,
        "class_name": _own_classes(dataset, sample),
        "filtered_class": dataset.classes[label] if label is not None else "",
        "split": split,
        "boxes": _boxes(dataset, sample),
        "areas": _areas(dataset, sample),
        "tiny": max(sample.width, sample.height) <= TINY_PIXELS,
        "text_size": f"{max(sample.width, sample.height) / 45:.4g}",
        "large": LARGE_PIXELS,
        "back": dataset.get_absolute_url() + _query(split, label, (place - 1) // IMAGES_ON_A_PAGE + 1),
        "previous": _view_address(dataset, place - 1, split, label) if place > 1 else "",
        "next": _view_address(dataset, place + 1, split, label) if place < found.total else "",
    }
    return render(request, "datasets/view.html", context)


def _areas(dataset: Dataset, sample: Sample) -> list[dict[str, str | float]]:
    """The classes of the mask with their share of the area of the image, the largest first."""
    if not sample.mask:
        return []
    return [
        {
            "name": _("unknown") if label is None else dataset.classes[label],
            "colour": UNKNOWN_COLOUR if label is None else class_colour(label),
            "share": share,
        }
        for label, share in mask_shares(dataset, sample.mask).items()
        if label is None or label < len(dataset.classes)
    ]


@require_safe
@cache_control(private=True, max_age=86_400, immutable=True)
def dataset_image(request: HttpRequest, pk: int, path: str) -> HttpResponse:
    """A thumbnail, or the overlay of a mask, of ?size= pixels. It is cached, as the files of a dataset never change."""
    dataset = visible_dataset(request, pk, status=Dataset.Status.READY)
    size = request.GET.get("size", "160")
    make = {IMAGES_DIR: thumbnail, MASKS_DIR: mask_overlay}.get(path.partition("/")[0])
    if make is None or size not in map(str, SIZES):
        raise Http404
    try:
        return HttpResponse(make(dataset, path, int(size)).read_bytes(), content_type="image/webp")
    except FileNotFoundError:
        raise Http404 from None
