"""Imports and previews of batches become kinds of jobs, which hold their lease and progress.

A dataset that version 0.1 was importing is left without a job: a worker creates it, see `datasets/imports.py`.
"""

import django.db.models.deletion
from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

NEW_KINDS = ("batch_preview", "inspect_dataset", "import_dataset")


def remove_new_kinds(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Version 0.1 does not know these jobs; it takes up an unfinished import by the status of its dataset."""
    apps.get_model("trainingapp", "Job").objects.filter(kind__in=NEW_KINDS).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("trainingapp", "0008_requests_and_messages"),
    ]

    operations = [
        migrations.RemoveField(
            model_name="dataset",
            name="heartbeat_at",
        ),
        migrations.RemoveField(
            model_name="dataset",
            name="progress_done",
        ),
        migrations.RemoveField(
            model_name="dataset",
            name="progress_total",
        ),
        migrations.AddField(
            model_name="dataset",
            name="job",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="trainingapp.job",
                verbose_name="job",
            ),
        ),
        migrations.AddField(
            model_name="job",
            name="message_data",
            field=models.JSONField(blank=True, default=dict, verbose_name="message data"),
        ),
        migrations.AddField(
            model_name="weights",
            name="problem_data",
            field=models.JSONField(blank=True, default=dict, verbose_name="problem data"),
        ),
        migrations.AlterField(
            model_name="job",
            name="kind",
            field=models.CharField(
                choices=[
                    ("preflight", "preflight"),
                    ("export", "export"),
                    ("predict", "prediction"),
                    ("predict_many", "prediction of many images"),
                    ("check_weights", "check of an uploaded model"),
                    ("save_weights", "save as a model"),
                    ("batch_preview", "preview of a training batch"),
                    ("inspect_dataset", "inspection of a dataset"),
                    ("import_dataset", "import of a dataset"),
                ],
                max_length=16,
                verbose_name="kind",
            ),
        ),
        migrations.AlterField(
            model_name="job",
            name="state",
            field=models.CharField(
                choices=[
                    ("waiting", "waiting"),
                    ("working", "in progress"),
                    ("done", "done"),
                    ("failed", "failed"),
                    ("cancelled", "cancelled"),
                ],
                default="waiting",
                max_length=16,
                verbose_name="state",
            ),
        ),
        migrations.RunPython(migrations.RunPython.noop, remove_new_kinds),
    ]
