"""What makes two configurations the same experiment."""

from hypothesis import given
from hypothesis import strategies as st

from medseg.record import content, data_digest, digest

leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.floats(0, 1)
trees = st.recursive(
    leaves | st.lists(leaves, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=8,
)
configs = st.dictionaries(st.sampled_from(["model", "data", "trainer", "seed"]), trees)


@given(config=configs)
def test_the_order_of_keys_does_not_matter(config) -> None:
    assert digest(dict(reversed(config.items()))) == digest(config)


@given(config=configs, place=st.text(max_size=8))
def test_places_and_conveniences_do_not_matter(config, place) -> None:
    moved = config | {"runs": place, "name": place, "resume": place, "ablation": {"seeds": [1]}}
    assert digest(moved) == digest(config)


@given(config=configs, learning_rate=st.floats(0, 1))
def test_every_other_value_matters(config, learning_rate) -> None:
    one, other = config | {"lr": learning_rate}, config | {"lr": learning_rate + 1}
    assert digest(one) != digest(other)


def test_the_folder_of_the_data_does_not_matter_and_the_split_does() -> None:
    config = {"data": {"root": "/a", "cache": "/b", "num_workers": 2, "split_file": None}}
    assert content(config) == {"data.split_file": None}
    assert digest(config) != digest({"data": {"split_file": "/a/split.json"}})


def test_the_weights_that_a_run_begins_with_matter_and_their_place_does_not() -> None:
    plain = {"seed": 0}
    assert digest(plain | {"init": None, "init_sha256": None}) == digest(plain)
    one, moved, other = (
        digest(plain | {"init": place, "init_sha256": weights})
        for place, weights in (("/a", "1"), ("/b", "1"), ("/a", "2"))
    )
    assert one == moved
    assert len({one, other, digest(plain)}) == 3


def test_a_dataset_is_known_by_its_cases() -> None:
    assert data_digest({"a": "1", "b": "2"}) == data_digest({"b": "2", "a": "1"})
    assert data_digest({}) == ""
    digests = {data_digest(cases) for cases in ({"a": "1"}, {"a": "2"}, {"b": "1"}, {})}
    assert len(digests) == 4
    assert data_digest({"a": "1"}, ["a"]) != data_digest({"a": "1"})


def test_what_was_not_cropped_is_what_it_was_before_it_could_be() -> None:
    others = ({}, {"crop": None}, {"crop": "nonzero"})
    plain, null, cropped = (digest({"data": {"fold": 0, **own}}) for own in others)
    assert plain == null != cropped


def test_the_order_of_regions_is_that_of_the_outputs() -> None:
    one, other = {"whole": [1, 2], "core": [2]}, {"core": [2], "whole": [1, 2]}
    assert digest({"data": {"regions": one}}) != digest({"data": {"regions": other}})
    assert digest({"data": {"fold": 0, "regions": None}}) == digest({"data": {"fold": 0}})
