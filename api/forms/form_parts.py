"""The fields of a form: files, URLs of files, and text."""

from __future__ import annotations

from dataclasses import dataclass, field

from errors import InputError, OptionError
from storage.records import UploadedFile

_URL_SUFFIX = "_url"


@dataclass(frozen=True)
class FormShape:
    """Names of the fields that a form accepts."""

    files: frozenset[str]
    texts: frozenset[str]
    objects: frozenset[str] = frozenset()
    """Text fields that hold JSON objects; a JSON body contains them as objects."""

    @property
    def urls(self) -> dict[str, str]:
        """Names of URL fields, mapped to the names of their file fields."""
        return {name + _URL_SUFFIX: name for name in self.files}

    def check_name(self, name: str) -> None:
        """Check the name of a field.

        Raises:
            OptionError: The form has no such field.
        """
        if name not in (known := {*self.files, *self.texts, *self.urls}):
            raise OptionError(f"Unknown field {name[:80]!r}. Known fields: {', '.join(sorted(known))}.")


@dataclass
class Parts:
    """The content of a form, by field name."""

    files: dict[str, UploadedFile] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    def add_text(self, name: str, text: str, shape: FormShape) -> str:
        """Add a text field or URL and return its name (for a URL, that of the file). Empty values are dropped.

        Raises:
            OptionError: There are two URLs for one file.
            InputError: A file field contains text that is not a URL.
        """
        text = text.encode("utf-8", "replace").decode().strip()  # drops lone surrogates
        file_name = shape.urls.get(name, name)
        if not text:
            return file_name
        if file_name not in shape.files:
            self.texts[name] = text
            return name
        if name == file_name and "://" not in text:
            raise InputError(f"{name}: expected a file or a URL, found text.")
        if file_name in self.urls:
            raise OptionError(f"{file_name}: sent more than once. Send one file or one URL.")
        self.urls[file_name] = text
        return file_name
