"""The base class of all sections."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A table of the configuration: strict types, no unknown keys, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)
