from django.db import migrations, models


class Migration(migrations.Migration):
    """How a model converts images of more than 8 bits. Models of older versions use the upper 8 bits, as before."""

    dependencies = [("trainingapp", "0015_mark_evaluations")]

    operations = [
        migrations.AddField(
            "weights", "conversion", models.JSONField(blank=True, default=dict, verbose_name="conversion of images")
        )
    ]
