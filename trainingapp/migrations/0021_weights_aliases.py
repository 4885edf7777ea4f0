"""Aliases of models. Models have had versions before: what was saved under one name keeps its numbers."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("trainingapp", "0020_copied_columns")]

    operations = [
        migrations.CreateModel(
            name="WeightsAlias",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=120, verbose_name="name")),
                ("alias", models.CharField(max_length=40, verbose_name="alias")),
                ("moved_at", models.DateTimeField(auto_now=True, verbose_name="set")),
                (
                    "weights",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="aliases",
                        to="trainingapp.weights",
                        verbose_name="version",
                    ),
                ),
            ],
            options={
                "verbose_name": "alias",
                "verbose_name_plural": "aliases",
                "ordering": ["alias"],
                "constraints": [models.UniqueConstraint(fields=("name", "alias"), name="weights_alias")],
            },
        ),
    ]
