"""``topwork cache …``: the user's cache folder."""

from __future__ import annotations

from ...errors import CacheError
from .options import JsonOption
from .output import echo, print_json


def verify(as_json: JsonOption = False) -> None:
    """Check every entry of the cache against its SHA-256, and that nobody else can change it.

    Damaged entries are made anew when they are needed. The exit code is 3 if there are some.
    """
    from ...extract.graphs.cache_check import verify_cache
    from ...user_cache import user_cache_folder

    folder = user_cache_folder()
    found = verify_cache()
    if as_json:
        print_json({"folder": str(folder), **found})
    unusable = [*found["damaged"], *found["unsafe"]]
    if unusable:
        raise CacheError(
            f"{len(found['damaged'])} entries of the cache {folder} are damaged, and {len(found['unsafe'])} belong to "
            f"other users or can be changed by them: {', '.join(unusable)}. Damaged ones are made anew when they are "
            "needed; remove the others."
        )
    if not as_json:
        echo(f"{folder}: all {len(found['intact'])} entries match their SHA-256")
        if found["unsealed"]:
            echo(f"{len(found['unsealed'])} entries without a SHA-256, of earlier versions, are not used")
