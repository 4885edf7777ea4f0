"""When old parts of the history of a run were removed. The columns are added in place."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("trainingapp", "0021_weights_aliases")]

    operations = [
        migrations.AddField(
            "trainingrun",
            f"{kind}_removed_at",
            models.DateTimeField(blank=True, editable=False, null=True, verbose_name=label),
        )
        for kind, label in (("series", "points removed"), ("logs", "log removed"), ("events", "events removed"))
    ]
