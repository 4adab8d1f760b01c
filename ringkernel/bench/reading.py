"""JSON into the types of the model, every one checked by pydantic: what is in a file may be anything."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")


class UnreadableError(ValueError):
    """Something is not of the type that it should have; the message says where."""


def read(kind: type[T], text: str, what: str) -> T:
    """JSON, called `what` in errors, as a dataclass. Fields that this does not have are passed over.

    Raises:
        UnreadableError: For the first thing that is missing or of another type.
    """
    try:
        value: T = TypeAdapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        raise UnreadableError(_first(error, what)) from None
    return value


def _first(errors: Any, what: str) -> str:
    """The first of the errors, with its place: "report.cases[0].name is 1: Input should be a valid string"."""
    error = errors.errors(include_url=False)[0]
    place = what + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"])
    if error["type"] == "missing":
        return f"{place} is missing"
    return f"{place} is {error['input']!r:.80}: {error['msg']}"
