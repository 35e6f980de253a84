"""Checks the storage of uploads, jobs and results."""

from __future__ import annotations

from config import PipelineConfig
from doctor.check_result import CheckResult, ok, problem, size, warning
from doctor.machine import file_system
from errors import LipwrightError
from storage.state import cache_folder, check_files_access


def check_files(config: PipelineConfig) -> CheckResult:
    """Checks that files can be written to the bucket, read and deleted, if one is configured."""
    if config.files is None:
        return ok("in the data folder")
    try:
        check_files_access(config)
    except LipwrightError as error:
        fix = (
            "Make the bucket, give the key of AWS_ACCESS_KEY_ID the right to list, read, write and delete in it, or "
            "correct args: files."
        )
        return problem(str(error), "a bucket that this service can use", fix)
    return ok(f"in {config.files.partition('?')[0]}")


def check_cache(config: PipelineConfig) -> CheckResult:
    """Checks free space for files that this machine fetches from the bucket."""
    folder, wanted = cache_folder(config), config.bucket.max_cache_bytes
    free = file_system(folder).free_bytes
    found = f"{size(free)} free for {folder}, which holds cached files and uploads in progress"
    if free < wanted:
        fix = "Free disk space, set another folder (bucket.cache_dir), or cache less (bucket.max_cache_bytes)."
        return warning(found, f"{size(wanted)} (bucket.max_cache_bytes)", fix)
    return ok(found)
