"""The headings, captions and labels of the page in all its languages. They are in one file, `catalogue.toml`."""

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

LANGUAGES = ("en", "ar")

CATALOGUE_PATH = Path(__file__).with_name("catalogue.toml")

ISOLATED = "\u2066{}\u2069"
"""A number or a Latin name inside Arabic text keeps its order: left-to-right isolate, pop. [Unicode UAX 9]"""

Text = Mapping[str, str]
"""The same text in each language."""


def text(key: str, **values: object) -> Text:
    """Return the text of a key, with `values` in the places that it names.

    Raises:
        KeyError: there is no such key, or the text needs another value.
    """
    return {language: _filled(language, catalogue()[key][language], values) for language in LANGUAGES}


def plain(words: object) -> Text:
    """Return words that are the same in each language, such as a name or a number."""
    return dict.fromkeys(LANGUAGES, str(words))


@cache
def catalogue() -> dict[str, Text]:
    """Return all texts by key: `kernels.title`."""
    return dict(_flat(tomllib.loads(CATALOGUE_PATH.read_text(encoding="utf-8"))))


def _flat(tables: dict[str, dict[str, dict[str, str]]]) -> Iterator[tuple[str, Text]]:
    for group, texts in tables.items():
        for name, languages in texts.items():
            yield f"{group}.{name}", languages


def _filled(language: str, template: str, values: Mapping[str, object]) -> str:
    isolated = {name: ISOLATED.format(value) if language == "ar" else value for name, value in values.items()}
    return template.format_map(isolated)
