"""Windows of cycles: on the local calendar, without gap or overlap, whatever clocks do."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.cycles import HOUR, MINUTE, SECOND, window

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/St_Johns",
    "America/Sao_Paulo",
    "America/Havana",
    "America/Santiago",
    "Africa/Cairo",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Asia/Tehran",
    "Atlantic/Azores",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Pacific/Kwajalein",
    "Pacific/Chatham",
    "Antarctica/Troll",
]
DAY = 24 * HOUR
CALENDAR = ["hour", "day", "week", "month"]


def us(text: str, zone: str = "UTC", fold: int = 0) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def shown(instant: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(instant // SECOND, zone).replace(tzinfo=None)


def changes(name: str) -> list[int]:
    """Every clock change of a zone from 1985 to 2035, in µs, found by stepping through it."""
    zone = ZoneInfo(name)
    found = []
    step = 6 * 3600
    low, end = us("1985-01-01T00:00") // SECOND, us("2035-01-01T00:00") // SECOND
    while low < end:
        a, b = low, low + step
        if datetime.fromtimestamp(a, zone).utcoffset() != datetime.fromtimestamp(b, zone).utcoffset():
            while b - a > 1:
                middle = (a + b) // 2
                same = datetime.fromtimestamp(middle, zone).utcoffset() == datetime.fromtimestamp(a, zone).utcoffset()
                a, b = (middle, b) if same else (a, middle)
            found.append(b * SECOND)
        low += step
    return found


def check(cycle: str, at: int, zone: ZoneInfo, start_day: int) -> tuple[int, int]:
    """Assert what holds of every window, and return it."""
    start, end = window(cycle, at, zone, start_day)
    assert end is not None
    assert start <= at < end
    assert window(cycle, start, zone, start_day) == (start, end)
    assert window(cycle, end - 1, zone, start_day) == (start, end)
    assert window(cycle, end, zone, start_day)[0] == end
    assert window(cycle, start - 1, zone, start_day)[1] == start
    longest = {"hour": HOUR, "day": 2 * DAY, "week": 8 * DAY, "month": 32 * DAY}[cycle]
    assert 0 < end - start <= longest
    before, after = shown(start - 1, zone), shown(start, zone)
    if cycle == "hour":
        assert (after.minute, after.second) == (0, 0) or before + timedelta(seconds=1) != after
    else:
        # Midnight is shown, or the clock jumps over it: never does a new day begin later than it could
        midnight = datetime.combine(after.date(), datetime.min.time())
        assert after == midnight or before < midnight < after
    return start, end


@settings(max_examples=600, deadline=None)
@given(
    cycle=st.sampled_from(CALENDAR),
    zone=st.sampled_from(ZONES),
    start_day=st.integers(1, 31),
    at=st.integers(us("1986-01-01T00:00"), us("2099-12-31T00:00")),
)
def test_windows_contain_the_moment_and_meet_their_neighbours(cycle: str, zone: str, start_day: int, at: int) -> None:
    check(cycle, at, ZoneInfo(zone), start_day)


@pytest.mark.parametrize("name", ZONES)
def test_windows_are_whole_around_every_clock_change(name: str) -> None:
    zone = ZoneInfo(name)
    for change in changes(name):
        for at in (change - HOUR, change - 1, change, change + 1, change + HOUR // 2, change + HOUR, change + 3 * HOUR):
            for cycle in CALENDAR:
                check(cycle, at, zone, shown(change, zone).day)


@settings(max_examples=300, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    start_day=st.integers(1, 31),
    at=st.integers(us("1996-01-01T00:00"), us("2099-12-31T00:00")),
)
def test_months_and_weeks_start_on_the_start_day(zone: str, start_day: int, at: int) -> None:
    there = ZoneInfo(zone)
    first = shown(window("month", at, there, start_day)[0], there)
    tomorrow = first + timedelta(days=1)
    skipped = zone == "Pacific/Apia" and first.date().isoformat() == "2011-12-31"
    assert first.day == start_day or (first.day < start_day and tomorrow.day == 1) or skipped
    weekday = shown(window("week", at, there, start_day)[0], there).weekday()
    assert weekday == (start_day - 1) % 7 or (zone == "Pacific/Apia" and weekday == start_day % 7)


@pytest.mark.parametrize(
    ("cycle", "at", "zone", "day", "start", "end"),
    [
        ("day", "2026-03-01T05:29", "Asia/Kolkata", 1, "2026-02-28T18:30", "2026-03-01T18:30"),
        ("hour", "2026-03-01T00:10", "Asia/Kathmandu", 1, "2026-02-28T23:15", "2026-03-01T00:15"),
        # Berlin: 23 and 25 hours
        ("day", "2026-03-29T12:00", "Europe/Berlin", 1, "2026-03-28T23:00", "2026-03-29T22:00"),
        ("day", "2026-10-25T12:00", "Europe/Berlin", 1, "2026-10-24T22:00", "2026-10-25T23:00"),
        # São Paulo 2018: no midnight on 4 November, the day begins at 01:00
        ("day", "2018-11-04T12:00", "America/Sao_Paulo", 1, "2018-11-04T03:00", "2018-11-05T02:00"),
        # Toronto 1919 went from 23:30 to 00:30; before 1970 only to have a gap around midnight
        ("day", "1919-03-31T12:00", "America/Toronto", 1, "1919-03-31T04:30", "1919-04-01T04:00"),
        # Havana: midnight occurs twice on 1 November 2026, the day begins with the first
        ("day", "2026-11-01T12:00", "America/Havana", 1, "2026-11-01T04:00", "2026-11-02T05:00"),
        # St John's 2010: 00:01 back to 23:01; the 7th has begun at the first midnight
        ("day", "2010-11-07T02:45", "America/St_Johns", 1, "2010-11-07T02:30", "2010-11-08T03:30"),
        # Samoa had no 30 December 2011
        ("day", "2011-12-30T09:00", "Pacific/Apia", 1, "2011-12-29T10:00", "2011-12-30T10:00"),
        ("day", "2011-12-30T11:00", "Pacific/Apia", 1, "2011-12-30T10:00", "2011-12-31T10:00"),
        ("month", "2011-12-31T00:00", "Pacific/Apia", 30, "2011-12-30T10:00", "2012-01-29T10:00"),
        ("day", "2026-06-01T09:59", "Pacific/Kiritimati", 1, "2026-05-31T10:00", "2026-06-01T10:00"),
        # Lord Howe: half an hour there (02:00 to 02:30) and back (02:00 to 01:30)
        ("hour", "2026-10-03T15:40", "Australia/Lord_Howe", 1, "2026-10-03T15:30", "2026-10-03T16:00"),
        ("hour", "2026-04-04T14:40", "Australia/Lord_Howe", 1, "2026-04-04T14:00", "2026-04-04T15:00"),
        ("hour", "2026-04-04T15:10", "Australia/Lord_Howe", 1, "2026-04-04T15:00", "2026-04-04T15:30"),
        # The 31st, 29 February, the turn of the year
        ("month", "2026-02-28T00:00", "UTC", 31, "2026-02-28T00:00", "2026-03-31T00:00"),
        ("month", "2026-02-27T23:59", "UTC", 31, "2026-01-31T00:00", "2026-02-28T00:00"),
        ("month", "2028-02-29T00:00", "UTC", 30, "2028-02-29T00:00", "2028-03-30T00:00"),
        ("month", "2028-02-28T12:00", "UTC", 29, "2028-01-29T00:00", "2028-02-29T00:00"),
        ("month", "2027-01-10T00:00", "UTC", 15, "2026-12-15T00:00", "2027-01-15T00:00"),
        ("week", "2026-11-23T00:00", "UTC", 1, "2026-11-23T00:00", "2026-11-30T00:00"),
        ("week", "2026-11-23T00:00", "UTC", 7, "2026-11-22T00:00", "2026-11-29T00:00"),
        ("week", "2026-11-23T00:00", "UTC", 8, "2026-11-23T00:00", "2026-11-30T00:00"),
    ],
)
def test_known_windows(cycle: str, at: str, zone: str, day: int, start: str, end: str) -> None:
    assert window(cycle, us(at), ZoneInfo(zone), day) == (us(start), us(end))


def test_an_hour_is_an_hour_through_a_repeated_hour() -> None:
    zone = ZoneInfo("Europe/Berlin")
    first, second = us("2026-10-25T02:30", "Europe/Berlin"), us("2026-10-25T02:30", "Europe/Berlin", fold=1)
    assert window("hour", first, zone, 1)[1] == window("hour", second, zone, 1)[0]


def test_a_minute_slides_and_a_total_never_ends() -> None:
    at = us("2026-11-23T12:00:30")
    assert window("minute", at, ZoneInfo("UTC"), 1) == (at - MINUTE, at + MINUTE)
    assert window("total", at, ZoneInfo("UTC"), 1) == (0, None)


def test_an_unknown_cycle_is_an_error() -> None:
    with pytest.raises(ValueError, match="fortnight"):
        window("fortnight", 0, ZoneInfo("UTC"), 1)
