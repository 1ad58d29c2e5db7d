"""Times and places of EXIF as cameras and programs write them."""

import io
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from retrieval.model.decoding.metadata import gps_position, taken_at

TAKEN, DIGITISED, CHANGED = 36867, 36868, 306
BLANK = ("", "0000:00:00 00:00:00", "    :  :     :  :  ", "\0" * 19, "    ", "?", "2024:13:01 00:00:00", b"")
MOMENTS = st.datetimes(datetime(1826, 1, 1), datetime(2200, 1, 1)).map(lambda time: time.replace(microsecond=0))


def exif_of(times: dict[int, Any], gps: dict[int, Any] | None = None) -> Image.Exif:
    """Return EXIF as it is read back from a file."""
    exif = Image.Exif()
    for tag, time in times.items():
        (exif if tag == CHANGED else exif.get_ifd(0x8769))[tag] = time
    exif.get_ifd(0x8825).update(gps or {})
    out = io.BytesIO()
    Image.new("L", (1, 1)).save(out, "JPEG", exif=exif)
    return Image.open(out).getexif()


@settings(deadline=None, max_examples=60)
@given(
    MOMENTS,
    st.sampled_from([":-/.", "-::", "/::", ".::"]),
    st.sampled_from([" ", "T", "  "]),
    st.sampled_from(["", ".5", ".123456", ",25", "Z", "+02:00", "-0930", " +01:00", ".75Z", "\0", "  ", "\0junk"]),
    st.booleans(),
)
def test_a_time_is_read_in_any_spelling(moment: datetime, marks: str, between: str, after: str, raw: bool) -> None:
    date = moment.strftime(f"%Y{marks[0]}%m{marks[0]}%d").rjust(10, "0")
    written = f"{date}{between}{moment:%H:%M:%S}{after}"
    found = taken_at(exif_of({TAKEN: written.encode() if raw else written}))
    assert found == moment.isoformat()


def test_a_time_without_seconds_begins_its_minute() -> None:
    assert taken_at(exif_of({TAKEN: "2024:05:06 07:08"})) == "2024-05-06T07:08:00"


@pytest.mark.parametrize("blank", BLANK, ids=repr)
def test_a_blank_time_does_not_hide_the_next(blank: Any) -> None:
    assert taken_at(exif_of({TAKEN: blank, DIGITISED: "2020:01:02 03:04:05"})) == "2020-01-02T03:04:05"
    assert taken_at(exif_of({TAKEN: blank, DIGITISED: blank, CHANGED: "2019:01:02 03:04:05"})) == "2019-01-02T03:04:05"
    assert taken_at(exif_of({TAKEN: blank, DIGITISED: blank, CHANGED: blank})) is None


NORTH = ("N", "n", "North", "NORTH", b"N", " N", "N\0", "N ")
SOUTH = ("S", "s", "South", "SOUTH", b"S", " S", "S\0", "south")
EAST, WEST = ("E", "e", "East", b"E", "E\0"), ("W", "w", "West", b"W", " w")
PLACES = {1: "N", 2: (33.0, 51.0, 36.0), 3: "E", 4: (151.0, 12.0, 30.0)}


@settings(deadline=None, max_examples=40)
@given(st.sampled_from((*NORTH, *SOUTH)), st.sampled_from((*EAST, *WEST)))
def test_hemispheres_are_read_in_any_spelling(north_south: Any, east_west: Any) -> None:
    latitude, longitude = gps_position(exif_of({}, PLACES | {1: north_south, 3: east_west}))
    assert latitude == pytest.approx(33.86 * (-1 if north_south in SOUTH else 1))
    assert longitude == pytest.approx((151 + 12.5 / 60) * (-1 if east_west in WEST else 1))


@pytest.mark.parametrize("reference", ["", "\0", "?", "X", b"", "E"], ids=repr)
def test_without_a_hemisphere_there_is_no_place(reference: Any) -> None:
    assert gps_position(exif_of({}, PLACES | {1: reference})) == (None, None)


def test_seconds_that_were_not_measured_are_none() -> None:
    nothing = IFDRational(0, 0)
    latitude, _ = gps_position(exif_of({}, PLACES | {2: (IFDRational(33), IFDRational(51), nothing)}))
    assert latitude == pytest.approx(33.85)
    assert gps_position(exif_of({}, PLACES | {2: (nothing, IFDRational(51), nothing)})) == (None, None)
