from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import django.db.models.deletion
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps


def mark(apps: StateApps, editor: BaseDatabaseSchemaEditor) -> None:
    """Mark the runs whose metrics are rows of events: they are converted later, in the background."""
    runs = apps.get_model("trainingapp", "TrainingRun").objects.using(editor.connection.alias)
    runs.filter(event_seq__gt=0).update(metrics_in_rows=True)


def rows_again(apps: StateApps, editor: BaseDatabaseSchemaEditor) -> None:
    """Store all metrics as rows of events, for a version that knows nothing else."""
    events = apps.get_model("trainingapp", "RunEvent").objects.using(editor.connection.alias)
    chunks = apps.get_model("trainingapp", "SeriesChunk").objects.using(editor.connection.alias)
    for number in chunks.order_by("pk").values_list("pk", flat=True).iterator():
        events.bulk_create(_rows(events.model, chunks.get(pk=number)), batch_size=500)


def _rows(event: type[models.Model], chunk: models.Model) -> Iterator[models.Model]:
    from trainingapp.contract.series import NO_NUMBER, decode

    frame = decode(chunk.data)
    for index in range(len(frame)):
        details = frame.details_at(index)
        epoch, step = int(frame.epoch[index]), int(frame.step[index])
        yield event(
            run_id=chunk.run_id,
            seq=int(frame.seq[index]),
            attempt=int(frame.attempt[index]),
            type="metrics",
            time=datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(frame.time_us[index])),
            epoch=None if epoch == NO_NUMBER else epoch,
            step=None if step == NO_NUMBER else step,
            data={"split": chunk.split, "values": frame.values_at(index), **details},
            superseded=chunk.superseded,
            is_evaluation=(chunk.split == "val" and "evaluation" in details) or None,
        )


class Migration(migrations.Migration):
    """A table of chunks of metrics. The metrics of existing runs stay rows of events until they are converted."""

    dependencies = [("trainingapp", "0017_run_updated")]

    operations = [
        migrations.AddField(
            "trainingrun",
            "metrics_in_rows",
            models.BooleanField(default=False, editable=False, verbose_name="metrics in the old form"),
        ),
        migrations.AddIndex(
            "trainingrun",
            models.Index(
                condition=models.Q(("metrics_in_rows", True)), fields=["event_seq"], name="run_metrics_in_rows"
            ),
        ),
        migrations.CreateModel(
            "SeriesChunk",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("attempt", models.PositiveIntegerField(verbose_name="attempt")),
                ("split", models.CharField(max_length=16, verbose_name="split")),
                ("superseded", models.BooleanField(default=False, verbose_name="superseded")),
                ("first_seq", models.PositiveBigIntegerField(verbose_name="first number")),
                ("last_seq", models.PositiveBigIntegerField(verbose_name="last number")),
                ("first_step", models.PositiveBigIntegerField(null=True, verbose_name="first step")),
                ("last_step", models.PositiveBigIntegerField(null=True, verbose_name="last step")),
                ("last_time", models.DateTimeField(verbose_name="time of the last point")),
                ("count", models.PositiveIntegerField(verbose_name="points")),
                ("summary", models.JSONField(default=dict, verbose_name="summary")),
                ("preview", models.BinaryField(default=b"", verbose_name="preview")),
                ("data", models.BinaryField(default=b"", verbose_name="points as bytes")),
                (
                    "run",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="series",
                        to="trainingapp.trainingrun",
                        verbose_name="run",
                    ),
                ),
            ],
            options={
                "verbose_name": "chunk of metrics",
                "verbose_name_plural": "chunks of metrics",
                "ordering": ["run_id", "first_seq"],
                "indexes": [
                    models.Index(fields=["run", "split", "first_seq"], name="series_run_split_seq"),
                    models.Index(fields=["run", "first_seq"], name="series_run_seq"),
                ],
            },
        ),
        migrations.RunPython(mark, rows_again),
    ]
