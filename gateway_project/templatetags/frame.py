"""What templates of ours need to sit in unfold's frame."""

from django import template
from django.forms import BoundField, CheckboxInput, Select, Textarea
from django.utils.safestring import SafeString
from unfold.widgets import CHECKBOX_CLASSES, INPUT_CLASSES, SELECT_CLASSES, TEXTAREA_CLASSES

from gateway_project.navigation import sidebar_words

register = template.Library()


@register.filter
def sidebar_word(title: object) -> object:
    """Return what the sidebar calls it, if it is in there."""
    return sidebar_words().get(str(title), title)


@register.simple_tag
def field_in_frame(field: BoundField) -> SafeString:
    """Return the input of a form that is not unfold's, such as allauth's, in unfold's clothes."""
    match field.field.widget:
        case CheckboxInput():
            classes = CHECKBOX_CLASSES
        case Select():
            classes = SELECT_CLASSES
        case Textarea():
            classes = TEXTAREA_CLASSES
        case _:
            classes = INPUT_CLASSES
    return field.as_widget(attrs={"class": " ".join(classes)})
