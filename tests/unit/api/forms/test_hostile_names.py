"""File names that want out: of the folder, of the header, of the page. Each is a label and nothing else."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import httpx
import pytest

from tests.unit.api_server import MemoryService, serving

NAMES = [
    *(
        "../../../../tmp/eval_pwned.mp4",
        "..\\..\\eval_pwned.mp4",
        "/tmp/eval_pwned.mp4",
        "a\x00b.mp4",
        "лицо 脸 😀.mp4",
    ),
    *("\u202egpj.4pm", "x" * 4000 + ".mp4", "a'; touch /tmp/eval_pwned; '.mp4", "$(touch /tmp/eval_pwned).mp4"),
    *("`touch /tmp/eval_pwned`.mp4", "-y.mp4", "file:x.mp4", "concat:a|b.mp4", "%2e%2e%2f%2e%2e%2feval_pwned.mp4"),
    *("a\r\nSet-Cookie: x=1.mp4", 'a"b.mp4', "<img src=x onerror=alert(1)>.mp4", "", ".", "..", "CON", "face_%05d.mp4"),
    *("a\nb.mp4", " .mp4", "face.mp4/", "\ud83d.mp4", "e\u0301.mp4", "api_keys.json", "../jobs.sqlite3"),
]


def _body(name: bytes) -> bytes:
    """A form as it comes over the wire, the name neither checked nor escaped."""
    head = b'--x\r\ncontent-disposition: form-data; name="video"; filename="' + name + b'"\r\n\r\n'
    return head + b"mp4!" * 100 + b"\r\n--x--\r\n"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("escape", [False, True])
def test_a_name_is_a_harmless_label(tmp_path: Path, name: str, escape: bool) -> None:
    sent = re.sub('[\r\n"]', lambda char: f"%{ord(char[0]):02X}", name) if escape else name  # as browsers do
    service = MemoryService(tmp_path / "data")
    with serving(service) as url:
        answer = httpx.post(
            f"{url}/v1/avatars",
            content=_body(sent.encode("utf-8", "surrogatepass")),
            headers={"content-type": "multipart/form-data; boundary=x"},
            timeout=60,
            trust_env=False,
        )
    assert "set-cookie" not in answer.headers
    assert answer.status_code in (202, 422), answer.text
    if answer.status_code == 202:
        label = answer.json()["label"]
        assert not set(label) & set("/\\<>\"'`$|;%:")
        assert not [char for char in label if unicodedata.category(char).startswith("C")]
        assert len(label) <= 120
    folders = {path.relative_to(tmp_path / "data") for path in (tmp_path / "data").rglob("*") if path.is_file()}
    named = {
        path for path in folders if not re.fullmatch(r"avatars/[0-9a-f]{32}/source|jobs\.sqlite3.*|\.\w+", str(path))
    }
    assert named == set()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
