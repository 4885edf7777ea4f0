"""Datasets for several recipes, inspected before they are imported."""

from typing import Any

from django.db import migrations, models


def fill(apps: Any, schema_editor: Any) -> None:
    """What was imported before was for classification, a class for each picture."""
    for dataset in apps.get_model("trainingapp", "Dataset").objects.iterator():
        dataset.recipes = [dataset.recipe]
        dataset.pictures = {split: sum(counts.values()) for split, counts in dataset.counts.items()}
        dataset.format = "class_folders"
        dataset.save(update_fields=["recipes", "pictures", "format"])


class Migration(migrations.Migration):
    dependencies = [("trainingapp", "0001_initial")]

    operations = [
        migrations.AddField("dataset", "recipes", models.JSONField(default=list, verbose_name="recipes")),
        migrations.AddField("dataset", "format", models.CharField(blank=True, max_length=32, verbose_name="format")),
        migrations.AddField("dataset", "proposal", models.JSONField(blank=True, default=dict, verbose_name="proposal")),
        migrations.AddField("dataset", "options", models.JSONField(blank=True, default=dict, verbose_name="options")),
        migrations.AddField("dataset", "pictures", models.JSONField(default=dict, verbose_name="pictures")),
        migrations.AddField(
            "dataset", "statistics", models.JSONField(blank=True, default=dict, verbose_name="statistics")
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
        migrations.RemoveField("dataset", "recipe"),
        migrations.AlterField(
            "dataset",
            "status",
            models.CharField(
                choices=[
                    ("inspecting", "inspecting"),
                    ("proposed", "waits for your word"),
                    ("importing", "importing"),
                    ("ready", "ready"),
                    ("refused", "refused"),
                ],
                default="importing",
                max_length=16,
                verbose_name="status",
            ),
        ),
    ]
