"""The base of all sections: frozen values with a description for each key; what validates them is in `models.py`.

The keeper has its settings as these plain values: pydantic would be 10 MB of its memory (decision 0037).
"""

import dataclasses
from typing import Any, ClassVar, dataclass_transform

_DESCRIPTION = "description"


def Field(default: Any = dataclasses.MISSING, *, description: str) -> Any:  # noqa: N802 - as pydantic's, which reads it
    """Return a key of a section, required without a *default*; pages, schema and findings show its *description*."""
    metadata = {_DESCRIPTION: description}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


# Without field_specifiers: mypy would want each default by its name, and then knows which keys are required.
@dataclass_transform(kw_only_default=True, frozen_default=True)
class Section:
    """A table of the configuration. Annotations are names of `fields.py`, which only `models.py` looks up.

    An instance that no source gave is not validated: `models.validated` makes one from foreign values.
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        dataclasses.dataclass(frozen=True, kw_only=True)(cls)


def description_of(field: dataclasses.Field[Any]) -> str:
    """Return the description of a section's *field*."""
    return str(field.metadata[_DESCRIPTION])


def default_of(field: dataclasses.Field[Any]) -> Any:
    """Return the default of a section's *field*, `dataclasses.MISSING` if it is required."""
    factory = field.default_factory
    return field.default if factory is dataclasses.MISSING else factory()
