"""MovieLens to three tables and a YAML: the same door as any team's data.

Sources, whose licence forbids passing the files on (GroupLens; research use; Harper and Konstan 2015, TiiS 5(4) 19):

- MovieLens-1M, ``users.dat`` and ``movies.dat`` with ``ratings.dat`` (as published), or with ``ratings.csv``
  (``user_id,movie_id,rating,seq_pos``: the order per user is known, the timestamps are not);
- MovieLens-100k in RecBole's atomic files ``ml-100k.inter``, ``.user`` and ``.item``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from models.datasets.checksums import unexpected_checksums
from models.datasets.files import DataSetTables, write_data_set
from models.datasets.movielens_views import ML_1M_ORDER_ONLY, ML_1M_TIMESTAMPS, ML_100K

RATINGS_COLUMNS = ("user_id", "movie_id", "rating", "seq_pos")
INTER_COLUMNS = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
USER_COLUMNS = ("user_id:token", "age:token", "gender:token", "occupation:token", "zip_code:token")
ITEM_COLUMNS = ("item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq")
_ZIP_PREFIX = 3


class ConversionError(ValueError):
    """The source is not one of the known layouts, or a file of it is broken; the message names the file."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """Where the YAML was written, and what a user of the data should know."""

    views: Path
    notes: tuple[str, ...]


def convert_movielens(source: Path, out: Path) -> Conversion:
    """Convert whichever layout the folder ``source`` holds.

    Raises:
        ConversionError: none of the layouts is complete (the message lists what was looked for), or a file is broken.
    """
    for files, convert in LAYOUTS.items():
        if all((source / name).is_file() for name in files):
            return convert(source, out)
    looked_for = "; ".join(" + ".join(files) for files in LAYOUTS)
    raise ConversionError(f"{source}: no known layout. Looked for the files {looked_for}")


def convert_movielens_1m(source: Path, out: Path) -> Conversion:
    """MovieLens-1M with ``ratings.csv``: order without timestamps. Ratings whose order is unknown (-1) are dropped."""
    ratings = _read_separated(source / "ratings.csv", RATINGS_COLUMNS, ",")
    ratings = _cast(source / "ratings.csv", ratings, dict.fromkeys(RATINGS_COLUMNS, pl.Int64))
    ordered = ratings.filter(pl.col("seq_pos") >= 0)
    tables = DataSetTables(ordered, _read_users_1m(source), _read_movies_1m(source))
    dropped = ratings.height - ordered.height
    notes = [f"dropped {dropped:,} of {ratings.height:,} ratings: their place in the user's order is unknown (seq_pos -1)"]
    notes += unexpected_checksums(source, ("ratings.csv", "users.dat", "movies.dat"))
    return Conversion(write_data_set(tables, ML_1M_ORDER_ONLY, out), tuple(notes))


def convert_movielens_1m_published(source: Path, out: Path) -> Conversion:
    """MovieLens-1M with ``ratings.dat``, as GroupLens publishes it."""
    path = source / "ratings.dat"
    ratings = _read_dat(path, ("user_id", "movie_id", "rating", "timestamp"))
    ratings = _cast(path, ratings, dict.fromkeys(ratings.columns, pl.Int64))
    tables = DataSetTables(ratings, _read_users_1m(source), _read_movies_1m(source))
    notes = unexpected_checksums(source, ("users.dat", "movies.dat"))
    return Conversion(write_data_set(tables, ML_1M_TIMESTAMPS, out), tuple(notes))


def convert_movielens_100k(source: Path, out: Path) -> Conversion:
    """MovieLens-100k in RecBole's atomic files; timestamps are real, a movie's year may be unknown."""
    files = ("ml-100k.inter", "ml-100k.user", "ml-100k.item")
    inter = _read_separated(source / files[0], INTER_COLUMNS, "\t")
    ratings = inter.select(
        user_id="user_id:token", movie_id="item_id:token", rating="rating:float", timestamp="timestamp:float"
    )
    ratings = _cast(source / files[0], ratings, {"rating": pl.Float64, "timestamp": pl.Float64})
    user = _read_separated(source / files[1], USER_COLUMNS, "\t")
    users = user.select(
        user_id="user_id:token",
        gender="gender:token",
        age=pl.col("age:token").cast(pl.Int64, strict=False),
        occupation="occupation:token",
        zip_area=pl.col("zip_code:token").str.slice(0, _ZIP_PREFIX),
    )
    item = _read_separated(source / files[2], ITEM_COLUMNS, "\t")
    items = item.select(
        movie_id="item_id:token",
        title="movie_title:token_seq",
        genres=pl.col("class:token_seq").str.split(" "),
        year=pl.col("release_year:token").cast(pl.Int64, strict=False),
    )
    tables = DataSetTables(ratings, users, items)
    return Conversion(write_data_set(tables, ML_100K, out), tuple(unexpected_checksums(source, files)))


LAYOUTS: dict[tuple[str, ...], Callable[[Path, Path], Conversion]] = {
    ("ratings.csv", "users.dat", "movies.dat"): convert_movielens_1m,
    ("ratings.dat", "users.dat", "movies.dat"): convert_movielens_1m_published,
    ("ml-100k.inter", "ml-100k.user", "ml-100k.item"): convert_movielens_100k,
}
"""The files that make a layout, and what converts it; the first complete one is taken."""


def _read_users_1m(source: Path) -> pl.DataFrame:
    path = source / "users.dat"
    users = _read_dat(path, ("user_id", "gender", "age", "occupation", "zip"))
    users = _cast(path, users, {"user_id": pl.Int64})
    return users.select("user_id", "gender", "age", "occupation", zip_area=pl.col("zip").str.slice(0, _ZIP_PREFIX))


def _read_movies_1m(source: Path) -> pl.DataFrame:
    path = source / "movies.dat"
    movies = _cast(path, _read_dat(path, ("movie_id", "title", "genres")), {"movie_id": pl.Int64})
    return movies.select(
        "movie_id",
        title=pl.col("title").str.replace(r"\s*\(\d{4}\)\s*$", ""),
        genres=pl.col("genres").str.split("|"),
        year=pl.col("title").str.extract(r"\((\d{4})\)\s*$").cast(pl.Int64),
    )


def _read_dat(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    """Latin-1 lines of fields parted by ``::``, without a header."""
    try:
        with path.open(encoding="latin-1") as lines:
            rows = [line.rstrip("\n").split("::") for line in lines]
    except OSError as error:
        raise ConversionError(f"{path}: {error.strerror}") from None
    for number, row in enumerate(rows, start=1):
        if len(row) != len(columns):
            raise ConversionError(f"{path}, line {number}: {len(row)} fields; {'::'.join(columns)} is needed")
    return pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")


def _read_separated(path: Path, columns: Sequence[str], separator: str) -> pl.DataFrame:
    try:
        frame = pl.read_csv(path, separator=separator, infer_schema=False, quote_char=None, glob=False)
    except (PolarsError, OSError) as error:
        raise ConversionError(f"{path}: {str(error).splitlines()[0]}") from None
    if tuple(frame.columns) != tuple(columns):
        raise ConversionError(f"{path}: the header is {frame.columns}; {list(columns)} is needed")
    return frame


def _cast(path: Path, frame: pl.DataFrame, dtypes: dict[str, type[pl.DataType]]) -> pl.DataFrame:
    for name, dtype in dtypes.items():
        bad = frame[name].cast(dtype, strict=False).is_null().arg_true()
        if len(bad):
            raise ConversionError(f"{path}, row {bad[0] + 1}, column {name}: {frame[name][bad[0]]!r} is not a number")
    return frame.with_columns(pl.col(name).cast(dtype) for name, dtype in dtypes.items())
