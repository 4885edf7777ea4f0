"""The evaluation pages of a run, and what they show without an evaluation."""

import csv
import io
import json
import re
from typing import Any
from xml.etree import ElementTree

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from PIL import Image

from tests.helpers.evaluations import annotated, evaluated
from tests.helpers.tiny import make_run
from tests.helpers.world import store_events
from trainingapp.contract.evaluation import ImageScore, evaluation_path
from trainingapp.models import Dataset, TrainingRun
from trainingapp.runs.class_history import spread
from trainingapp.runs.evaluations import Evaluated
from trainingapp.supervision.series_store import supersede


@pytest.fixture
def run(user: User, tints: Dataset) -> TrainingRun:
    """A run on real images, nothing evaluated yet."""
    return make_run(user, tints)


def page(client: Client, run: TrainingRun, part: str = "", **query: Any) -> str:
    headers = {"HX-Request": "true", "HX-Target": part} if part else {}
    response = client.get(reverse("evaluation", args=[run.pk]), query, headers=headers)
    assert response.status_code == 200
    return str(response.content.decode())


def rows(response: Any) -> list[list[str]]:
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/csv")
    assert response.headers["Content-Disposition"].startswith("attachment")
    return list(csv.reader(io.StringIO(response.content.decode())))


def addresses(run: TrainingRun, epoch: int) -> list[str]:
    base = f"/runs/{run.pk}/evaluation/{epoch}"
    tables = [f"{base}/{what}.csv" for what in ("classes", "confusion", "images", "curve-reliability")]
    return [f"{base}.json", f"{base}/images/", f"{base}/reliability.svg", f"{base}/masks/0.webp", *tables]


# The page


def test_before_the_first_validation_the_page_explains_when_it_runs(user_client: Client, run: TrainingRun) -> None:
    assert "It is created by the validation at the end of the first epoch" in page(user_client, run)
    TrainingRun.objects.filter(pk=run.pk).update(status="stopped")
    assert "This run ended before its first validation." in page(user_client, run)


def test_the_newest_evaluation_is_compared_with_the_best(user_client: Client, run: TrainingRun) -> None:
    for epoch in (1, 2, 3):
        evaluated(run, epoch)
    TrainingRun.objects.filter(pk=run.pk).update(best_epoch=2)
    text = page(user_client, run)
    assert "after epoch 3" in text
    assert "Compared with the best epoch, 2" in text
    assert re.search(r"better:</span>\s*\+8\.3", text)  # top-1 from 10 to 11 of 12
    assert re.search(r"better:</span>\s*-0\.167", text)  # the loss, of which less is better
    assert re.search(r'value="2">\s*Epoch 2\s*★ best', text)


def test_a_requested_evaluation_is_marked_until_the_epoch_ends(user_client: Client, run: TrainingRun) -> None:
    evaluated(run, 1)
    evaluated(run, 2, at_step=9)
    text = page(user_client, run)
    assert "in epoch 2, after step 9" in text
    assert "Confusion" in text
    assert "Validation on request in epoch 2, after step 9." in user_client.get(run.get_absolute_url()).content.decode()
    evaluated(run, 2)
    assert "after epoch 2" in page(user_client, run)


def test_an_earlier_epoch_can_be_chosen(user_client: Client, run: TrainingRun) -> None:
    for epoch in (1, 2):
        evaluated(run, epoch)
    text = page(user_client, run, epoch=1)
    assert "after epoch 1" in text
    assert 'rel="next" href="?epoch=2"' in text


@pytest.mark.parametrize("epoch", ["2", "0", "-1", "x", "9" * 30, "1.0", "../1"])
def test_an_epoch_without_evaluation_is_not_found(user_client: Client, run: TrainingRun, epoch: str) -> None:
    evaluated(run, 1)
    assert user_client.get(reverse("evaluation", args=[run.pk]), {"epoch": epoch}).status_code == 404


@pytest.mark.parametrize("epoch", [0, 2, 10**30])
def test_no_file_of_an_epoch_without_evaluation_is_served(user_client: Client, run: TrainingRun, epoch: int) -> None:
    evaluated(run, 1)
    assert {user_client.get(address).status_code for address in addresses(run, epoch)} == {404}


