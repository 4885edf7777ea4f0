"""Standard terms for requests and the resume check, and columns for messages as codes with parameters."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("trainingapp", "0007_task_and_image")]

    operations = [
        migrations.RenameField("trainingrun", "wanted", "requested_action"),
        migrations.RenameField("trainingrun", "wanted_at", "requested_at"),
        migrations.RenameField("trainingrun", "orders", "requests"),
        migrations.RenameField("trainingrun", "order_seq", "request_seq"),
        migrations.RenameField("trainingrun", "spoke_at", "last_event_at"),
        migrations.RenameField("trainingrun", "resume_proof", "resume_check"),
        migrations.AddField(
            model_name="checkpoint",
            name="damage_data",
            field=models.JSONField(blank=True, default=dict, verbose_name="damage data"),
        ),
        migrations.AddField(
            model_name="journalentry",
            name="message_data",
            field=models.JSONField(blank=True, default=dict, verbose_name="message data"),
        ),
        migrations.AddField(
            model_name="trainingrun",
            name="error_message_data",
            field=models.JSONField(blank=True, default=dict, verbose_name="error message data"),
        ),
        migrations.AlterField(
            model_name="trainingrun",
            name="last_event_at",
            field=models.DateTimeField(blank=True, null=True, verbose_name="last event of the trainer"),
        ),
        migrations.AlterField(
            model_name="trainingrun",
            name="request_seq",
            field=models.PositiveIntegerField(default=0, verbose_name="requests made"),
        ),
        migrations.AlterField(
            model_name="trainingrun",
            name="requested_action",
            field=models.CharField(
                blank=True,
                choices=[("", "nothing"), ("pause", "pause"), ("stop", "stop"), ("kill", "forced stop")],
                default="",
                max_length=16,
                verbose_name="requested action",
            ),
        ),
        migrations.AlterField(
            model_name="trainingrun",
            name="requested_at",
            field=models.DateTimeField(blank=True, null=True, verbose_name="requested at"),
        ),
        migrations.AlterField(
            model_name="trainingrun",
            name="requests",
            field=models.JSONField(blank=True, default=list, verbose_name="requests"),
        ),
        migrations.AlterField(
            model_name="trainingrun",
            name="resume_check",
            field=models.JSONField(blank=True, default=dict, verbose_name="resume check"),
        ),
    ]
