"""pydantic models of the sections: they validate, and nothing of them is in the settings that come of it."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Strict, create_model, model_validator
from pydantic import Field as ModelField
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from proxy.settings import field_types, fields
from proxy.settings.credential import PRESETS, CredentialSection
from proxy.settings.model import Settings
from proxy.settings.section import Section, default_of, description_of
from proxy.settings.stores import StoreUrl

_NAMES = {**vars(fields), **vars(field_types)}

_Section = TypeVar("_Section", bound=Section)


class _Model(BaseModel):
    """A table of the configuration: strict types, no unknown keys."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class _CredentialModel(_Model):
    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: Any) -> Any:
        """Add the flavor's presets for keys that are not configured."""
        if not isinstance(values, dict):
            return values
        flavor = values.get("flavor")
        values = {**(PRESETS.get(flavor, {}) if isinstance(flavor, str) else {}), **values}
        if not values.get("assertion_audience"):
            token_url = values.get("token_url", "")
            values["assertion_audience"] = token_url if isinstance(token_url, str) else ""
        return values


class _SettingsModel(BaseSettings):
    model_config = SettingsConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        hide_input_in_errors=True,
        case_sensitive=True,
        validate_default=False,  # defaults are sections and URLs already
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings names the parameters
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use only the values merged by `proxy.settings.sources`, which tracks origins and reports all faults."""
        return (init_settings,)


_BASES: Mapping[type[Section], type[BaseModel]] = {CredentialSection: _CredentialModel, Settings: _SettingsModel}
_MODELS: dict[type[Section], type[BaseModel]] = {}
_SECTIONS: dict[type[BaseModel], type[Section]] = {}


def model_of(section: type[Section]) -> type[BaseModel]:
    """Return the model that validates *section*; it has its keys, descriptions and defaults."""
    if section in _MODELS:
        return _MODELS[section]
    hints = get_type_hints(section, localns=_NAMES, include_extras=True)
    keys: dict[str, Any] = {}
    for field in dataclasses.fields(section):
        keys[field.name] = _validated_type(hints[field.name]), _model_field(field)
    model: type[BaseModel] = create_model(
        section.__name__, __base__=_BASES.get(section, _Model), __doc__=section.__doc__, **keys
    )
    _MODELS[section], _SECTIONS[model] = model, section
    return model


def validated(section: type[_Section], values: Mapping[str, Any]) -> _Section:
    """Return the *section* with *values*, as JSON and TOML have them; raises pydantic's ValidationError."""
    # Not model_validate, which reads no Settings: BaseSettings takes its values by its __init__ only.
    made = _plain(model_of(section)(**values))
    if not isinstance(made, section):
        raise TypeError(f"no {section.__name__}")
    return made


def _model_field(field: dataclasses.Field[Any]) -> Any:
    default, url = default_of(field), False
    if default is dataclasses.MISSING:
        default = ...
    elif isinstance(default, StoreUrl):
        default, url = str(default), True  # plain text for the schema, a StoreUrl when it is validated
    return ModelField(default, description=description_of(field), validate_default=url or None)


def _validated_type(annotation: Any) -> Any:
    """Return *annotation* with models for sections; TOML has lists only, so that of sections is read as a tuple."""
    if _is_section(annotation):
        return model_of(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is tuple and _is_section(arguments[0]):
        return Annotated[tuple.__class_getitem__((model_of(arguments[0]), ...)), Strict(strict=False)]
    if origin is dict and _is_section(arguments[1]):
        return dict.__class_getitem__((arguments[0], model_of(arguments[1])))
    return annotation


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _SECTIONS[type(value)](**{name: _plain(one) for name, one in value})
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return value
