"""Swagger's form on /docs, in a real browser."""

from __future__ import annotations

from pathlib import Path

from tests.browser import Visitor, chromium
from tests.unit.api_server import MemoryService, serving


def test_docs_try_it_out_face_and_speech_makes_job(tmp_path: Path) -> None:
    service = MemoryService(tmp_path / "data")
    files = {"audio": tmp_path / "talk.wav", "video": tmp_path / "face.mp4"}
    for path in files.values():
        path.write_bytes(bytes(900))
    with chromium() as browser, serving(service) as url:
        visitor = Visitor(browser, f"{url}/docs")
        operation = visitor.page.locator("#operations-jobs-submit_job")
        operation.locator(".opblock-summary-control").click()
        operation.locator(".try-out__btn").click()
        for name, path in files.items():
            operation.locator(f"tr[data-property-name={name}] input[type=file]").set_input_files(path)
        rows = operation.locator("tr[data-property-name]").all()
        fields = [row.locator("input:not([type=checkbox]):not([type=file]), select, textarea").all() for row in rows]
        filled = {field.input_value() for each in fields for field in each} - {"", "{}"}
        assert len(rows) > 40 and filled == set()
        with visitor.page.expect_response("**/v1/jobs*") as answer:
            operation.locator("button.execute").click()
        assert answer.value.status == 202, answer.value.text()
        assert len(service.requests) == 1 and visitor.errors == []
