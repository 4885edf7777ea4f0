"""Template filters for roles and the audit trail."""

from django import template

from trainingapp.accounts.permissions import is_administrator
from trainingapp.presentation.audit_text import audit_details, audit_kind, audit_verb, role_label

register = template.Library()
for read in (audit_details, audit_kind, audit_verb, role_label, is_administrator):
    register.filter(read)
