"""What a form may have and what it holds: files, URLs in place of files, and text."""

from __future__ import annotations

from dataclasses import dataclass, field

from errors import InputError, OptionError
from storage.records import UploadedFile

_URL_SUFFIX = "_url"


@dataclass(frozen=True)
class FormShape:
    """Names of the parts that a form may have."""

    files: frozenset[str]
    texts: frozenset[str]
    objects: frozenset[str] = frozenset()
    """Of the texts, those that are JSON objects: a JSON body holds them as such."""

    @property
    def urls(self) -> dict[str, str]:
        """The field of a file's URL to the field of the file."""
        return {name + _URL_SUFFIX: name for name in self.files}

    def check_name(self, name: str) -> None:
        """Refuse a field that the form does not have.

        Raises:
            OptionError: There is no such field.
        """
        if name not in (known := {*self.files, *self.texts, *self.urls}):
            raise OptionError(f"Unknown field {name[:80]!r}; expected some of {', '.join(sorted(known))}.")


@dataclass
class Parts:
    """What a form holds, by the names of the form's fields."""

    files: dict[str, UploadedFile] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    def add_text(self, name: str, text: str, shape: FormShape) -> str:
        """Take a text field for what it is and return its name, for a URL that of the file. Empty ones are dropped.

        Raises:
            OptionError: There are two URLs for one file.
            InputError: There is text in the field of a file, and it is no URL.
        """
        text = text.encode("utf-8", "replace").decode().strip()  # half a surrogate pair cannot be stored or shown
        file_name = shape.urls.get(name, name)
        if not text:
            return file_name
        if file_name not in shape.files:
            self.texts[name] = text
            return name
        if name == file_name and "://" not in text:
            raise InputError(f"{name}: expected a file or a URL, got text.")
        if file_name in self.urls:
            raise OptionError(f"{file_name}: expected a file or one URL, got more than one of them.")
        self.urls[file_name] = text
        return file_name
