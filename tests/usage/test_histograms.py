"""Histograms add up, and say percentiles within 1/64 of the exact ones."""

from hypothesis import given
from hypothesis import strategies as st

from usage.histograms import add, bucket, decode, encode, middle, percentile

times = st.one_of(st.integers(0, 100), st.integers(0, 10**7), st.integers(0, 2**36 - 1))


def histogram(values):
    found = {}
    for value in values:
        add(found, {bucket(value): 1})
    return found


@given(st.lists(times, min_size=1), st.integers(1, 100))
def test_a_percentile_is_the_exact_one_within_a_64th(values, percent):
    exact = sorted(values)[max(1, -(-len(values) * percent // 100)) - 1]
    assert abs(percentile(histogram(values), percent) - exact) * 64 <= exact


@given(st.lists(st.lists(times), max_size=6))
def test_stored_ones_add_up_to_that_of_all(parts):
    whole = histogram([value for part in parts for value in part])
    assert decode(encode(histogram(part)) for part in parts) == whole
    assert decode([encode(whole)]) == whole


@given(st.dictionaries(st.integers(0, 1023), st.integers(1, 2**64), max_size=5))
def test_any_number_of_calls_is_kept(counts):
    assert decode([encode(counts)]) == counts
    assert encode(decode([encode(counts)])) == encode(counts)


@given(st.integers(0, 2**36 - 2))
def test_buckets_follow_each_other(us):
    assert bucket(us + 1) - bucket(us) in (0, 1)
    assert bucket(middle(bucket(us))) == bucket(us)


def test_what_no_clock_measures_still_has_a_bucket():
    assert bucket(-5) == 0
    assert bucket(2**63) == bucket(2**36 - 1) == 1023
    assert percentile({}, 95) is None
