"""Addresses of the queue and the devices."""

from django.urls import URLPattern, path

from trainingapp.views import devices, queue

urlpatterns: list[URLPattern] = [
    path("queue/", queue.queue_page, name="queue"),
    path("queue/<int:pk>/move/", queue.queue_move, name="queue_move"),
    path("queue/<int:pk>/priority/", queue.queue_priority, name="queue_priority"),
    path("devices/", devices.device_list, name="device_list"),
    path("devices/<int:pk>/quarantine/", devices.device_quarantine, name="device_quarantine"),
    path("devices/<int:pk>/release/", devices.device_release, name="device_release"),
]