def test_a_repeated_validation_counts_once(user_client: Client, run: TrainingRun) -> None:
    """A kill after epoch 3: its file still exists, but the run resumes from epoch 2."""
    for epoch in (1, 2, 3):
        evaluated(run, epoch)
    supersede(run.pk, 99, 12, validation_due=False)
    text = page(user_client, run, show="images")
    assert "after epoch 2" in text
    assert 'data-epochs="1,2"' in text
    assert [user_client.get(address).status_code for address in addresses(run, 3)] == [404] * 8


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"format": 2}', "\ud800", '{"format": 1, "classes": 5}', "NaN"],
)
def test_a_corrupted_file_is_reported(user_client: Client, run: TrainingRun, content: str) -> None:
    evaluated(run, 1)
    evaluation_path(run.folder, 1).write_bytes(content.encode(errors="surrogatepass"))
    text = page(user_client, run)
    assert "The evaluation file of epoch 1 is corrupted" in text
    assert "75.0 %" in text  # the values of the event are shown nevertheless
    statuses = [user_client.get(address).status_code for address in addresses(run, 1)]
    assert statuses == [404] * 8


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("confusion", {"names": ["blue", "red"], "counts": [[1, 2], [3]]}),
        ("images", [{"index": -1, "path": "x", "score": 1, "labels": []}]),
        ("predictions", {"0": {"boxes": [[0, 1]]}}),
        ("curves", [{"name": "../x", "title": "x", "x": "x", "y": "x", "series": []}]),
        ("values", {"loss": float("nan")}),
    ],
)
def test_a_file_with_an_invalid_part_is_corrupted(user_client: Client, run: TrainingRun, key: str, value: Any) -> None:
    evaluated(run, 1)
    path = evaluation_path(run.folder, 1)
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    assert f"is corrupted ({key}" in page(user_client, run)


def test_a_missing_file_is_reported(user_client: Client, run: TrainingRun) -> None:
    evaluated(run, 1)
    evaluation_path(run.folder, 1).unlink()
    assert "The evaluation file of epoch 1 is missing." in page(user_client, run)
    shown = user_client.get(reverse("run_detail", args=[run.pk])).content.decode()
    assert "The evaluation file of epoch 1 is missing." in shown


def test_labels_without_a_class_name_are_shown_as_numbers(user_client: Client, run: TrainingRun) -> None:
    evaluated(run, 1, predictions={0: {"classes": [[7, 0.9], [-1, 0.1]]}})
    assert re.search(r'class="guess">\s*<span>\s*7\s*<', page(user_client, run, show="images"))


def test_users_who_cannot_see_the_run_get_nothing(client: Client, run: TrainingRun) -> None:
    evaluated(run, 1)
    for address in [reverse("evaluation", args=[run.pk]), *addresses(run, 1), f"/runs/{run.pk}/batches/step_0.webp"]:
        response = client.get(address)
        assert response.status_code == 302
        assert response.headers["Location"].startswith("/login/")


def test_the_pages_are_read_only(user_client: Client, run: TrainingRun) -> None:
    evaluated(run, 1)
    for address in [reverse("evaluation", args=[run.pk]), *addresses(run, 1)]:
        assert user_client.post(address).status_code == 405


# Tables and matrix


def test_the_table_sorts_by_every_column_in_both_directions(user_client: Client, run: TrainingRun) -> None:
    classes = [("b", 0.5, 3), ("a", None, 2), ("c", 0.25, 1)]
    evaluated(run, 1, per_class=[{"class": name, "recall": share, "images": n} for name, share, n in classes])

    def order(sort: str) -> str:
        return "".join(re.findall(r'fw-normal">(.)</th>', page(user_client, run, "classes", sort=sort)))

    sorts = ("", "class", "-class", "recall", "-recall", "images", "-images", "nonsense")
    assert [order(sort) for sort in sorts] == ["bac", "abc", "cba", "cba", "bca", "cab", "bac", "bac"]
    text = page(user_client, run, "classes", sort="recall")
    assert text.lstrip().startswith('<section id="classes"')
    assert 'aria-sort="ascending"' in text
    assert "sort=-recall" in text


def test_each_class_has_its_score_by_epoch(user_client: Client, run: TrainingRun) -> None:
    scores: list[tuple[float, float | None]] = [(0.25, 0.5), (0.5, None), (1.0, 0.0)]
    for epoch, (first, second) in enumerate(scores, start=1):
        if epoch == 2:  # one evaluation has no scores yet
            assert "<polyline" not in page(user_client, run, "classes")
        table: list[Any] = [{"class": "b", "recall": first, "images": 3}, {"class": "a", "recall": second, "images": 2}]
        evaluated(run, epoch, per_class=table)
    lines = re.findall('<polyline points="(.+?)"', page(user_client, run, "classes", sort="class"))
    assert lines == ["0.0,11.0 96.0,21.0", "0.0,16.0 48.0,11.0 96.0,1.0"]  # of a, which lacks one, and of b
    evaluation_path(run.folder, 2).write_text('{"per_class": [')  # a damaged file is left out
    text = page(user_client, run, show="classes")
    assert re.findall('<polyline points="(.+?)"', text)[0] == "0.0,16.0 96.0,1.0"
    assert 'id="curve-by-epoch-classes"' in text
    table = rows(user_client.get(f"/runs/{run.pk}/evaluation/3/curve-by-epoch-classes.csv"))
    assert table[1:] == [["b", "1.0", "0.25"], ["b", "3.0", "1.0"], ["a", "1.0", "0.5"], ["a", "3.0", "0.0"]]


