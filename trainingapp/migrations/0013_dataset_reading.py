from django.db import migrations, models


class Migration(migrations.Migration):
    """How the source of a dataset was read. Nothing is known of datasets of older versions."""

    dependencies = [("trainingapp", "0012_dataset_label_mode")]

    operations = [
        migrations.AddField(
            "dataset", "reading", models.JSONField(blank=True, default=dict, verbose_name="how the source was read")
        )
    ]
