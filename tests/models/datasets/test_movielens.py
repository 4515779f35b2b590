"""The MovieLens converters, on made files in the layouts of the real ones."""

import polars as pl
import pytest

from feature_store.tables import ITEM_KEY, TIME, USER_KEY, label_column, read_tables
from feature_store.views import load_views
from models.datasets.movielens import ConversionError, convert_movielens

USERS_DAT = "1::F::1::10::48067\n2::M::56::16::7\n"
MOVIES_DAT = "1::Toy Story (1995)::Animation|Children's|Comedy\n2::Misérables, Les (1998)::Drama\n3::No year\x85::Drama|War\n"
RATINGS_CSV = "user_id,movie_id,rating,seq_pos\n1,1,5,1\n1,2,3,0\n2,1,4,0\n2,3,2,-1\n"
RATINGS_DAT = "1::1::5::978300760\n1::2::3::978302109\n2::1::4::978301968\n"
INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t2\t3\t881250949\n2\t1\t4\t891717742\n"
USER = (
    "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n1\t24\tM\tother\t85711\n2\t53\tF\tnone\tT8H1N\n"
)
ITEM = (
    "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    "1\tToy Story\t1995\tAnimation Children's\n2\tA \"quoted, title\tunkonwn\tunknown\n"
)


def folder_of(tmp_path, **files):
    """A source folder; names have ``_`` for the dot's place."""
    source = tmp_path / "source"
    source.mkdir()
    for name, text in files.items():
        path = source / name.replace("ml100k_", "ml-100k.").replace("_", ".")
        path.write_bytes(text.encode("latin-1"))
    return source


def ml_1m(tmp_path, **changes):
    return folder_of(tmp_path, **{"users_dat": USERS_DAT, "movies_dat": MOVIES_DAT, "ratings_csv": RATINGS_CSV, **changes})


def ml_100k(tmp_path, **changes):
    return folder_of(tmp_path, **{"ml100k_inter": INTER, "ml100k_user": USER, "ml100k_item": ITEM, **changes})


def converted(source, tmp_path):
    conversion = convert_movielens(source, tmp_path / "out" / "deep")
    views = load_views(conversion.views)
    return conversion, views, read_tables(views, conversion.views.parent)


def test_movielens_1m_keeps_each_users_order_and_drops_what_has_none(tmp_path):
    conversion, views, tables = converted(ml_1m(tmp_path), tmp_path)
    assert conversion.notes[0].startswith("dropped 1 of 4 ratings")
    assert (views.split.by, views.history.length) == ("position", 50)
    assert tables.interactions.select(USER_KEY, ITEM_KEY, TIME, label_column("like")).rows() == [
        ("1", "1", 1, 1.0),
        ("1", "2", 0, 0.0),
        ("2", "1", 0, 1.0),
    ]


def test_movielens_1m_entities_get_area_genres_and_year(tmp_path):
    _, _, tables = converted(ml_1m(tmp_path), tmp_path)
    assert tables.users.rows() == [("1", "F", "1", "10", "480"), ("2", "M", "56", "16", "7")]
    assert tables.items.select(ITEM_KEY, "genres", "year").rows() == [
        ("1", ["Animation", "Children's", "Comedy"], 1995.0),
        ("2", ["Drama"], 1998.0),
        ("3", ["Drama", "War"], None),
    ]
    titles = pl.read_parquet(tmp_path / "out" / "deep" / "items.parquet")["title"].to_list()
    assert titles == ["Toy Story", "Misérables, Les", "No year\x85"]


def test_movielens_1m_as_published_keeps_its_timestamps(tmp_path):
    source = folder_of(tmp_path, users_dat=USERS_DAT, movies_dat=MOVIES_DAT, ratings_dat=RATINGS_DAT)
    _, views, tables = converted(source, tmp_path)
    assert tables.interactions[TIME].to_list() == [978300760, 978302109, 978301968]
    assert views.split.by == "position"


def test_movielens_100k_is_split_by_its_timestamps_and_may_lack_a_year(tmp_path):
    _, views, tables = converted(ml_100k(tmp_path), tmp_path)
    assert views.split.by == "time"
    assert tables.users.rows() == [("1", "M", 24.0, "other", "857"), ("2", "F", 53.0, "none", "T8H")]
    assert tables.items.select("genres", "year").rows() == [(["Animation", "Children's"], 1995.0), (["unknown"], None)]
    assert tables.interactions[TIME].to_list() == [881250949.0, 891717742.0]


def test_a_file_other_than_the_known_one_is_a_warning_that_names_it(tmp_path):
    notes = converted(ml_1m(tmp_path), tmp_path)[0].notes
    assert [note.split()[1] for note in notes if note.startswith("warning: ")] == ["ratings.csv", "users.dat", "movies.dat"]


def test_a_folder_of_no_known_layout_hears_what_was_looked_for(tmp_path):
    with pytest.raises(ConversionError) as refused:
        convert_movielens(folder_of(tmp_path, users_dat=USERS_DAT), tmp_path / "out")
    for name in ("ratings.csv", "ratings.dat", "users.dat", "movies.dat", "ml-100k.inter", "ml-100k.user", "ml-100k.item"):
        assert name in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"ratings_csv": "user,movie\n1,2\n"}, r"ratings\.csv: the header is \['user', 'movie'\]"),
        ({"ratings_csv": RATINGS_CSV.replace("3,0", "x,0")}, r"ratings\.csv, row 2, column rating: 'x' is not a number"),
        ({"ratings_csv": RATINGS_CSV + "1,2,3,4,5\n"}, r"ratings\.csv: "),
        ({"ratings_csv": ""}, r"ratings\.csv: empty"),
        ({"users_dat": USERS_DAT + "3::M\n"}, r"users\.dat, line 3: 2 fields; user_id::gender::age::occupation::zip is needed"),
        ({"movies_dat": "x::y::z\n"}, r"movies\.dat, row 1, column movie_id: 'x' is not a number"),
    ],
)
def test_a_broken_file_is_named_with_its_row(tmp_path, files, reason):
    with pytest.raises(ConversionError, match=reason):
        convert_movielens(ml_1m(tmp_path, **files), tmp_path / "out")


def test_a_broken_timestamp_of_movielens_100k_is_named(tmp_path):
    source = ml_100k(tmp_path, ml100k_inter=INTER.replace("891717742", "later"))
    with pytest.raises(ConversionError, match=r"ml-100k\.inter, row 2, column timestamp: 'later' is not a number"):
        convert_movielens(source, tmp_path / "out")
