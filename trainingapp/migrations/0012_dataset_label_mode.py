from django.db import migrations, models


class Migration(migrations.Migration):
    """Whether the images of a dataset have one label or several. Datasets of older versions have one."""

    dependencies = [("trainingapp", "0011_plain_labels")]

    operations = [
        migrations.AddField(
            "dataset",
            "label_mode",
            models.CharField(
                choices=[("single", "one label per image"), ("multi", "several labels per image")],
                default="single",
                max_length=8,
                verbose_name="labels",
            ),
        ),
    ]
