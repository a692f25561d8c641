"""Turn a failed download of pre-trained weights into advice."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..errors import HubError, reason


@contextlib.contextmanager
def fetching(backbone: str, wanted: bool) -> Iterator[None]:
    """Wrap the creation of a network that may download its weights.

    Raises
    ------
    HubError
        If weights were wanted and could not be had; it says how to pass a local file.
    """
    try:
        yield
    except Exception as error:
        if not wanted or not isinstance(error, (OSError, RuntimeError)):
            raise
        raise HubError(
            f"the pre-trained weights of {backbone} could not be fetched: {reason(error).rstrip('.')}. "
            "Expected a network connection or a copy fetched before. Without them pass a local file "
            "(weights='file.safetensors', --weights FILE), or weights='random' for an untrained network."
        ) from error
