"""Lists of jobs: what they show, page by page, and filtered."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import httpx

from tests.unit.api.edge_client import post, problem
from tests.unit.api_server import MemoryService


class TestLists:
    def test_names_words_and_whole_dates(self, http: httpx.Client) -> None:
        post(http, headers={}, metadata='{"order": "17"}')
        (job,) = http.get("/v1/jobs").json()["jobs"]
        assert (job["inputs"]["audio"], job["inputs"]["source"]) == ("a talk.wav", "face.mp4")
        assert job["metadata"] == {"order": "17"}
        assert datetime.fromisoformat(job["created_at"]).utcoffset() == timedelta(0)

    def test_list_jobs_has_summaries(self, http: httpx.Client, service: MemoryService) -> None:
        turns = json.dumps([{"start": number, "end": number + 0.5, "face": "person:1"} for number in range(5000)])
        job = post(http, headers={}, turns=turns).json()
        listed = http.get("/v1/jobs").raise_for_status()
        (summary,) = listed.json()["jobs"]
        assert summary.keys() == job.keys() - {"options", "report", "callback", "watermark_id"}
        assert job["links"].items() - summary["links"].items() == {
            ("subtitles", None),
            ("turns", f"{job['links']['self']}/turns"),
        }
        assert len(listed.content) < 1500 < 500_000 < len(http.get(job["links"]["self"]).content)

    def test_pages_stay_as_they_are_while_jobs_come_and_go(self, http: httpx.Client, service: MemoryService) -> None:
        ids = [post(http, headers={}).json()["id"] for _ in range(5)][::-1]
        first = http.get("/v1/jobs", params={"limit": 2}).json()
        post(http, headers={})
        service.table.delete_job(ids[1])  # the last of the page
        second = http.get("/v1/jobs", params={"limit": 2, "after": first["next_after"]}).json()
        last = http.get("/v1/jobs", params={"limit": 2, "after": second["next_after"]}).json()
        pages = [[job["id"] for job in page["jobs"]] for page in (first, second, last)]
        assert pages == [ids[:2], ids[2:4], ids[4:]] and last["next_after"] is None

    def test_filters(self, http: httpx.Client, service: MemoryService) -> None:
        ids = [
            post(http, headers={}, metadata=json.dumps(words)).json()["id"]
            for words in ({"order": "17"}, {"order": "17", "it's": 'a "b"'}, {"order": "18"}, {})
        ]
        service.finish(ids[0])

        def listed(**query: str) -> list[str]:
            return [job["id"] for job in http.get("/v1/jobs", params=query).raise_for_status().json()["jobs"]]

        assert listed(metadata='{"order": "17"}') == ids[1::-1]
        assert listed(metadata=json.dumps({"order": "17", "it's": 'a "b"'})) == [ids[1]]
        assert listed(metadata='{"order": "17"}', status="queued") == [ids[1]]
        assert listed(metadata='{"17": "order"}') == []
        for wrong in ("17", '{"a": 1}'):
            assert (
                "metadata" in problem(http.get("/v1/jobs", params={"metadata": wrong}), 422, "option_invalid")["detail"]
            )
