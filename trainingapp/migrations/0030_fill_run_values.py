import math
from collections.abc import Iterator, Mapping

from django.db import migrations, transaction
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

BATCH = 100
NAME_LENGTH, TEXT_LENGTH = 64, 120


def values(given: Mapping[str, object]) -> Iterator[tuple[str, float | None, str]]:
    """What `models.run_value` listed when this migration was written."""
    for name, value in given.items():
        if len(name) > NAME_LENGTH or (name.startswith("train/") and name != "train/loss"):
            continue
        if isinstance(value, int | float) and math.isfinite(value):
            yield name, float(value), ""
        elif isinstance(value, str):
            yield name, None, value[:TEXT_LENGTH]


def fill(apps: StateApps, editor: BaseDatabaseSchemaEditor) -> None:
    """Copy the values of all runs, some runs at a time: each batch is a short transaction."""
    alias = editor.connection.alias
    run_values = apps.get_model("trainingapp", "RunValue").objects.using(alias)
    runs = apps.get_model("trainingapp", "TrainingRun").objects.using(alias).order_by("pk")
    last = 0
    while batch := list(runs.filter(pk__gt=last).only("config", "metrics")[:BATCH]):
        last = batch[-1].pk
        rows = [
            run_values.model(run_id=run.pk, name=name, number=number, text=text)
            for run in batch
            for name, number, text in values({**run.config, **run.metrics})
        ]
        with transaction.atomic(using=alias):
            run_values.filter(run__in=batch).delete()
            run_values.bulk_create(rows, batch_size=1000)


class Migration(migrations.Migration):
    """Fill the values of runs that lists sort and filter by. It may be repeated after an interruption."""

    atomic = False

    dependencies = [("trainingapp", "0029_run_values")]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
