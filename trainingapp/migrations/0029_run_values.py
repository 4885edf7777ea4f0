import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """A table of the values of runs that lists sort and filter by. The next migration fills it."""

    dependencies = [("trainingapp", "0028_checkpoint_being_saved")]

    operations = [
        migrations.CreateModel(
            "RunValue",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=64, verbose_name="name")),
                ("number", models.FloatField(null=True, verbose_name="number")),
                ("text", models.CharField(blank=True, max_length=120, verbose_name="text")),
                (
                    "run",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="values",
                        to="trainingapp.trainingrun",
                        verbose_name="run",
                    ),
                ),
            ],
            options={
                "verbose_name": "value of a run",
                "verbose_name_plural": "values of runs",
                "indexes": [models.Index(fields=["name", "number", "run", "text"], name="value_by_number")],
                "constraints": [models.UniqueConstraint(fields=["run", "name"], name="value_of_run")],
            },
        ),
    ]