def test_of_many_epochs_some_are_read_for_the_classes() -> None:
    found = [Evaluated(epoch, epoch, {}) for epoch in range(1, 1000)]
    epochs = [one.epoch for one in spread(found, 5)]
    assert epochs == [1, 251, 500, 749, 999]


def test_many_classes_come_page_by_page(user_client: Client, run: TrainingRun) -> None:
    table = [{"class": f"c{number:02}", "recall": number / 100, "images": 1} for number in range(45)]
    evaluated(run, 1, per_class=table)
    text = page(user_client, run, show="classes", sort="-recall", page="3")
    assert re.findall(r'fw-normal">(.+?)</th>', text) == ["c04", "c03", "c02", "c01", "c00"]
    assert "3 of 3" in text
    assert "sort=-recall" in re.findall('rel="prev" href="(.+?)"', text)[-1]


def test_the_matrix_shows_counts_or_shares(user_client: Client, run: TrainingRun) -> None:
    evaluated(run, 1)
    cells = r'<td class="heat-[^>]*>([^<]*)<'
    assert re.findall(cells, page(user_client, run, "confusion")) == ["6", "0", "3", "3"]
    assert re.findall(cells, page(user_client, run, "confusion", cells="share")) == ["100", "", "50", "50"]


def test_tables_can_be_downloaded(user_client: Client, run: TrainingRun) -> None:
    evaluated(run, 1)
    base = f"/runs/{run.pk}/evaluation/1"
    table = rows(user_client.get(f"{base}/classes.csv"))
    assert table == [["class", "recall", "images"], ["blue", "1.0", "6"], ["red", "0.5", "1234"]]
    matrix = rows(user_client.get(f"{base}/confusion.csv"))
    assert matrix == [["truth / prediction", "blue", "red"], ["blue", "6", "0"], ["red", "3", "3"]]
    curve = rows(user_client.get(f"{base}/curve-reliability.csv"))
    assert curve == [["series", "Confidence", "Accuracy"], ["Model", "0.2", "0.1"], ["Model", "0.9", "0.8"]]
    history = rows(user_client.get(f"{base}/curve-by-epoch-loss.csv"))
    assert history == [["series", "Epoch", "Loss"], ["Loss", "1.0", "1.0"]]
    images = rows(user_client.get(f"{base}/images.csv"))
    assert images[0] == ["index", "path", "loss", "classes", "prediction"]
    assert images[1][:4] == ["11", "images/val/red/0011.png", "12.0", "red"]
    assert json.loads(images[1][4]) == {"classes": [[0, 0.75], [1, 0.25]]}
    assert user_client.get(f"{base}/nothing.csv").status_code == 404
    assert user_client.get(f"{base}/curve-nothing.csv").status_code == 404


def test_without_a_matrix_its_download_is_not_found(user_client: Client, run: TrainingRun) -> None:
    evaluated(run, 1, confusion=None)
    assert "No confusion matrix" in page(user_client, run, show="confusion")
    assert user_client.get(f"/runs/{run.pk}/evaluation/1/confusion.csv").status_code == 404


# Curves


def test_a_curve_is_a_separate_image(user_client: Client, run: TrainingRun) -> None:
    curves = [{"title": "<&> \"'"}]
    evaluated(run, 1)
    path = evaluation_path(run.folder, 1)
    content = json.loads(path.read_text())
    content["curves"] = [content["curves"][0] | curves[0]]
    path.write_text(json.dumps(content))
    response = user_client.get(f"/runs/{run.pk}/evaluation/1/reliability.svg")
    assert response.headers["Content-Type"] == "image/svg+xml"
    root = ElementTree.fromstring(response.content)
    name = "{http://www.w3.org/2000/svg}"
    assert root.findtext(f"{name}title") == "<&> \"'"
    [line] = root.iter(f"{name}polyline")
    # The axes of shares reach from 0 to 1: x from 66 to 410, y from 210 up to 10.
    assert line.get("points") == "134.8,190.0 375.6,50.0"


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_the_page_is_shown_in_every_language(user_client: Client, run: TrainingRun, language: str) -> None:
    evaluated(run, 1)
    user_client.post("/language/", {"language": language})
    assert 'points="' in page(user_client, run)


