"""The job request of a form, for the API and for batches."""

from __future__ import annotations

from api.v1.protocol import JobForm
from jobs.job_request import Caller, JobRequest, JobRequestBuilder


def request_of_form(
    builder: JobRequestBuilder,
    caller: Caller,
    form: JobForm,
    *,
    job_id: str | None = None,
    admission_id: str | None = None,
    idempotency_key: str | None = None,
    request_digest: str | None = None,
    base_url: str = "",
) -> JobRequest:
    """Return the checked request of a form whose texts are spoken; see `JobRequestBuilder.build` for the rest."""
    return builder.build(
        caller,
        form,
        audio=form.speech,
        background_file=form.background_file,
        more_audio=form.more_audio,
        turns=form.turns,
        idle_mouths=form.idle_mouths,
        subtitles=form.subtitles_output,
        video=form.video,
        avatar_id=form.avatar_id,
        face_image=form.face_image,
        engine=form.engine,
        max_audio_stretch=form.max_audio_stretch,
        music=form.music,
        music_gain_db=form.music_gain_db,
        priority=form.priority if "priority" in form.model_fields_set else None,
        callback_url=form.callback_url,
        metadata=form.metadata,
        job_id=job_id,
        admission_id=admission_id,
        idempotency_key=idempotency_key,
        request_digest=request_digest,
        base_url=base_url,
    )
