"""Checks where jobs and files are stored, and the folder to which Ray spills objects."""

from __future__ import annotations

import stat
import tempfile
from pathlib import Path
from typing import Final

from lipwright.config import PipelineConfig
from lipwright.doctor.machine import file_system
from lipwright.doctor.report import CheckResult, ok, problem, size, warning
from lipwright.errors import LipwrightError
from lipwright.storage.state import cache_folder, check_files_access, open_database

# https://www.sqlite.org/wal.html: all processes must share memory, so WAL does not work over a network.
_NETWORK_KINDS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "lustre", "afs", "fuse.sshfs", "fuse.s3fs"}
)
_RAY_FULL_SHARE: Final = 0.95  # RAY_local_fs_capacity_threshold: above it Ray stops creating objects


def check_data_folder(data_dir: Path, mounts: Path = Path("/proc/mounts"), holds_table: bool = True) -> CheckResult:
    """Checks that the data folder is writable, and that its job table can be locked if it `holds_table`."""
    lies_in = file_system(data_dir, mounts)
    found = f"{data_dir} on {lies_in.kind}" + ("" if data_dir.exists() else " (created at the first start)")
    try:
        with tempfile.TemporaryFile(dir=lies_in.path):
            pass
    except OSError as error:
        fix = f"Give this user access to {lies_in.path} (chown), or use another folder: --data-dir."
        return problem(f"{found}: {error.strerror}", "a folder that this user can write to", fix)
    if data_dir.exists() and (mode := stat.S_IMODE(data_dir.stat().st_mode)) & 0o077:
        fix = f"chmod 700 {data_dir}; the service does so at its next start if the folder belongs to its user."
        if mode & stat.S_ISVTX:
            fix = "Use a folder of the service alone (--data-dir); this one is for all users."
        expected = "mode 0700: uploads and results are in it"
        return warning(f"{found}, which other users can enter (mode {mode:04o})", expected, fix)
    if holds_table and lies_in.kind in _NETWORK_KINDS:
        fix = "Use a local folder (--data-dir), or keep the job table in PostgreSQL (`state` in args)."
        return warning(found, "a local file system: SQLite's WAL needs shared memory", fix)
    return ok(found)


def check_free_space(data_dir: Path, min_free_bytes: int) -> CheckResult:
    """Checks free space for uploads, segments and results."""
    free = file_system(data_dir).free_bytes
    found = f"{size(free)} free for {data_dir}, of which {size(min_free_bytes)} are kept free (jobs.min_free_bytes)"
    fix = (
        "Free disk space, use another folder (--data-dir), or keep finished jobs for a shorter time (jobs.retention_s)."
    )
    if free <= min_free_bytes:
        return problem(f"{found}: every job is refused", f"more than {size(min_free_bytes)}", fix)
    if free < 2 * min_free_bytes:
        return warning(found, f"{size(2 * min_free_bytes)}", fix)
    return ok(found)


def check_spill_folder(ray_dir: Path, store_bytes: int) -> CheckResult:
    """Checks free space for Ray's logs and for objects that it spills when its object store is full."""
    lies_in = file_system(ray_dir)
    used_share = 1 - lies_in.free_bytes / max(1, lies_in.total_bytes)
    found = f"{ray_dir}: {size(lies_in.free_bytes)} free, {used_share:.0%} in use"
    fix = f"Free disk space on {lies_in.path}, or start with TMPDIR on a larger disk."
    if used_share > _RAY_FULL_SHARE:
        expected = f"at most {_RAY_FULL_SHARE:.0%} in use: above it Ray does not spill objects"
        return problem(found, expected, fix)
    if lies_in.free_bytes < store_bytes:
        return warning(found, f"{size(store_bytes)}, as much as the object store", fix)
    return ok(found)


def check_state(state: str | None) -> CheckResult:
    """Checks that the job table is reachable; opening it creates or migrates the tables."""
    if state is None:
        return ok("SQLite in the data folder")
    try:
        database = open_database(state)
        (row,) = database.query("SELECT current_database() AS name, current_setting('server_version') AS version")
        database.close()
    except LipwrightError as error:
        fix = "Start the database, or correct `state` in args. The password comes from PGPASSWORD, .pgpass or the URL."
        return problem(str(error), "a PostgreSQL that accepts this user", fix)
    return ok(f"PostgreSQL {row['version']}, database {row['name']}")


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
