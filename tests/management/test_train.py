"""manage.py train."""

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from tests.helpers.world import store_events
from trainingapp.models import Dataset, RunEvent, Team, TrainingRun
from trainingapp.runs import verbs as run_verbs

MAKE = Callable[..., TrainingRun]
pytestmark = [pytest.mark.django_db, pytest.mark.database]


def train(*arguments: object) -> str:
    output = StringIO()
    call_command("train", *map(str, arguments), stdout=output, stderr=StringIO())
    return output.getvalue()


def test_create_takes_values_from_file_and_line_and_starts(admin: User, dataset: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("epochs: 9\nmodel: resnet18\nlearning_rate: 1e-2\n")
    created = json.loads(
        train("create", "mine", "--dataset", "pets", "--file", file, "--set", "epochs=3", "--start", "--json")
    )
    run = TrainingRun.objects.get()
    assert (run.pk, run.name, run.owner, run.status, run.total_epochs) == (created["id"], "mine", admin, "queued", 3)
    assert (run.config["model"], run.config["learning_rate"]) == ("resnet18", 0.01)


def test_create_takes_json_and_a_dataset_by_number_and_an_owner(
    admin: User, user: User, dataset: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "run.json").write_text('{"epochs": 2}')
    train("create", "mine", "--dataset", dataset.pk, "--file", tmp_path / "run.json", "--owner", "ada")
    run = TrainingRun.objects.get()
    assert (run.owner, run.status, run.config["epochs"]) == (user, "pending", 2)


def test_corrections_are_stored(admin: User, dataset: Dataset) -> None:
    train("create", "mine", "--dataset", "pets", "--set", "image_size=50")
    run = TrainingRun.objects.get()
    assert run.config["image_size"] == 64
    assert [correction["params"]["given"] for correction in run.corrections] == ["50"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epochs: 0", "run.yaml:1: epochs: Must be at least 1. (got 0)"),
        ("# short\n\nepoch: 3", "run.yaml:3: epoch: Unknown setting. (got 3)"),
        ("epochs: 2\noptimizer: Adagrad", "run.yaml:2: optimizer: Choose one of "),
        ("epochs: 2\nbatch_size: 4\nepochs: 3", "run.yaml:3: epochs is already set in line 1."),
        ("- epochs", "run.yaml: must contain keys"),
        ("epochs: 2\nbatch_size: [", "run.yaml:2: Invalid YAML: "),
    ],
)
def test_a_wrong_file_is_refused_by_file_line_and_field(
    admin: User, dataset: Dataset, tmp_path: Path, text: str, words: str
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(CommandError) as caught:
        train("create", "mine", "--dataset", "pets", "--file", file)
    assert words in str(caught.value)
    assert not TrainingRun.objects.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{\n\t"epochs": 0\n}', "run.json:2: epochs: Must be at least 1. (got 0)"),
        ('{"epochs": 5,\n "batch_size": }', "run.json:2: Invalid JSON: "),
        ('{"epochs": 5,\n "epochs": 6}', "run.json:2: epochs is already set in line 1."),
        ("[]", "run.json: must contain keys"),
        (b'{"model":\n "\xff"}', "run.json:2: This is not UTF-8 text."),
    ],
)
def test_a_wrong_json_file_is_refused_in_the_same_way(
    admin: User, dataset: Dataset, tmp_path: Path, text: str | bytes, words: str
) -> None:
    file = tmp_path / "run.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CommandError) as caught:
        train("create", "mine", "--dataset", "pets", "--file", file)
    assert words in str(caught.value)


