"""Path templates of google.api.http: `/v1/{name=datasets/*/branches/*}:verb`, to regex and back.

Grammar: google/api/http.proto. `*` is one segment, `**` any number, `{field}` means `{field=*}`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import quote, unquote

_VARIABLE = re.compile(r"\{([^}=]+)(?:=([^}]+))?\}")


@dataclass(frozen=True)
class PathTemplate:
    """One template.

    Args:
        text: Such as `/v1/{parent=datasets/*}/branches`.
    """

    text: str

    @cached_property
    def variables(self) -> dict[str, str]:
        """Field path → pattern, in order."""
        return {m.group(1): m.group(2) or "*" for m in _VARIABLE.finditer(self.text)}

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """Regular expression over a whole path, one group per variable."""
        parts, end = [], 0
        for match in _VARIABLE.finditer(self.text):
            parts.append(re.escape(self.text[end : match.start()]))
            parts.append(f"({_pattern(match.group(2) or '*')})")
            end = match.end()
        parts.append(re.escape(self.text[end:]))
        return re.compile("".join(parts))

    def match(self, path: str) -> dict[str, str] | None:
        """Return field path → value when the path is of this template (percent-encoding undone)."""
        found = self.regex.fullmatch(path)
        if found is None:
            return None
        return {field: unquote(value) for field, value in zip(self.variables, found.groups(), strict=True)}

    def expand(self, values: Mapping[str, str]) -> str:
        """Return the path that holds the values; the inverse of `match`."""
        return _VARIABLE.sub(lambda m: quote(values[m.group(1)], safe="/"), self.text)

    @cached_property
    def order(self) -> tuple[int, int]:
        """Sorts templates so that the more literal one is tried first."""
        return (-len(_VARIABLE.sub("", self.text)), len(self.variables))

    def openapi(self) -> tuple[str, dict[str, str]]:
        """Return the path with one plain parameter per `*`, and what each stands for.

        `/v1/{name=datasets/*/branches/*}` becomes `/v1/datasets/{dataset}/branches/{branch}`, as OpenAPI
        has no parameters with slashes.
        """
        parameters: dict[str, str] = {}

        def plain(match: re.Match[str]) -> str:
            pattern = match.group(2)
            if not pattern:
                parameters[match.group(1)] = match.group(1)
                return "{" + match.group(1) + "}"
            return _named(pattern, match.group(1), parameters)

        return _VARIABLE.sub(plain, self.text), parameters


def _pattern(pattern: str) -> str:
    segments = {"**": ".+", "*": "[^/:]+"}
    return "/".join(segments.get(segment, re.escape(segment)) for segment in pattern.split("/"))


def _named(pattern: str, field: str, parameters: dict[str, str]) -> str:
    out, last = [], field.rpartition(".")[2]
    for segment in pattern.split("/"):
        if segment.startswith("*"):
            name = _singular(last)
            parameters[name] = field
            out.append("{" + name + "}")
        else:
            out.append(segment)
            last = segment
    return "/".join(out)


def _singular(word: str) -> str:
    if word.endswith("ches"):
        return word[:-2]
    return word[:-1] if word.endswith("s") else word
