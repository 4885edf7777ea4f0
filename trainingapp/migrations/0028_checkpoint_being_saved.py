from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("trainingapp", "0027_device_job")]

    operations = [
        migrations.AddField(
            model_name="trainingrun",
            name="saving",
            field=models.CharField(blank=True, default="", max_length=120, verbose_name="checkpoint being saved"),
        ),
    ]