def test_a_wrong_value_is_reported_with_its_source(admin: User, dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("epochs: 2\nbatch_size: 0")
    with pytest.raises(CommandError) as caught:
        train("create", "mine", "--dataset", "pets", "--file", tmp_path / "run.yaml", "--set", "epochs=0")
    first, second = str(caught.value).splitlines()
    assert first.startswith("--set: epochs: ")
    assert second.startswith(f"{tmp_path}/run.yaml:2: batch_size: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dataset", "cats"], "there is no dataset cats"),
        (["--dataset", "pets", "--owner", "bob"], "there is no user bob"),
        (["--dataset", "pets", "--set", "epochs"], "must be KEY=VALUE"),
        (["--dataset", "pets", "--set", "epochs=many"], "--set: epochs: "),
        (["--dataset", "pets", "--file", "/none.yaml"], "/none.yaml: No such file"),
    ],
)
def test_wrong_arguments_are_refused_by_name(admin: User, dataset: Dataset, arguments: list[str], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        train("create", "mine", *arguments)


def test_the_verbs_are_those_of_the_pages(run: TrainingRun) -> None:
    for verb, status in [("start", "queued"), ("pause", "paused"), ("resume", "queued"), ("stop", "stopped")]:
        assert f"is {status}" in train(verb, run.pk)
        assert TrainingRun.objects.get().status == status
    with pytest.raises(CommandError, match="cannot be paused"):
        train("pause", run.pk)
    with pytest.raises(CommandError, match="no run 4711"):
        train("stop", 4711)


def test_a_refusing_run_does_not_block_the_others(make: MAKE) -> None:
    done, waiting, also = make("completed"), make("queued"), make("queued")
    output = StringIO()
    numbers = map(str, [done.pk, waiting.pk, 4711, also.pk])
    with pytest.raises(CommandError) as caught:
        call_command("train", "stop", *numbers, "--json", stdout=output)
    assert [run["id"] for run in json.loads(output.getvalue())] == [waiting.pk, also.pk]
    refusals = str(caught.value).splitlines()
    assert ("cannot be stopped" in refusals[0], refusals[1]) == (True, "There is no run 4711.")
    assert set(TrainingRun.objects.values_list("status", flat=True)) == {"completed", "stopped"}


def test_list_and_show(make: MAKE) -> None:
    waiting, done = make("queued"), make("completed", best_metric_name="top1", best_metric=0.5)
    assert [run["id"] for run in json.loads(train("list", "--json"))] == [done.pk, waiting.pk]
    assert [run["id"] for run in json.loads(train("list", "--json", "--status", "queued"))] == [waiting.pk]
    assert "top1 0.5" in train("list")
    shown = json.loads(train("show", done.pk, "--json"))
    assert (shown["status"], shown["dataset"], shown["checkpoints"]) == ("completed", "pets", [])
    assert "status: completed" in train("show", done.pk)


def test_logs_are_filtered_by_the_lowest_level(run: TrainingRun, django_capture_on_commit_callbacks: Any) -> None:
    run_verbs.start_run(run, by="ada")
    run.transition("failed", level="error", message="It broke.")
    assert "status: The run is now queued (ada)." in train("logs", run.pk)
    assert "It broke." in train("logs", run.pk, "--follow")
    errors = train("logs", run.pk, "--level", "error")
    assert "It broke." in errors
    assert "queued" not in errors


def test_delete_shows_the_size_and_does_nothing_in_a_dry_run(make: MAKE) -> None:
    run = make("completed")
    run.folder.mkdir(parents=True)
    (run.folder / "config.json").write_bytes(b"x" * 1234)
    assert "1,234 bytes in 1 files" in train("delete", run.pk, "--dry-run")
    assert TrainingRun.objects.exists()
    assert "was deleted" in train("delete", run.pk, "--yes")
    assert not TrainingRun.objects.exists()
    assert not RunEvent.objects.exists()


def test_delete_asks_for_confirmation(make: MAKE, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make("completed")
    monkeypatch.setattr("builtins.input", lambda question: "n")
    train("delete", run.pk)
    assert TrainingRun.objects.exists()


def test_every_plain_verb_has_the_same_name_in_the_parser_and_takes_json(make: MAKE) -> None:
    run = make("failed")
    assert json.loads(train("retry", run.pk, "--json"))[0]["status"] == "queued"
    running = make("running")
    train("checkpoint", running.pk)
    train("evaluate", running.pk)
    running.refresh_from_db()
    assert [order["command"] for order in running.requests] == ["checkpoint", "evaluate"]


def test_clone_fork_epochs_and_update(admin: User, make: MAKE) -> None:
    run = make("completed", epoch=20, total_epochs=20)
    clone = json.loads(train("clone", run.pk, "--name", "again", "--json"))
    assert (clone["name"], clone["forked_from_id"], clone["owner"]) == ("again", run.pk, "root")
    with pytest.raises(CommandError, match="The run has no checkpoint yet"):
        train("fork", run.pk)
    with pytest.raises(CommandError, match="--checkpoint: The run has no such checkpoint"):
        train("fork", run.pk, "--checkpoint", "epoch_9.pt")
    run.checkpoints.create(
        file="epoch_5.pt",
        attempt=1,
        epoch=5,
        step=5,
        reason="epoch",
        size_bytes=1,
        is_best=True,
        created_at=run.created_at,
    )
    fork = json.loads(train("fork", run.pk, "--set", "learning_rate=0.01", "--json"))
    assert fork["forked_checkpoint"] == "epoch_5.pt"
    with pytest.raises(CommandError, match="--set: epochs: Must be at least 1"):
        train("fork", run.pk, "--set", "epochs=0")
    assert TrainingRun.objects.get(pk=fork["id"]).config["learning_rate"] == 0.01
    assert "is queued" in train("epochs", run.pk, 30)
    assert json.loads(train("update", run.pk, "--name", "renamed", "--json"))["name"] == "renamed"


def test_lists_are_filtered(make: MAKE) -> None:
    one, two = make("completed"), make("queued")
    run_verbs.update_run(one, name="needle")
    assert [run["id"] for run in json.loads(train("list", "--json", "--search", "needle"))] == [one.pk]
    assert [run["id"] for run in json.loads(train("list", "--json", "--limit", "1"))] == [two.pk]
    assert json.loads(train("list", "--json", "--owner", "nobody")) == []


@pytest.mark.parametrize(("status", "code"), [("failed", 3), ("stopped", 4), ("paused", 5)])
def test_the_exit_code_of_waiting_is_that_of_the_outcome(make: MAKE, status: str, code: int) -> None:
    with pytest.raises(CommandError) as caught:
        train("watch", make(status).pk, make("completed").pk)
    assert caught.value.returncode == code
    assert train("watch", make("completed").pk) == ""
    with pytest.raises(CommandError, match="never started"):
        train("watch", make("pending").pk)


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation", "instances"])
def test_the_template_is_a_complete_configuration(task: str) -> None:
    import yaml

    from trainingapp.contract.config import parse_config

    text = train("config", "--task", task)
    assert parse_config(yaml.safe_load(text)).task == task
    assert "# Number of passes over the training split." in text


def test_a_run_may_have_its_own_limits(admin: User, dataset: Dataset) -> None:
    limits = ("--soft-limit", 1.5, "--hard-limit", 3, "--recoveries", 0)
    created = json.loads(train("create", "mine", "--dataset", "pets", "--json", *limits))
    assert [created[name] for name in ("soft_limit_h", "hard_limit_h", "max_recoveries")] == [1.5, 3, 0]
    changed = json.loads(train("update", created["id"], "--hard-limit", "studio", "--recoveries", 2, "--json"))
    assert [changed[name] for name in ("soft_limit_h", "hard_limit_h", "max_recoveries")] == [1.5, None, 2]
    with pytest.raises(CommandError, match="must not be above hard_limit_h"):
        train("update", created["id"], "--soft-limit", 30)
    with pytest.raises(CommandError, match="Give --name"):
        train("update", created["id"])


def test_a_run_is_shared_as_on_its_page(run: TrainingRun) -> None:
    assert "its owner and administrators" in train("share", run.pk, "--with", "private")
    run.refresh_from_db()
    assert run.visibility == "private"
    with pytest.raises(CommandError, match="there is no team birds"):
        train("share", run.pk, "--team", "birds")
    Team.objects.create(name="birds").members.add(run.owner)
    assert "the team birds" in train("share", run.pk, "--team", "birds")
    run.refresh_from_db()
    assert (run.visibility, run.team.name if run.team else None) == ("team", "birds")


def test_the_script_of_a_run_is_printed(run: TrainingRun) -> None:
    text = train("script", run.pk)
    compile(text, "train.py", "exec")
    assert f'"epochs": {run.config["epochs"]},' in text


def test_a_template_for_an_unknown_network_is_refused() -> None:
    with pytest.raises(CommandError, match="--model: model: "):
        train("config", "--task", "detection", "--model", "resnet18")


def test_metrics_are_printed_without_superseded_points(run: TrainingRun) -> None:
    for seq, superseded in ((1, True), (2, False)):
        data = {"split": "val", "values": {"top1": seq / 4, "loss": 1.0}}
        store_events(run, {"type": "metrics", "epoch": 1, "step": 3, "data": data, "superseded": superseded})
    assert json.loads(train("metrics", run.pk, "--name", "top1", "--json")) == [
        {"epoch": 1, "step": 3, "split": "val", "values": {"top1": 0.5}}
    ]
    assert "top1 0.5" in train("metrics", run.pk)
    assert train("metrics", run.pk, "--split", "train") == ""
    heading, row = train("metrics", run.pk, "--csv").splitlines()
    assert heading == "seq,time,attempt,epoch,step,split,loss,top1"
    assert row.endswith(",1,3,val,1.0,0.5")
    with pytest.raises(CommandError, match="cannot be combined"):
        train("metrics", run.pk, "--csv", "--json")
    with pytest.raises(CommandError, match="no such evaluation"):
        train("evaluation", run.pk)


def test_metrics_are_written_for_tensorboard(run: TrainingRun, tmp_path: Path) -> None:
    store_events(run, {"type": "metrics", "epoch": 1, "step": 3, "data": {"split": "val", "values": {"top1": 0.5}}})
    assert train("metrics", run.pk, "--tensorboard", tmp_path / "board").endswith(" bytes.\n")
    (written,) = (tmp_path / "board").glob("events.out.tfevents.*")
    assert written.stat().st_size
