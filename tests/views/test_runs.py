"""Pages of the runs: list, form, control, files."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.test import AsyncClient, Client
from django.urls import reverse
from django.utils import timezone

from tests.helpers.world import line, point, started, store_events
from trainingapp.contract.config import config_defaults, config_fields, parse_config
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.models import Checkpoint, Dataset, TrainingRun
from trainingapp.models.verbs import VerbError
from trainingapp.presentation.messages import rendered_list
from trainingapp.presentation.numbers import setting_value
from trainingapp.runs.forms import LIMITS, RunForm, config_table
from trainingapp.runs.run_page import CHART_POINTS, LOG_LINES
from trainingapp.runs.verbs import create_run

pytestmark = pytest.mark.database


def html(response: Any) -> str:
    return str(response.content.decode())


# The list


def names(response: Any) -> list[str]:
    return re.findall(r'class="row-title"[^>]*>([^<]*)<', html(response))


def named(make: Callable[..., TrainingRun], **runs: str) -> None:
    for name, status in runs.items():
        make(status=status, name=name)


def test_an_empty_list_explains_the_next_step(user_client: Client) -> None:
    assert "Import dataset" in html(user_client.get(reverse("run_list")))


def test_with_a_dataset_the_list_offers_the_first_run(user_client: Client, dataset: Dataset) -> None:
    assert "Create the first run" in html(user_client.get(reverse("run_list")))


def test_the_list_filters_by_status_with_counts(user_client: Client, make: Callable[..., TrainingRun]) -> None:
    named(make, one="completed", two="failed", three="completed")
    response = user_client.get(reverse("run_list"), {"status": "completed"})
    assert names(response) == ["three", "one"]
    assert {pill["label"]: pill["count"] for pill in response.context["pills"]} == {
        "All": 3,
        "Completed": 2,
        "Failed": 1,
        "Starred": None,
        "Archived": None,
    }


def test_the_list_searches_names_and_datasets(user_client: Client, make: Callable[..., TrainingRun]) -> None:
    named(make, alpha="pending", beta="pending")
    assert names(user_client.get(reverse("run_list"), {"q": "ALPH"})) == ["alpha"]
    assert names(user_client.get(reverse("run_list"), {"q": "pets"})) == ["beta", "alpha"]
    assert "No matching runs" in html(user_client.get(reverse("run_list"), {"q": "nothing like it"}))


def test_pagination_keeps_the_filter(user_client: Client, make: Callable[..., TrainingRun]) -> None:
    for number in range(27):
        make(name=f"run {number}")
    response = user_client.get(reverse("run_list"), {"q": "run", "page": "2"})
    assert names(response) == ["run 1", "run 0"]
    before = re.search(r'href="\?q=run&amp;before=([^"]+)"', html(response))
    assert before is not None
    response = user_client.get(reverse("run_list"), {"q": "run", "before": unquote(before[1])})
    assert names(response)[-1] == "run 2"


def test_htmx_gets_only_the_table(user_client: Client, run: TrainingRun) -> None:
    response = user_client.get(reverse("run_list"), headers={"HX-Request": "true", "HX-Target": "runs"})
    assert html(response).lstrip().startswith('<div id="runs"')


# The form


def values(task: str = "classification", **changes: Any) -> dict[str, Any]:
    defaults = {name: field.default for name, field in config_fields(task).items() if field.kind != "switch"}
    return {**defaults, "name": "A run", "priority": 0, **changes}


@pytest.mark.parametrize("task", TASKS)
def test_every_setting_has_a_field(dataset: Dataset, task: str) -> None:
    form = RunForm(task=task)
    assert set(form.fields) == {"name", "dataset", "priority", *LIMITS, *config_fields(task)}


def test_a_field_shows_its_bounds_and_help(dataset: Dataset) -> None:
    form = RunForm(task="classification")
    page = str(form["image_size"])
    assert 'min="32"' in page
    assert 'max="1024"' in page
    assert "multiple of 32" in str(form.fields["image_size"].help_text)
    ranges = {field.bound.name: field.range for section in form.sections() for field in section.fields}
    assert ranges["image_size"] == "Range: 32 to 1024."
    assert ranges["learning_rate"] == "Range: above 0, up to 10."


def test_a_field_carries_its_conditions(dataset: Dataset) -> None:
    """form.js hides and shows fields by these attributes."""
    for task in TASKS:
        form = RunForm(task=task)
        for name, field in config_fields(task).items():
            when = field.setting.when
            attributes = form.fields[name].widget.attrs if name != "task" else {}
            assert attributes.get("data-when") == (when.field if when else None), name
            assert attributes.get("data-when-is") == (" ".join(when.values) if when else None), name
    assert 'data-when="optimizer" data-when-is="SGD RMSprop"' in str(form["momentum"])


def test_a_stored_configuration_marks_fields_without_effect() -> None:
    rows = {row.name: row for row in config_table(parse_config({"optimizer": "AdamW"}).model_dump(mode="json"))}
    assert not rows["momentum"].has_effect
    assert rows["weight_decay"].has_effect
    rows = {row.name: row for row in config_table(parse_config({"optimizer": "SGD"}).model_dump(mode="json"))}
    assert rows["momentum"].has_effect


@pytest.mark.parametrize(
    ("days", "shown"),
    [(-1, ("As set for the studio", "")), (0, ("Never", "")), (30, ("30", "days")), (1, ("1", "day"))],
)
def test_a_number_with_a_meaning_of_its_own_is_shown_in_words(days: int, shown: tuple[str, str]) -> None:
    config = parse_config({"keep_history_days": days}).model_dump(mode="json")
    row = next(row for row in config_table(config) if row.name == "keep_history_days")
    assert (str(setting_value(row.value, row.name)), row.unit) == shown


@pytest.mark.parametrize("language", ["en", "zh-hans"])
@pytest.mark.parametrize("task", TASKS)
def test_every_section_has_a_title_and_every_field_is_in_one(dataset: Dataset, language: str, task: str) -> None:
    sections = list(RunForm(task=task).sections())
    shown = [field.bound.name for section in sections for field in section.fields + section.advanced]
    assert sorted(shown) == sorted(set(config_fields(task)) - {"task"})
    assert all(section.title for section in sections)


def test_only_datasets_with_the_annotations_are_offered(user_client: Client, dataset: Dataset, user: User) -> None:
    boxes = Dataset.objects.create(
        name="boxes", owner=user, tasks=["detection", "segmentation"], status=Dataset.Status.READY
    )
    offered = {task: set(RunForm(task=task, user=user).fields["dataset"].queryset) for task in TASKS}
    expected = {"classification": {dataset}, "detection": {boxes}, "segmentation": {boxes}, "instances": set()}
    assert offered == expected
    page = user_client.get(reverse("run_new"), {"dataset": boxes.pk})
    assert page.context["form"].task_name == "detection"
    page = user_client.get(reverse("run_new"), {"dataset": boxes.pk, "task": "segmentation"})
    assert page.context["form"].initial["dataset"] == boxes.pk
    page = user_client.get(reverse("run_new"), {"dataset": boxes.pk, "task": "classification"})
    assert page.context["form"].initial["dataset"] == dataset.pk


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_a_run_of_another_task_is_created(user_client: Client, user: User, task: str) -> None:
    fields = {"tasks": [task], "classes": ["a"], "images": {"train": 4, "val": 2}, "status": "ready"}
    dataset = Dataset.objects.create(name="marked", owner=user, **fields)
    response = user_client.post(reverse("run_new"), values(task, dataset=dataset.pk))
    assert response.status_code == 302, response.context["form"].errors
    run = TrainingRun.objects.get()
    assert (run.task, run.config["task"]) == (task, task)


def test_the_form_contains_the_defaults_of_each_network(dataset: Dataset) -> None:
    form = RunForm(task="classification", initial={"model": "vit_b_16"})
    assert form["learning_rate"].value() == 0.0003 == config_defaults("classification", "vit_b_16")["learning_rate"]
    assert form.model_defaults()["vit_b_16"]["learning_rate"] == 0.0003
    assert form.model_defaults()[""]["learning_rate"] == 0.001


def test_a_run_starts_from_a_checkpoint_of_another(user_client: Client, run: TrainingRun, dataset: Dataset) -> None:
    facts = {"attempt": 1, "epoch": 3, "step": 9, "reason": "epoch", "size_bytes": 1, "created_at": timezone.now()}
    Checkpoint.objects.create(run=run, file="epoch_3.pt", is_best=True, **facts)
    start = f"run/{run.pk}/epoch_3.pt"
    assert start in dict(RunForm(task="classification", user=run.owner).fields["start_from"].choices)
    assert start not in dict(RunForm(task="detection", user=run.owner).fields["start_from"].choices)
    user_client.post(reverse("run_new"), values(dataset=dataset.pk, start_from=start))
    assert TrainingRun.objects.latest("pk").config["start_from"] == start


def test_a_deleted_checkpoint_is_named(user_client: Client, dataset: Dataset) -> None:
    form = RunForm(values(dataset=dataset.pk, start_from="run/99/epoch_3.pt"), task="classification")
    assert "start_from" in form.errors
    config = parse_config({"start_from": "run/99/epoch_3.pt"})
    with pytest.raises(VerbError, match=r"run/99/epoch_3\.pt"):
        create_run(owner=dataset.owner, name="x", dataset=dataset, config=config)


def test_a_run_is_created_as_pending(user_client: Client, dataset: Dataset, user: User) -> None:
    response = user_client.post(reverse("run_new"), values(dataset=dataset.pk, epochs=7, amp="on"))
    run = TrainingRun.objects.get()
    assert response.headers["Location"] == reverse("run_detail", args=[run.pk])
    assert (run.status, run.owner, run.config["epochs"], run.config["amp"]) == ("pending", user, 7, "on")


def test_a_run_is_created_and_started(user_client: Client, dataset: Dataset) -> None:
    user_client.post(reverse("run_new"), values(dataset=dataset.pk, start="1"))
    assert TrainingRun.objects.get().status == "queued"


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("epochs", "0", "Must be at least 1."),
        ("epochs", "ten", "Enter a whole number."),
        ("learning_rate", "0", "Must be more than 0."),
        ("learning_rate", "nan", "Enter a number."),
        ("momentum", "1", "Must be less than 1."),
        ("weight_decay", "2", "Must be at most 1."),
        ("optimizer", "Magic", "Magic is not one of the available choices."),
        ("device", "tpu", "This is not one of the values listed in the help text."),
        ("name", "", "This field is required."),
        ("dataset", "4711", "That choice is not one of the available choices."),
    ],
)
def test_an_error_is_shown_beside_its_field(
    user_client: Client, dataset: Dataset, field: str, value: str, words: str
) -> None:
    response = user_client.post(reverse("run_new"), values(**{"dataset": dataset.pk, field: value}))
    assert response.status_code == 422
    assert words in html(response).split(f'id="id_{field}_error">')[1].split("</div>")[0]
    assert not TrainingRun.objects.exists()


def test_corrections_are_shown_on_the_run(user_client: Client, dataset: Dataset) -> None:
    response = user_client.post(reverse("run_new"), values(dataset=dataset.pk, image_size=60), follow=True)
    assert "image_size was changed from 60 to 64" in html(response)


def test_corrections_are_stored_as_codes_with_their_values(user_client: Client, dataset: Dataset) -> None:
    user_client.post(reverse("run_new"), values(dataset=dataset.pk, image_size=60))
    run = TrainingRun.objects.get()
    (correction,) = run.corrections
    assert correction["code"] == "config_image_size_rounded"
    assert correction["params"] == {"given": "60", "taken": 64, "factor": 32}
    assert correction["message"].startswith("image_size was changed from 60 to 64")
    (shown,) = rendered_list(run.corrections)
    assert shown in html(user_client.get(run.get_absolute_url()))


def test_corrections_of_version_0_1_are_shown_as_they_were_stored(user_client: Client, run: TrainingRun) -> None:
    TrainingRun.objects.filter(pk=run.pk).update(corrections=["image_size 60 became 64, a multiple of 32."])
    assert "image_size 60 became 64, a multiple of 32." in html(user_client.get(run.get_absolute_url()))


def test_a_dataset_that_is_not_ready_cannot_be_chosen(user_client: Client, dataset: Dataset) -> None:
    Dataset.objects.update(status="importing")
    assert "A dataset is required" in html(user_client.get(reverse("run_new")))


def test_a_clone_is_prefilled_with_the_settings_of_its_origin(
    user_client: Client, make: Callable[..., TrainingRun]
) -> None:
    run = make()
    TrainingRun.objects.filter(pk=run.pk).update(config=run.config | {"epochs": 77, "optimizer": "SGD"})
    page = html(user_client.get(reverse("run_new"), {"clone": run.pk}))
    assert 'value="77"' in page
    assert '<option value="SGD" selected>' in page
    assert f"{run.name} (copy)" in page


# One run


def test_the_page_shows_events_up_to_the_start_of_its_stream(user_client: Client, run: TrainingRun) -> None:
    store_events(run, line("first words"), point(1), line("<b>careful</b>", level="error"))
    page = html(user_client.get(reverse("run_log", args=[run.pk])))
    assert 'data-after="3"' in page
    assert re.findall(r'data-seq="(\d+)"', page) == ["1", "3"]
    assert "&lt;b&gt;careful&lt;/b&gt;" in page


def test_a_long_log_shows_its_newest_lines(user_client: Client, run: TrainingRun) -> None:
    store_events(run, *[line(f"line {number}") for number in range(LOG_LINES + 20)])
    page = html(user_client.get(reverse("run_log", args=[run.pk])))
    assert page.count('class="log-line') == LOG_LINES
    older = re.search(r'href="([^"]*before=\d+)"', page)
    assert older
    rest = html(user_client.get(older[1]))
    assert re.findall(r'data-seq="(\d+)"', rest) == [str(number) for number in range(1, 21)]


def test_charts_contain_each_step_once(user_client: Client, run: TrainingRun) -> None:
    store_events(run, point(1), point(2, superseded=True), started(1), point(2, loss=0.5))
    data = user_client.get(reverse("run_metrics", args=[run.pk])).json()
    assert data["seq"] == 4
    assert [(item["step"], item["values"]["loss"]) for item in data["points"]] == [(1, 1.0), (2, 0.5)]


def test_long_series_are_thinned_but_keep_their_peaks(user_client: Client, run: TrainingRun) -> None:
    store_events(run, *(point(step, 9.0 if step == 7777 else 1.0) for step in range(20_000)))
    points = user_client.get(reverse("run_metrics", args=[run.pk])).json()["points"]
    assert len(points) <= CHART_POINTS
    assert {0, 7777, 19_999} <= {each["step"] for each in points}


def test_a_failure_shows_the_cause_and_the_remedy(user_client: Client, make: Callable[..., TrainingRun]) -> None:
    run = make(status="failed", error_class="out_of_memory", error_message="No room.", error_lines=["torch says no"])
    page = html(user_client.get(run.get_absolute_url()))
    for words in ("Out of memory", "No room.", "torch says no", "Halve the batch size"):
        assert words in page


# Control


@pytest.mark.parametrize(
    ("verb", "before", "after", "wanted"),
    [
        ("start", "pending", "queued", ""),
        ("pause", "queued", "paused", ""),
        ("pause", "running", "running", "pause"),
        ("resume", "paused", "queued", ""),
        ("stop", "running", "running", "stop"),
        ("stop", "paused", "stopped", ""),
    ],
)
def test_verbs(
    user_client: Client, make: Callable[..., TrainingRun], verb: str, before: str, after: str, wanted: str
) -> None:
    run = make(status=before, heartbeat_at=timezone.now())
    response = user_client.post(reverse("run_control", args=[run.pk, verb]))
    run.refresh_from_db()
    assert response.headers["Location"] == run.get_absolute_url()
    assert (run.status, run.requested_action) == (after, wanted)


def test_htmx_gets_the_updated_header(user_client: Client, run: TrainingRun) -> None:
    response = user_client.post(reverse("run_control", args=[run.pk, "start"]), headers={"HX-Request": "true"})
    assert "status-queued" in html(response)
    assert 'id="part-header"' in html(response)


def test_an_impossible_verb_is_reported(user_client: Client, make: Callable[..., TrainingRun]) -> None:
    run = make(status="completed")
    address = reverse("run_control", args=[run.pk, "pause"])
    assert "completed and cannot be paused" in html(user_client.post(address, follow=True))
    assert "cannot be paused" in user_client.post(address, headers={"HX-Request": "true"}).headers["HX-Trigger"]


@pytest.mark.parametrize("name", ["run_control", "run_delete"])
def test_other_users_may_only_read(run: TrainingRun, other_user: User, name: str) -> None:
    client = Client()
    client.force_login(other_user)
    arguments = [run.pk, "start"] if name == "run_control" else [run.pk]
    assert client.post(reverse(name, args=arguments)).status_code == 403
    assert "verb-start" not in html(client.get(run.get_absolute_url()))
    run.refresh_from_db()
    assert run.status == "pending"


def test_staff_may_control_runs_of_other_users(staff_client: Client, run: TrainingRun) -> None:
    staff_client.post(reverse("run_control", args=[run.pk, "start"]))
    run.refresh_from_db()
    assert run.status == "queued"


def test_the_deletion_page_shows_the_size(user_client: Client, run: TrainingRun) -> None:
    run.folder.mkdir(parents=True)
    (run.folder / "trainer.log").write_bytes(b"x" * 2048)
    address = reverse("run_delete", args=[run.pk])
    page = html(user_client.get(address))
    assert "2.0\xa0KB" in page
    assert "1 file" in page
    assert TrainingRun.objects.exists()
    user_client.post(address)
    assert not TrainingRun.objects.exists()
    assert not run.folder.exists()


def test_a_running_run_is_not_deleted(user_client: Client, make: Callable[..., TrainingRun]) -> None:
    run = make(status="queued")
    assert "Pause or stop it first" in html(user_client.get(reverse("run_delete", args=[run.pk])))
    user_client.post(reverse("run_delete", args=[run.pk]))
    assert TrainingRun.objects.exists()


# Files


def saved(run: TrainingRun, content: bytes) -> Checkpoint:
    checkpoint = Checkpoint(run=run, file="epoch_1.pt", attempt=1, epoch=1, step=4, reason="epoch", sha256="ab" * 32)
    checkpoint.size_bytes, checkpoint.created_at, checkpoint.is_best = len(content), timezone.now(), True
    checkpoint.save()
    path = Path(checkpoint.path)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return checkpoint


@pytest.mark.django_db(transaction=True)
async def test_a_checkpoint_is_downloaded_byte_for_byte(user: User, run: TrainingRun) -> None:
    content = b"PK" + bytes(range(256)) * 9000  # as far as the page looks, a file that torch.load reads
    await sync_to_async(saved)(run, content)
    client = AsyncClient()
    await client.aforce_login(user)
    response = await client.get(reverse("checkpoint_download", args=[run.pk, "epoch_1.pt"]))
    assert b"".join([chunk async for chunk in response.streaming_content]) == content  # type: ignore[attr-defined]
    assert response.headers["Content-Length"] == str(len(content))
    assert "attachment" in response.headers["Content-Disposition"]


@pytest.mark.parametrize("file", ["epoch_2.pt", "..%2F..%2Fconfig.json", "../trainer.log"])
def test_only_checkpoints_are_downloaded(user_client: Client, run: TrainingRun, file: str) -> None:
    saved(run, b"weights")
    assert user_client.get(f"/runs/{run.pk}/checkpoints/{file}").status_code == 404


def test_a_checkpoint_without_its_file_is_not_found(user_client: Client, run: TrainingRun) -> None:
    saved(run, b"weights").path.unlink()
    assert user_client.get(reverse("checkpoint_download", args=[run.pk, "epoch_1.pt"])).status_code == 404
