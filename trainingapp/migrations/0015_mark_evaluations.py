from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps


def mark(apps: StateApps, editor: BaseDatabaseSchemaEditor) -> None:
    """Mark the events with an evaluation, run by run: each run is a short transaction of its own."""
    events = apps.get_model("trainingapp", "RunEvent").objects.using(editor.connection.alias)
    runs = apps.get_model("trainingapp", "TrainingRun").objects.using(editor.connection.alias)
    for number in runs.order_by("pk").values_list("pk", flat=True).iterator(chunk_size=1000):
        validations = events.filter(run_id=number, type="metrics", data__split="val", data__evaluation__isnull=False)
        validations.filter(is_evaluation=None).update(is_evaluation=True)


class Migration(migrations.Migration):
    """Mark the events of validations that have an evaluation file. It may be repeated after an interruption."""

    atomic = False

    dependencies = [("trainingapp", "0014_indexes_of_long_lists")]

    operations = [migrations.RunPython(mark, migrations.RunPython.noop)]
