"""Addresses of notifications and webhooks."""

from django.urls import URLPattern, path

from trainingapp.views import notifications, webhooks

urlpatterns: list[URLPattern] = [
    path("notifications/", notifications.notification_list, name="notification_list"),
    path("notifications/read/", notifications.notifications_read, name="notifications_read"),
    path("notifications/<int:pk>/", notifications.notification_open, name="notification_open"),
    path("notifications/settings/", notifications.notification_settings, name="notification_settings"),
    path("notifications/webhooks/new/", webhooks.webhook_new, name="webhook_new"),
    path("notifications/webhooks/<int:pk>/", webhooks.webhook_detail, name="webhook"),
    path("notifications/webhooks/<int:pk>/test/", webhooks.webhook_test, name="webhook_test"),
    path("notifications/webhooks/<int:pk>/delete/", webhooks.webhook_delete, name="webhook_delete"),
]
