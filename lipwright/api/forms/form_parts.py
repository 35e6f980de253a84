"""The fields of a form: files, URLs of files, and text."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Final

from lipwright.errors import InputError, OptionError
from lipwright.jobs.model.base import UploadedFile

MORE_AUDIO: Final = r"audio_[A-Za-z0-9_-]{1,32}(?<!_url)"
"""Names of the fields that are collected in the field `more_audio` of a form."""
_URL_SUFFIX: Final = "_url"
_MAX_FILES: Final = 100  # all are open until the body ends; the forms accept fewer
MAX_TEXT_BYTES: Final = 4096
"""Maximum size of a text field without a limit of its own, and of the URL of a file."""
_MAX_SMALL_BYTES: Final = 65536


@dataclass(frozen=True)
class FileFields(Container[str]):
    """Names of the fields that hold files.

    Attributes:
        names: Those with a fixed name.
        has_more: Whether there are fields `audio_NAME` too.
    """

    names: frozenset[str]
    has_more: bool = False

    def __contains__(self, name: object) -> bool:
        return name in self.names or (
            self.has_more and isinstance(name, str) and re.fullmatch(MORE_AUDIO, name) is not None
        )

    def __len__(self) -> int:
        """Number of files to expect; the additional ones count as one."""
        return len(self.names) + self.has_more


def check_num_files(num_files: int) -> None:
    """Raise OptionError if a form has too many files."""
    if num_files > _MAX_FILES:
        raise OptionError(f"Expected at most {_MAX_FILES} files, found more.")


@dataclass(frozen=True)
class FormFields:
    """Names of the fields that a form accepts."""

    files: FileFields
    texts: Mapping[str, int]
    """Maximum size of each text field, in bytes."""
    objects: frozenset[str]
    """Text fields that hold JSON objects or arrays; a JSON body contains them as such."""

    def file_of(self, name: str) -> str:
        """Return the name of the file of a field that holds a file or its URL; of another field, its own name."""
        file_name = name.removesuffix(_URL_SUFFIX)
        return file_name if file_name in self.files else name

    def check_name(self, name: str) -> None:
        """Check the name of a field.

        Raises:
            OptionError: The form has no such field.
        """
        if name not in self.texts and self.file_of(name) not in self.files:
            known = sorted({*self.texts, *self.files.names, *(each + _URL_SUFFIX for each in self.files.names)})
            more = ", audio_NAME, audio_NAME_url" if self.files.has_more else ""
            raise OptionError(f"Unknown field {name[:80]!r}. Known fields: {', '.join(known)}{more}.")

    def max_bytes(self, name: str) -> int:
        """Return the maximum size of a text field."""
        return self.texts.get(name, MAX_TEXT_BYTES)

    @property
    def max_small_bytes(self) -> int:
        """Maximum size of a JSON body without its files."""
        return _MAX_SMALL_BYTES + max(self.texts.values(), default=0)

    def content(self, files: Mapping[str, UploadedFile], texts: Mapping[str, str]) -> dict[str, object]:
        """Return the fields of a form as its model has them: additional files are in `more_audio`."""
        more = {name: file for name, file in files.items() if name not in self.files.names}
        fields: dict[str, object] = {name: file for name, file in files.items() if name not in more}
        return {**fields, **texts, **({"more_audio": more} if more else {})}


@dataclass
class Parts:
    """The content of a form, by field name."""

    files: dict[str, UploadedFile] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    def add_text(self, name: str, text: str, accepted: FormFields) -> str:
        """Add a text field or URL and return its name (for a URL, that of the file). Empty values are dropped.

        Raises:
            OptionError: There are two URLs for one file.
            InputError: A file field contains text that is not a URL.
        """
        text = text.encode("utf-8", "replace").decode().strip()  # drops lone surrogates
        file_name = accepted.file_of(name)
        if not text:
            return file_name
        if file_name not in accepted.files:
            self.texts[name] = text
            return name
        if name == file_name and "://" not in text:
            raise InputError(f"{name}: expected a file or a URL, found text.")
        if file_name in self.urls:
            raise OptionError(f"{file_name}: sent more than once. Send one file or one URL.")
        self.urls[file_name] = text
        return file_name
