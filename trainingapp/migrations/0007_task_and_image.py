"""The field's standard terms: task for recipe, image for picture, in columns and in stored JSON."""

from collections.abc import Callable
from typing import Any

from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

BATCH = 500

NEW = {
    "recipe": "task",
    "recipes": "tasks",
    "picture": "image",
    "pictures": "images",
    "objects_per_picture": "objects_per_image",
    "pictures_per_s": "images_per_s",
}
CODES = {
    "missing_picture": "missing_image",
    "no_pictures": "no_images",
    "not_a_picture": "not_an_image",
    "unknown_picture": "unknown_image",
}


def keys(value: Any, names: dict[str, str]) -> Any:
    """`value` with its keys renamed, at any depth."""
    if isinstance(value, dict):
        return {names.get(key, key): keys(part, names) for key, part in value.items()}
    return [keys(part, names) for part in value] if isinstance(value, list) else value


def codes(report: Any, names: dict[str, str]) -> Any:
    if not isinstance(report, list):
        return report
    return [{**item, "code": names.get(item.get("code"), item.get("code"))} for item in report]


def rename(apps: Apps, key_names: dict[str, str], code_names: dict[str, str]) -> None:
    fields: dict[str, dict[str, Callable[[Any], Any]]] = {
        "TrainingRun": {"config": lambda value: keys(value, key_names)},
        "Weights": {"config": lambda value: keys(value, key_names), "report": lambda value: keys(value, key_names)},
        "Job": {"params": lambda value: keys(value, key_names), "result": lambda value: keys(value, key_names)},
        "Dataset": {
            "proposal": lambda value: (
                keys(value, key_names) | ({"report": codes(value["report"], code_names)} if "report" in value else {})
            ),
            "statistics": lambda value: keys(value, key_names),
            "report": lambda value: codes(value, code_names),
        },
    }
    for model, changes in fields.items():
        manager: Any = apps.get_model("trainingapp", model).objects
        rows = []
        for row in manager.only("pk", *changes).iterator(BATCH):
            for field, change in changes.items():
                setattr(row, field, change(getattr(row, field)))
            rows.append(row)
            if len(rows) == BATCH:
                manager.bulk_update(rows, list(changes))
                rows.clear()
        if rows:
            manager.bulk_update(rows, list(changes))


def forwards(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    rename(apps, NEW, CODES)


def backwards(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    rename(apps, {new: old for old, new in NEW.items()}, {new: old for old, new in CODES.items()})


class Migration(migrations.Migration):
    dependencies = [("trainingapp", "0006_roles")]

    operations = [
        migrations.RenameField("trainingrun", "recipe", "task"),
        migrations.RenameField("weights", "recipe", "task"),
        migrations.RenameField("dataset", "recipes", "tasks"),
        migrations.RenameField("dataset", "pictures", "images"),
        migrations.AlterField("trainingrun", "task", models.CharField(max_length=32, verbose_name="task")),
        migrations.AlterField("weights", "task", models.CharField(max_length=32, verbose_name="task")),
        migrations.AlterField("dataset", "tasks", models.JSONField(default=list, verbose_name="tasks")),
        migrations.AlterField("dataset", "images", models.JSONField(default=dict, verbose_name="images")),
        migrations.AlterField(
            "job",
            "kind",
            models.CharField(
                choices=[
                    ("preflight", "preflight"),
                    ("export", "export"),
                    ("predict", "prediction"),
                    ("predict_many", "prediction of many images"),
                    ("check_weights", "check of uploaded weights"),
                    ("save_weights", "copy into the library of weights"),
                ],
                max_length=16,
                verbose_name="kind",
            ),
        ),
        migrations.RunPython(forwards, backwards),
    ]
