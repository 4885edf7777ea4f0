"""The notice about demo scenes that are being prepared."""

from django import template

from trainingapp.datasets.demo import is_preparing

register = template.Library()


@register.inclusion_tag("datasets/_preparing.html")
def demo_notice() -> dict[str, bool]:
    """The notice; nothing where no demo scenes are being prepared."""
    return {"is_preparing": is_preparing()}