# Images


def test_the_same_images_are_shown_with_labels_and_predictions(user_client: Client, run: TrainingRun) -> None:
    evaluated(run, 1)
    evaluated(run, 2, predictions={0: {"classes": [[1, 0.9], [0, 0.1]]}})
    data = user_client.get(f"/runs/{run.pk}/evaluation/1.json").json()
    assert data["epoch"] == 1
    assert [one["index"] for one in data["images"]] == list(range(12))
    first, second = data["images"][:2]
    assert first["truth"]["chips"][0]["name"] == "blue"
    assert [(chip["name"], chip["share"], chip["is_right"]) for chip in first["prediction"]["chips"]] == [
        ("blue", 0.75, True),
        ("red", 0.25, False),
    ]
    assert second["truth"]["chips"][0]["name"] == "red"
    assert user_client.get(first["url"]).status_code == 200
    later = user_client.get(f"/runs/{run.pk}/evaluation/2.json").json()["images"]
    assert later[0]["prediction"]["chips"][0]["name"] == "red"
    assert later[1]["prediction"] is None


def test_the_worst_and_best_images_are_listed_by_class(user_client: Client, run: TrainingRun) -> None:
    evaluated(run, 1)

    def shown(**query: Any) -> list[int]:
        return [int(index) for index in re.findall(r'id="notable-(\d+)"', page(user_client, run, "notable", **query))]

    assert shown() == list(range(11, -1, -1))
    assert shown(which="best") == list(range(12))
    assert shown(which="worst", **{"class": "1"}) == [11, 9, 7, 5, 3, 1]
    assert shown(which="best", **{"class": "0"}) == [0, 2, 4, 6, 8, 10]
    assert shown(**{"class": "9"}) == shown(**{"class": "²"}) == shown()


def test_a_score_is_shown_with_its_metric(user_client: Client, run: TrainingRun) -> None:
    evaluated(run, 1)
    assert "<b>Loss 12</b>" in page(user_client, run, "notable")
    evaluated(run, 2, score="mean_iou", images=[ImageScore(0, 0.1234, (0,))])
    assert "<b>Mean IoU 12.3 %</b>" in page(user_client, run, "notable")


def test_boxes_of_ground_truth_and_predictions(user_client: Client, run: TrainingRun) -> None:
    annotated(run.dataset)
    boxes = [[1, 0.9, 3, 4, 21.5, 29], [0, 0.1, 0, 0, 8, 8], [0, 0.001, 0, 0, 9, 9]]
    evaluated(run, 1, task="detection", predictions={0: {"boxes": boxes}}, best_confidence=0.5)
    first = user_client.get(f"/runs/{run.pk}/evaluation/1.json").json()["images"][0]
    [truth] = first["truth"]["boxes"]
    assert [truth[side] for side in ("x", "y", "width", "height")] == ["4", "5", "16", "25"]
    surest, weak = first["prediction"]["boxes"]  # what is hardly believed at all is left out
    assert [surest[side] for side in ("x", "y", "width", "height")] == ["3", "4", "18.5", "25"]
    assert (surest["name"], weak["name"]) == ("red", "blue")
    text = page(user_client, run, show="images")
    assert re.search(r'data-confidence="0.9000"\s*>', text)
    assert re.search(r'data-confidence="0.1000"\s+hidden>', text)


def test_masks_of_ground_truth_and_predictions(user_client: Client, run: TrainingRun) -> None:
    annotated(run.dataset)
    evaluated(run, 1, task="segmentation", predictions={0: {"mask": "epoch_1/0.png"}})
    folder = run.folder / "evaluations" / "epoch_1"
    folder.mkdir()
    Image.new("L", (32, 32), 2).save(folder / "0.png")
    first = user_client.get(f"/runs/{run.pk}/evaluation/1.json").json()["images"][0]
    colours = []
    for layer in ("truth", "prediction"):
        response = user_client.get(first[layer]["mask_url"])
        assert response.headers["Content-Type"] == "image/webp"
        colours.append(Image.open(io.BytesIO(response.content)).convert("RGBA").getpixel((5, 5)))
    assert colours == [(0xE6, 0x43, 0x3C, 255), (0x2F, 0x9B, 0xFF, 255)]  # classes 0 and 1


