"""What the user may change in the preprocessing that a backbone brings along."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..errors import InputError


@dataclass(frozen=True)
class InputOverrides:
    """Changes to an input specification; ``None`` keeps what the backbone brings along.

    Parameters
    ----------
    mean, std, size, crop, interpolation, decode
        Of images; see :class:`topwork.ImageSpec`.
    max_length : int or None
        Of texts, in tokens.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: int | tuple[int, int] | None = None
    crop: float | None = None
    interpolation: str | None = None
    decode: str | None = None
    max_length: int | None = None

    def require_only(self, *names: str, kind: str) -> None:
        """Raise an error if something is set that inputs of this kind do not have.

        Raises
        ------
        InputError
        """
        for field in fields(self):
            if field.name not in names and getattr(self, field.name) is not None:
                takes = f"it takes {', '.join(names)}" if names else "it takes none of these"
                raise InputError(f"{field.name} does not apply to a backbone that eats {kind}s; {takes}")
