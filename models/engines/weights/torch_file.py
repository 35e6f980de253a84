"""Reads the shapes in a file of `torch.save` with `torch.load(weights_only=True)`, without reading the numbers.

PyTorch is imported in the reading process only, so what a pickle asks for stays there.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from typing import Any, BinaryIO, Final

from lipwright.errors import WeightsError
from models.engines.protocol import TensorTable
from models.engines.weights.formats import READER_MEMORY_BYTES, Contents, bare_names, bound_memory, find_state_dict

_MAX_ENTRIES: Final = 100_000
_MAX_PICKLE_BYTES: Final = 64 * 1024**2  # ten thousand tensors take two
_GLOBAL: Final = re.compile(r"GLOBAL (\S+)")


def check_torch_zip(file: BinaryIO, num_bytes: int) -> None:
    """Refuse an archive that `torch.save` did not write, or that unpacks to more than it is.

    Raises:
        WeightsError: It is such an archive, or is damaged.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise WeightsError("expected a whole torch file, found a zip archive that is truncated or damaged") from error
    names = [entry.filename for entry in entries]
    pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
    if any(name.endswith("/constants.pkl") for name in names):
        raise WeightsError("expected tensors alone, found a TorchScript program: save its state_dict()")
    if len(pickles) != 1 or len(entries) > _MAX_ENTRIES:
        raise WeightsError(f"expected a torch file, found a zip archive of {', '.join(names[:3])} ({len(names)} files)")
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise WeightsError(
                f"expected entries that are stored as they are, found {entry.filename}, "
                f"{entry.compress_size} bytes that unpack to {entry.file_size}"
            )
    total = sum(entry.file_size for entry in entries)
    if total > num_bytes or pickles[0].file_size > _MAX_PICKLE_BYTES:
        raise WeightsError(
            f"expected entries of together at most {num_bytes} bytes and a pickle of at most {_MAX_PICKLE_BYTES}, "
            f"found {total} and {pickles[0].file_size}"
        )


def read_torch(file: BinaryIO, num_bytes: int, *, is_zip: bool) -> Contents:
    """Return the shapes of all parameters.

    `is_zip`: it is the archive that `torch.save` has written since 1.6, not the bare pickle of before.

    Raises:
        WeightsError: It holds more than tensors, is damaged, or has no parameters.
    """
    import torch

    # From here on the file determines how much memory is requested. An archive is mapped as a whole, page by page as
    # needed.
    bound_memory(READER_MEMORY_BYTES + (num_bytes if is_zip else 0))
    # By number: a path that ends in .safetensors would be read by another library.
    path = f"/proc/self/fd/{file.fileno()}"
    # On "meta" an old file's tensors are read one at a time and dropped. An archive's would not be compared with
    # their records there; mapped to memory they are, and no page is touched.
    place: dict[str, Any] = {"map_location": "cpu", "mmap": True} if is_zip else {"map_location": "meta"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            checkpoint = torch.load(path, weights_only=True, **place)
        except MemoryError:
            raise
        except Exception as error:  # a damaged pickle can make the unpickler raise anything
            raise WeightsError(_fault(str(error))) from error
    shapes = {
        name: tuple(int(length) for length in value.shape)
        for name, value in find_state_dict(checkpoint).items()
        if isinstance(value, torch.Tensor)
    }
    if not shapes:
        keys = ", ".join(map(repr, list(find_state_dict(checkpoint))[:5])) or "nothing"
        raise WeightsError(f"expected a dict of tensors, found one of {keys}")
    return Contents(TensorTable("torch", bare_names(shapes)))


def _fault(message: str) -> str:
    if found := _GLOBAL.search(message):
        return f"expected tensors alone, found a pickle that asks for {found[1]}, which it was not given"
    if "can't allocate" in message:
        return "expected tensors that fit into the bytes of the file, found one that claims more memory"
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    reason = lines[0][:200].rstrip(".") if lines else "no reason given"
    return f"expected a torch file of tensors, torch cannot read it: {reason}"
