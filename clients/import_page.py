"""The page that takes a CSV file of clients: what it would make, or what is wrong line by line; then all, or none."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone

from clients.importing import COLUMNS, LARGEST, commit, read
from clients.models import ImportDraft

DRAFT_LASTS = timedelta(days=1)
_SHOWN = 200  # rows of the preview; all are judged


class FileForm(forms.Form):
    """The file."""

    file = forms.FileField(label="CSV file", max_length=200, widget=forms.FileInput(attrs={"accept": ".csv,text/csv"}))

    def clean_file(self) -> Any:
        """Refuse what is too large before it is read."""
        file = self.cleaned_data["file"]
        if file.size > LARGEST:
            raise ValidationError(f"The file is larger than {LARGEST // 2**20} MB: import it in parts.")
        return file


def import_view(model_admin: Any, request: HttpRequest) -> HttpResponse:
    """Show the form; with a file, what would come of it; with a draft's id, make the clients."""
    if not model_admin.has_add_permission(request):
        raise PermissionDenied
    if request.method == "POST" and "draft" in request.POST:
        return _confirm(model_admin, request)
    form = FileForm(request.POST or None, request.FILES or None)
    context: dict[str, Any] = {"form": form, "columns": COLUMNS}
    if request.method == "POST" and form.is_valid():
        file = form.cleaned_data["file"]
        content = file.read()
        preview = read(content)
        context |= {"preview": preview, "rows": preview.rows[:_SHOWN], "file_name": file.name}
        if not preview.problems:
            ImportDraft.objects.filter(created_at__lt=timezone.now() - DRAFT_LASTS).delete()
            context["draft"] = ImportDraft.objects.create(
                sender=request.user,  # type: ignore[misc]  # the admin lets nobody in who is not signed in
                file_name=file.name[:200],
                content=content,
            )
    return _page(model_admin, request, context)


def _confirm(model_admin: Any, request: HttpRequest) -> HttpResponse:
    try:
        draft_id = UUID(request.POST["draft"])
    except ValueError:
        raise Http404 from None
    draft = ImportDraft.objects.filter(pk=draft_id, sender=request.user.pk).first()  # nobody sends another's
    if draft is None:
        messages.error(request, "This import was made already, or waited for more than a day. Send the file again.")
        return HttpResponseRedirect(reverse("admin:clients_client_import"))
    preview = read(bytes(draft.content))  # judged anew: plans and names may have changed meanwhile
    try:
        made = commit(preview, request.user)  # type: ignore[arg-type]  # as above
    except ValidationError as error:
        context = {"form": FileForm(), "columns": COLUMNS, "preview": preview, "file_name": draft.file_name}
        return _page(model_admin, request, context | {"error": " ".join(error.messages)})
    draft.delete()
    messages.success(request, f"{len(made)} client{'s'[: len(made) != 1]} imported. Give them keys from their pages.")
    return HttpResponseRedirect(reverse("admin:clients_client_changelist"))


def _page(model_admin: Any, request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    whole = model_admin.admin_site.each_context(request) | {"opts": model_admin.opts, "title": "Import clients"}
    return TemplateResponse(request, "admin/clients/client/import.html", whole | context)