@pytest.mark.parametrize(
    "mask",
    [
        "../../secret.png",
        "/secret.png",
        "epoch_1.json",
        "epoch_1",
        "",
        "epoch_1/none.png",
        "epoch_1/link.png",
        "a\0.png",
    ],
)
def test_no_mask_outside_the_run_is_served(user_client: Client, run: TrainingRun, tmp_path: Any, mask: str) -> None:
    secret = tmp_path / "secret.png"
    run.folder.mkdir(parents=True)
    for path in (secret, run.folder / "secret.png", run.folder.parent / "secret.png"):
        Image.new("L", (8, 8), 1).save(path)
    evaluated(run, 1, task="segmentation", predictions={0: {"mask": mask.replace("/secret", str(secret)[:-4])}})
    (run.folder / "evaluations" / "epoch_1").mkdir()
    (run.folder / "evaluations" / "epoch_1" / "link.png").symlink_to(secret)
    assert user_client.get(f"/runs/{run.pk}/evaluation/1/masks/0.webp").status_code == 404


@pytest.mark.parametrize("mode", ["RGB", "damaged"])
def test_a_file_that_is_not_a_mask_is_not_found(user_client: Client, run: TrainingRun, mode: str) -> None:
    evaluated(run, 1, task="segmentation", predictions={0: {"mask": "m.png"}})
    path = run.folder / "evaluations" / "m.png"
    Image.new("L" if mode == "damaged" else mode, (64, 64), 1).save(path)
    if mode == "damaged":
        path.write_bytes(path.read_bytes()[:60])
    assert user_client.get(f"/runs/{run.pk}/evaluation/1/masks/0.webp").status_code == 404


def test_a_dataset_without_its_files_is_reported(user_client: Client, run: TrainingRun) -> None:
    evaluated(run, 1)
    (run.dataset.folder / "samples.jsonl").unlink()
    for part in ("images", "notable"):
        assert page(user_client, run, show=part).count("This image is no longer in the dataset.") == 12, part


def test_changed_dataset_files_are_not_shown_as_ground_truth(user_client: Client, run: TrainingRun) -> None:
    evaluated(run, 1)
    index = run.dataset.folder / "samples.jsonl"
    index.write_text(index.read_text().replace("images/val/", "images/other/"))
    data = user_client.get(f"/runs/{run.pk}/evaluation/1.json").json()
    assert {str(one["truth"]) for one in data["images"]} == {"None"}


# The run's own page


def test_the_overview_of_the_run_shows_images(user_client: Client, run: TrainingRun) -> None:
    address = reverse("run_detail", args=[run.pk])
    assert "Sample predictions" not in user_client.get(address).content.decode()
    evaluated(run, 1)
    evaluated(run, 2)
    text = user_client.get(address).content.decode()
    assert "Validation after epoch 2." in text
    assert reverse("evaluation", args=[run.pk]) in text
    (run.folder / "evaluations" / "epoch_2.json").write_text("{")
    assert "notice-warning" in user_client.get(address).content.decode()


def batch_event(run: TrainingRun, file: str) -> None:
    store_events(run, {"type": "sample", "epoch": 1, "step": 7, "data": {"kind": "batch", "file": file}})


def test_the_newest_batch_is_shown(user_client: Client, run: TrainingRun) -> None:
    folder = run.folder / "batches"
    folder.mkdir(parents=True)
    Image.new("RGB", (20, 10), "red").save(folder / "step_7.webp")
    address = reverse("run_charts", args=[run.pk])
    assert re.search(r'id="part-batch"[^>]* hidden', user_client.get(address).content.decode())
    batch_event(run, "batches/step_7.webp")
    text = user_client.get(address).content.decode()
    assert "Epoch 1, step 7." in text
    response = user_client.get(f"/runs/{run.pk}/batches/step_7.webp")
    assert Image.open(io.BytesIO(response.content)).size == (20, 10)


@pytest.mark.parametrize("file", ["../config.json", "batches/../../secret", "batches/none.webp", "", "batches/.."])
def test_no_batch_outside_the_run_is_served(user_client: Client, run: TrainingRun, file: str) -> None:
    (run.folder / "batches").mkdir(parents=True)
    (run.folder / "config.json").write_text("{}")
    batch_event(run, file)
    text = user_client.get(reverse("run_charts", args=[run.pk])).content.decode()
    assert re.search(r'id="part-batch"[^>]* hidden', text)


@pytest.mark.parametrize("file", ["..", "%2e%2e", "..%2fconfig.json", "none.webp", "a%00.webp", "../config.json"])
def test_no_other_file_of_the_run_is_served(user_client: Client, run: TrainingRun, file: str) -> None:
    (run.folder / "batches").mkdir(parents=True)
    (run.folder / "config.json").write_text("{}")
    assert user_client.get(f"/runs/{run.pk}/batches/{file}").status_code == 404
