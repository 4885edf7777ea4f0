"""The form of a new run: a name, presets that say what they change, and entries that stay when the task changes."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.helpers.annotated_pages import make_scenes
from trainingapp.models import Dataset, TrainingRun
from trainingapp.runs.presets import presets_of

pytestmark = pytest.mark.django_db
ADDRESS = "/runs/new/"


def values(response: Any) -> dict[str, Any]:
    """What the fields of the form show."""
    return {field.name: field.value() for field in response.context["form"]}


def test_the_name_is_prefilled_and_counts_on(user_client: Client, dataset: Dataset, run: TrainingRun) -> None:
    assert values(user_client.get(ADDRESS))["name"] == "pets 2"
    assert values(user_client.get(f"{ADDRESS}?clone={run.pk}"))["name"] == "try (copy)"


def test_presets_say_what_they_change(user_client: Client, dataset: Dataset) -> None:
    page = user_client.get(ADDRESS).content.decode()
    quick, balanced, best, probe = presets_of("classification", "resnet18")
    assert not balanced.changes
    assert f"Epochs: {quick.values['epochs']}" in quick.changes
    assert "Augmentation: Strong" in best.changes or "Augmentation: Medium" in best.changes
    for preset in (quick, best):
        assert ", ".join(preset.changes) in page
    assert set(quick.values) == set(balanced.values) == set(best.values) == set(probe.values)


def test_presets_of_published_backbones_follow_the_model(user_client: Client, dataset: Dataset) -> None:
    chosen = {"task": "classification", "model": "timm/vit_small_patch14_dinov2.lvd142m"}
    page = user_client.get(ADDRESS, chosen).content.decode()
    presets = {one.name: one.values for one in presets_of(*chosen.values())}
    assert {"probe", "lora", "finetune"} <= presets.keys()
    assert all(f'data-preset="{name}"' in page for name in presets)
    assert (presets["probe"]["freeze"], presets["probe"]["lora_rank"]) == ("backbone", 0)
    assert (presets["lora"]["freeze"], presets["lora"]["lora_rank"]) == ("backbone", 8)
    assert (presets["finetune"]["freeze"], presets["finetune"]["layer_decay"]) == ("none", 0.75)
    assert presets["balanced"]["freeze"] == "none"
    assert not {"lora", "finetune"} & {one.name for one in presets_of("classification", "resnet18")}
    assert "probe" not in {one.name for one in presets_of("detection", "fcos_resnet18_fpn")}


@pytest.mark.parametrize("preset", ["quick", "best"])
def test_a_preset_fills_the_form_without_javascript(user_client: Client, dataset: Dataset, preset: str) -> None:
    chosen = {one.name: one for one in presets_of("classification", "resnet18")}[preset]
    shown = values(user_client.get(ADDRESS, {"task": "classification", "preset": preset}))
    assert {name: shown[name] for name in chosen.values} == chosen.values


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation", "instances"])
def test_the_values_of_presets_are_valid(task: str) -> None:
    from trainingapp.contract.config import parse_config
    from trainingapp.contract.tasks.registry import TASKS

    for model in TASKS[task].architectures:
        for preset in presets_of(task, model):
            parse_config({"task": task, "model": model, **preset.values})


def test_entries_stay_when_the_task_changes(user_client: Client, user: Any, dataset: Dataset) -> None:
    scenes = make_scenes(user, "scenes")
    sent = {"task": "classification", "switch": "detection", "dataset": dataset.pk, "name": "mine", "priority": "3"}
    sent |= {"model": "resnet18", "epochs": "7", "learning_rate": "0.5", "batch_size": "32", "soft_limit_h": "2"}
    response = user_client.post(ADDRESS, sent)
    assert response.status_code == 200
    shown = values(response)
    assert (shown["task"], shown["dataset"]) == ("detection", scenes.pk)
    assert (shown["name"], shown["priority"], str(shown["soft_limit_h"])) == ("mine", "3", "2")
    assert (str(shown["epochs"]), str(shown["learning_rate"])) == ("7", "0.5")
    assert shown["model"] in dict(response.context["form"].fields["model"].choices)
    assert not TrainingRun.objects.exists()


def test_an_unknown_task_shows_the_first(user_client: Client, dataset: Dataset) -> None:
    response = user_client.post(ADDRESS, {"task": "nothing", "switch": "nothing", "name": "mine"})
    assert (values(response)["task"], values(response)["name"]) == ("classification", "mine")


def test_results_have_a_place_beside_the_form(user_client: Client, dataset: Dataset) -> None:
    page = user_client.get(reverse("run_new")).content.decode()
    side = page[page.index('<aside class="side"') :]
    assert 'id="batch-preview"' in side
    assert 'id="preflight"' in side


def test_networks_of_a_library_that_is_not_installed_cannot_be_chosen(
    user_client: Client, monkeypatch: pytest.MonkeyPatch, user: Any
) -> None:
    from trainingapp.contract.architectures import OPTIONAL_LIBRARIES
    from trainingapp.runs.forms import RunForm

    scenes = make_scenes(user, "scenes")
    page = user_client.get(ADDRESS, {"task": "detection"}).content.decode()
    assert '<option value="hf/rtdetrv2_r18">hf/rtdetrv2_r18</option>' in page
    sent = {**RunForm(task="detection", user=user).initial, "name": "mine", "dataset": scenes.pk}
    sent |= {"model": "hf/rtdetrv2_r18", "priority": 0}
    assert RunForm(sent, task="detection", user=user).is_valid()
    monkeypatch.setitem(OPTIONAL_LIBRARIES, "hf/", "no_such_library")
    page = user_client.get(ADDRESS, {"task": "detection"}).content.decode()
    assert '<option value="hf/rtdetrv2_r18" disabled>hf/rtdetrv2_r18 (needs no_such_library)</option>' in page
    assert '<option value="pan_s" selected>pan_s</option>' in page
    form = RunForm(sent, task="detection", user=user)
    assert not form.is_valid()
    assert "no_such_library" in str(form.errors["model"])
    assert "pip install" in str(form.errors["model"])
