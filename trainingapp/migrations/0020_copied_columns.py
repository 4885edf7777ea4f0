import math

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

#: column -> the JSON column and the key that it repeats.
NUMBERS = {
    "val_loss": ("metrics", "val/loss"),
    "learning_rate": ("config", "learning_rate"),
    "batch_size": ("config", "batch_size"),
    "image_size": ("config", "image_size"),
}
BATCH = 500


def number(value: object) -> object:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if is_number else None


def copy(apps: StateApps, editor: BaseDatabaseSchemaEditor) -> None:
    """Fill the copied columns, some runs at a time: each is a short transaction."""
    runs = apps.get_model("trainingapp", "TrainingRun").objects.using(editor.connection.alias).order_by("pk")
    last = 0
    while batch := list(runs.filter(pk__gt=last).only("config", "metrics")[:BATCH]):
        for run in batch:
            run.architecture = str(run.config.get("model") or "")[:120]
            for column, (source, key) in NUMBERS.items():
                setattr(run, column, number(getattr(run, source).get(key)))
        runs.bulk_update(batch, ["architecture", *NUMBERS])
        last = batch[-1].pk


class Migration(migrations.Migration):
    """Copy what lists sort by into columns. It may be repeated after an interruption."""

    atomic = False

    dependencies = [("trainingapp", "0019_organizing_runs")]

    operations = [migrations.RunPython(copy, migrations.RunPython.noop)]
