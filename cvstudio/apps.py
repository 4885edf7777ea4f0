"""Django's own apps as the studio configures them."""

from django.contrib.admin.apps import AdminConfig


class StudioAdminConfig(AdminConfig):
    """The admin with the studio's site: who may enter is said by permissions.py."""

    default_site = "trainingapp.accounts.admin_site.StudioAdminSite"
