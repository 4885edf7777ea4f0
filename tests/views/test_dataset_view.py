"""The page of a ready dataset: images with boxes and masks, a large view, and statistics."""

import io
import json
import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from PIL import Image

from tests.helpers.annotated_pages import FINGERPRINT, make_scenes
from trainingapp.contract.class_colours import class_colour
from trainingapp.models import Dataset
from trainingapp.views.dataset_figures import figures_context


@pytest.fixture
def scenes(user: User) -> Dataset:
    return make_scenes(user)


def html(response: Any) -> str:
    return str(response.content.decode())


def view(dataset: Dataset, place: int) -> str:
    return reverse("dataset_view", args=[dataset.pk, place])


def lines(dataset: Dataset) -> list[dict[str, Any]]:
    text = (dataset.folder / "samples.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_boxes_and_masks_are_drawn_over_the_images(user_client: Client, scenes: Dataset) -> None:
    page = html(user_client.get(scenes.get_absolute_url()))
    samples = lines(scenes)
    assert page.count('<rect class="box') == sum(len(sample["boxes"]) for sample in samples)
    for sample in samples:
        assert reverse("dataset_image", args=[scenes.pk, sample["mask"]]) in page
    assert f'stroke="{class_colour(samples[0]["boxes"][0][0])}"' in page
    assert "Boxes and masks" in page


def test_a_set_without_boxes_has_no_switch_for_them(user_client: Client, tints: Dataset) -> None:
    page = html(user_client.get(tints.get_absolute_url()))
    assert "Boxes and masks" not in page
    assert 'class="legend"' not in page


def test_the_filter_finds_a_class_in_boxes(user_client: Client, scenes: Dataset) -> None:
    label = 3
    with_it = [s for s in lines(scenes) if s["split"] == "train" and any(box[0] == label for box in s["boxes"])]
    page = html(user_client.get(scenes.get_absolute_url(), {"split": "train", "class": str(label)}))
    assert page.count('class="image"') == len(with_it) > 0
    assert f"{view(scenes, 1)}?split=train&amp;class={label}" in page


def test_the_class_filter_is_not_offered_for_datasets_with_masks_only(user_client: Client, scenes: Dataset) -> None:
    only_masks = [{name: value for name, value in sample.items() if name != "boxes"} for sample in lines(scenes)]
    (scenes.folder / "samples.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in only_masks))
    page = html(user_client.get(scenes.get_absolute_url()))
    assert 'name="class"' not in page
    assert "overlay-mask" in page
    large = html(user_client.get(view(scenes, 1)))
    assert "Area" in large
    assert "show-boxes" not in large


def test_figures_are_drawn(user_client: Client, scenes: Dataset) -> None:
    page = html(user_client.get(scenes.get_absolute_url()))
    for words in ("Objects per image", "Box area (share of the image)", "2.0 %"):
        assert words in page
    assert "style=" not in page
    charts = figures_context(scenes)["histograms"]
    assert [chart["name"] for chart in charts] == ["width", "objects_per_image", "box_area"]
    assert max(int(bar["h"]) for bar in charts[2]["bars"]) == int(charts[2]["height"])


def test_the_figures_come_before_the_images(user_client: Client, scenes: Dataset) -> None:
    page = html(user_client.get(scenes.get_absolute_url()))
    places = [page.index(words) for words in ('id="classes-title"', "Objects per image", 'id="images-title"', "?size=")]
    assert places == sorted(places)


def test_histogram_bins_are_labelled(tints: Dataset) -> None:
    tints.statistics = {
        "histograms": {
            "objects_per_image": {"edges": [0, 1, 2, 3], "counts": [2, 5, 1]},
            "width": {"edges": [100, 150, 200], "counts": [1, 4]},
            "height": {"edges": [96, 97], "counts": [8]},
            "aspect": {"edges": [1.5, 1.5004, 1.501], "counts": [8, 0]},
            "box_area": {"edges": [0.0125, 0.25, 0.5], "counts": [3, 1]},
        }
    }
    charts = {chart["name"]: chart for chart in figures_context(tints)["histograms"]}
    assert [bar["text"] for bar in charts["objects_per_image"]["bars"]] == ["0: 2", "1: 5", "2 or more: 1"]
    assert [bar["text"] for bar in charts["width"]["bars"]] == ["100 – 149: 1", "150 or more: 4"]
    assert [bar["text"] for bar in charts["box_area"]["bars"]] == ["1.3 % – 25 %: 3", "25 % or more: 1"]
    assert (charts["height"]["only"], charts["aspect"]["only"]) == ("96", "1.5")
    assert charts["width"]["ticks"] == ["100", "≥ 150"]


def test_a_dataset_without_statistics_shows_its_counts(user_client: Client, tints: Dataset) -> None:
    page = html(user_client.get(tints.get_absolute_url()))
    assert "Sizes and shapes" not in page
    assert re.search(r'<td class="number"[^>]*>12</td>\s*<td class="number"[^>]*>6</td>', page)


def test_the_large_view_names_the_objects_and_links_to_the_next_image(user_client: Client, scenes: Dataset) -> None:
    sample = lines(scenes)[1]
    page = html(user_client.get(view(scenes, 2)))
    assert sample["path"] in page
    assert f"{reverse('dataset_image', args=[scenes.pk, sample['path']])}?size=1280" in page
    for box in sample["boxes"]:
        assert f">{scenes.classes[box[0]]}</text>" in page
    assert f'rel="prev" href="{view(scenes, 1)}"' in page
    assert f'rel="next" href="{view(scenes, 3)}"' in page
    assert "2 of 16" in page


def test_the_filter_is_kept_in_links(user_client: Client, scenes: Dataset) -> None:
    last = html(user_client.get(view(scenes, 4), {"split": "val"}))
    assert "4 of 4" in last
    assert 'rel="next"' not in last
    assert f'href="{view(scenes, 3)}?split=val"' in last
    assert f'href="{scenes.get_absolute_url()}?split=val"' in last


def test_the_back_link_leads_to_the_same_page_of_the_list(user_client: Client, tints: Dataset, user: User) -> None:
    many = make_scenes(user, "many", images=62, size=16)
    assert f'href="{many.get_absolute_url()}?page=2"' in html(user_client.get(view(many, 61)))
    assert f'href="{tints.get_absolute_url()}"' in html(user_client.get(view(tints, 1)))


@pytest.mark.parametrize("place", [0, 17, 10**12])
def test_there_is_no_image_beyond_the_last(user_client: Client, scenes: Dataset, place: int) -> None:
    assert user_client.get(view(scenes, place)).status_code == 404


@pytest.mark.parametrize("query", [{"split": "x"}, {"class": "99"}, {"class": "-1"}, {"class": "9" * 4000}])
def test_an_invalid_filter_selects_all_images(user_client: Client, scenes: Dataset, query: dict[str, str]) -> None:
    assert "1 of 16" in html(user_client.get(view(scenes, 1), query))


def test_only_a_ready_dataset_is_shown(user_client: Client, scenes: Dataset) -> None:
    Dataset.objects.update(status="importing")
    assert user_client.get(view(scenes, 1)).status_code == 404


def test_the_large_view_is_read_only(user_client: Client, scenes: Dataset) -> None:
    assert user_client.post(view(scenes, 1)).status_code == 405


def test_the_large_view_requires_a_login(client: Client, scenes: Dataset) -> None:
    sample = lines(scenes)[0]
    for address in (view(scenes, 1), reverse("dataset_image", args=[scenes.pk, sample["mask"]])):
        assert client.get(address).headers["Location"].startswith("/login/")


def test_a_mask_is_served_as_a_transparent_coloured_image(user_client: Client, scenes: Dataset) -> None:
    sample = lines(scenes)[0]
    response = user_client.get(reverse("dataset_image", args=[scenes.pk, sample["mask"]]), {"size": "96"})
    assert response.headers["Content-Type"] == "image/webp"
    with Image.open(io.BytesIO(response.content)) as image:
        colours = {pixel for _count, pixel in image.convert("RGBA").getcolors() or ()}
    labels = {box[0] for box in sample["boxes"]}
    assert colours == {(0, 0, 0, 0), *((*bytes.fromhex(class_colour(label)[1:]), 255) for label in labels)}


@pytest.mark.parametrize("size", ["1", "161", "100000", "x", "-160", ""])
def test_images_are_served_in_a_few_sizes_only(user_client: Client, scenes: Dataset, size: str) -> None:
    address = reverse("dataset_image", args=[scenes.pk, lines(scenes)[0]["path"]])
    assert user_client.get(address, {"size": size}).status_code == 404
    assert user_client.get(address, {"size": "640"}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "masks/../samples.jsonl",
        "masks/../images/train/0000.jpg",
        "masks/..%2fsamples.jsonl",
        "masks/%2e%2e/samples.jsonl",
        ".thumbs/160/images/train/0000.jpg.webp",
        "masks/",
        "masks//etc/passwd",
    ],
)
def test_no_other_file_is_served(user_client: Client, scenes: Dataset, path: str) -> None:
    assert user_client.get(f"/datasets/{scenes.pk}/images/{path}").status_code == 404


def test_equal_content_is_named_with_a_link_and_stays_when_one_is_deleted(
    user_client: Client, user: User, scenes: Dataset
) -> None:
    report = [{"level": "warning", "code": "same_content", "file": "", "message": "Equal to scenes."}]
    twin = Dataset.objects.create(
        name="twin", owner=user, source="/x", status="ready", fingerprint=FINGERPRINT, classes=["a"], report=report
    )
    scenes.folder.parent.mkdir(exist_ok=True)
    twin.folder.mkdir()
    (twin.folder / "samples.jsonl").touch()
    link = f'<a href="{scenes.get_absolute_url()}">scenes</a>'
    assert link in html(user_client.get(twin.get_absolute_url()))
    assert link in html(user_client.get(reverse("dataset_delete", args=[twin.pk])))
    user_client.post(reverse("dataset_delete", args=[twin.pk]))
    assert user_client.get(view(scenes, 1)).status_code == 200
