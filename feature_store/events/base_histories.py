"""Which of the tables' events came by the log, and what the tables hold beside these. Offline only: Polars is imported here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from feature_store.events.event import LoggedEvent
from feature_store.events.live_rows import LiveRow
from feature_store.events.served import BaseHistory
from feature_store.tables import HISTORY_EVENT, ITEM_KEY, TIME, USER_KEY, EntityTables

_EVENT = (USER_KEY, ITEM_KEY, TIME)
_NTH = "@nth"
_PLACE = "@place"


class TableEvents:
    """The tables' history events of the users whom the log names, held against the logged ones (same user, item and time)."""

    def __init__(self, tables: EntityTables, events: Sequence[LoggedEvent]) -> None:
        live = _frame(events)
        self._table = (
            tables.interactions.lazy()
            .filter(pl.col(HISTORY_EVENT))
            .select(USER_KEY, ITEM_KEY, pl.col(TIME).cast(pl.Float64))
            .join(live.lazy().select(USER_KEY).unique(), on=USER_KEY, how="semi", maintain_order="left")
            .sort(TIME, maintain_order=True)
            .with_columns(
                pl.int_range(pl.len()).over(USER_KEY).alias(_PLACE),
                pl.int_range(pl.len()).over(*_EVENT).alias(_NTH),
            )
            .collect()
        )
        entered = live.filter("entered").with_columns(pl.int_range(pl.len()).over(*_EVENT).alias(_NTH)).select(*_EVENT, _NTH)
        self._entered = entered
        self._twice = set(live.join(self._table, on=_EVENT, how="semi")["index"].to_list())

    def beside_the_log(self, length: int) -> dict[str, BaseHistory]:
        """By user: the newest ``length`` of the tables' events that did not enter live, and the places of those that did."""
        match = [*_EVENT, _NTH]
        logged: dict[str, dict[tuple[str, float], int]] = {}
        for user, item, time, place in self._table.join(self._entered, on=match, how="semi").drop(_NTH).iter_rows():
            logged.setdefault(user, {})[item, time] = place
        newest = (
            self._table.join(self._entered, on=match, how="anti", maintain_order="left")
            .group_by(USER_KEY, maintain_order=True)
            .agg(pl.col(ITEM_KEY, TIME, _PLACE).tail(length), pl.len().alias("count"))
        )
        found = {user: BaseHistory(items, times, places, count) for user, items, times, places, count in newest.iter_rows()}
        for user, places in logged.items():
            found[user] = replace(found.get(user, BaseHistory()), logged_places=places)
        return found

    def once(self, rows: Sequence[LiveRow]) -> list[LiveRow]:
        """The events' rows, those that the tables hold as well no history for later rows: there they are it already."""
        return [replace(row, in_history=False) if place in self._twice else row for place, row in enumerate(rows)]


def _frame(events: Sequence[LoggedEvent]) -> pl.DataFrame:
    rows = [(each.event.user_id, each.event.item_id, each.event.time, each.entered) for each in events]
    schema = {USER_KEY: pl.String, ITEM_KEY: pl.String, TIME: pl.Float64, "entered": pl.Boolean}
    return pl.DataFrame(rows, schema=schema, orient="row").with_row_index()
