"""The views of exported tables: the team's own, but for where the tables lie and what the new columns say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from feature_store.views import Condition, FeatureViews

TABLES = {name: f"{name}.parquet" for name in ("interactions", "users", "items")}
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class ExportNames:
    """Columns of the exported interactions: two new ones, and each context field's by the field's name."""

    in_history: str
    served: str
    context: Mapping[str, str]


def export_names(views: FeatureViews, present: Collection[str]) -> ExportNames:
    """Names that collide with nothing; ``present`` are the columns of the team's table.

    A context field keeps its column unless something else is read from it or an event writes it: the values that a request
    brought must not mix with those. The two new columns of an earlier export are used again.
    """
    read = _columns_read(views)
    context_sources = Counter(field.source for field in views.context)
    taken = {*present, *read, *context_sources}
    history_again = views.history.where == Condition(column="in_history") and "in_history" not in {*read, *context_sources}
    in_history = "in_history" if history_again else _free("in_history", taken)
    served = views.interactions.served_history
    if served is None or served in context_sources or read[served] > 1:
        served = _free("served_history", taken | {in_history})
    context: dict[str, str] = {}
    for field in views.context:
        alone = context_sources[field.source] == 1 and field.source not in read
        context[field.name] = field.source if alone else _free(f"context:{field.name}", taken | set(context.values()))
    return ExportNames(in_history, served, context)


def exported_views_data(views: FeatureViews, names: ExportNames) -> dict[str, Any]:
    """What ``exported_views_text`` writes, as plain data: only what the team wrote, and what the export changes."""
    data: dict[str, Any] = views.model_dump(mode="json", exclude_unset=True)
    data["tables"] = dict(TABLES)
    data["interactions"]["served_history"] = names.served
    data["history"] = {**data.get("history", {}), "where": {"column": names.in_history}}
    for field in data.get("context", []):
        if names.context[field["name"]] != (field.get("column") or field["name"]):
            field["column"] = names.context[field["name"]]
    return data


def views_text(data: Mapping[str, Any]) -> str:
    """YAML that ``load_views`` reads as just this data: texts that could be taken for something else are quoted."""
    return yaml.dump(dict(data), Dumper=_QuotingDumper, sort_keys=False, allow_unicode=True, width=120)


def _columns_read(views: FeatureViews) -> Counter[str]:
    """How often each column of interactions is used, context fields and the replaced ``history.where`` aside."""
    rows = views.interactions
    roles = [views.user.key, views.item.key, rows.time, rows.request, rows.served_history]
    written = {column for kind in (views.events.types if views.events else ()) for column in kind.columns}
    return Counter([*(role for role in roles if role is not None), *(label.column for label in views.labels), *written])


def _free(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name += "_"
    return name


class _QuotingDumper(yaml.SafeDumper):
    """PyYAML quotes what YAML 1.1 would take for something else than text; the project reads 1.2, where these differ."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the base class names it
        return True


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if _PLAIN.fullmatch(text) else '"')


_QuotingDumper.add_representer(str, _text_node)
