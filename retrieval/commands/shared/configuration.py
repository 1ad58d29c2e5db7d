"""Defaults of options from TOML files: the user's own, then the store's, which wins."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import platformdirs
from typer import BadParameter

from indexes.catalogue.database.consent import OWN_FILE, require_agreement
from indexes.errors import StoreError
from retrieval.commands.shared.arguments import spell, store_folder
from retrieval.common.errors import SettingError

CONFIG_FILE = "config.toml"


def user_file() -> Path:
    """Return the user's file: RETRIEVE_CONFIG, else `config.toml` in the user's configuration folder."""
    chosen = os.environ.get("RETRIEVE_CONFIG")
    return spell(Path(chosen)) if chosen else platformdirs.user_config_path("retrieve") / CONFIG_FILE


def configuration_files(store: Path) -> list[Path]:
    """Return the files that commands on this store read, in the order in which they are read."""
    return [file for file in (user_file(), store / CONFIG_FILE) if file.is_file()]


def read_defaults(commands: Mapping[str, Any], name: str, context: Any, store: str | None) -> dict[str, Any]:
    """Return the defaults of a command's options, by the names of its parameters.

    A file's values outside a table are for all commands that have the option, those in a table for the command of its
    name. `store` was given with the command. Raises SettingError.
    """
    options = {each: _options(command.params) for each, command in commands.items()}
    defaults = _read(user_file(), name, context, options)
    try:
        folder = store_folder(Path(chosen) if (chosen := store or defaults.get("store")) else None)
    except (FileNotFoundError, StoreError):  # the working folder was deleted; or the store is another user's
        return defaults
    for each in options.values():
        each.pop("store", None)  # the store's own file cannot choose it
        each.pop("trust", None)
    found = _read(folder / CONFIG_FILE, name, context, options)
    if any(_leads_elsewhere(options[name], each, value, context) for each, value in found.items()):
        require_agreement(folder, OWN_FILE, "has files, servers or models as defaults in")
    return defaults | found


def _leads_elsewhere(options: Mapping[str, Any], name: str, value: Any, context: Any) -> bool:
    """Return whether a value could name a file, a server or a model, as a store from elsewhere must not."""
    option = next(each for each in options.values() if each.name == name)
    if name in ("label", "folder", "since", "until"):
        return False
    return not isinstance(option.process_value(context, value), bool | int | float | Enum)


def _options(parameters: Iterable[Any]) -> dict[str, Any]:
    """Return a command's options by the long names that a person types."""
    return {name[2:]: each for each in parameters for name in each.opts if name.startswith("--")}


def _read(file: Path, command: str, context: Any, options: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the defaults that one file has for a command. Raises SettingError."""
    try:
        text = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        if file == user_file() and os.environ.get("RETRIEVE_CONFIG"):
            raise
        return {}
    import tomllib

    try:
        values = tomllib.loads(text.decode())
    except ValueError as error:
        raise SettingError(f"{file} is not valid TOML: {error}") from error
    tables = {name: value for name, value in values.items() if isinstance(value, dict)}
    for name, table in tables.items():
        if name not in options:
            raise SettingError(f"{file} has a table [{name}], but that is no command: `retrieve --help` lists them")
        for option in table.keys() - options[name].keys():
            raise SettingError(
                f"{file} sets {option} in [{name}], but that is no option there: {_remedy(option, name)}"
            )
    common = {name: value for name, value in values.items() if name not in tables}
    for option in common:
        if not any(option in each for each in options.values()):
            raise SettingError(f"{file} sets {option}, but no command has that option: {_remedy(option, 'COMMAND')}")
    chosen = {name: value for name, value in common.items() if name in options[command]} | tables.get(command, {})
    return dict(_check(file, options[command][name], name, value, context) for name, value in chosen.items())


def _remedy(option: str, command: str) -> str:
    if option.startswith("no-"):
        return f"write {option[3:]} = false"
    return f"`retrieve {command} --help` lists the options"


def _check(file: Path, option: Any, name: str, value: Any, context: Any) -> tuple[str, Any]:
    """Return the name of the parameter and its value, which must be one that the option takes. Raises SettingError."""
    if isinstance(value, str):
        value = os.path.expanduser(value)
    if option.multiple and not isinstance(value, list):
        value = [value]
    try:
        if not option.callback:  # which acts on the value
            option.process_value(context, value)
    except BadParameter as error:
        raise SettingError(f"{file} has a value of {name} that does not fit: {error.message}") from error
    return option.name, value
