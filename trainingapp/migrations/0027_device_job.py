import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("trainingapp", "0026_intervals_job"),
    ]

    operations = [
        migrations.AddField(
            model_name="device",
            name="job",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="devices",
                to="trainingapp.job",
                verbose_name="job",
            ),
        ),
    ]
