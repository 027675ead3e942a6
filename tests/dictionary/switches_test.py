"""Switches of methods: bad numbers, and those that a method does not take, are refused by name."""

from pathlib import Path

import pytest

import jaxsae.dictionary
from jaxsae.dictionary import MethodConfig, check_switches
from jaxsae.errors import InputError

WIDTH = 64


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"architecture": "jumprelu", "target_l0": 65.0}, "--target_l0=65.0: must be from 0 to --width=64"),
        ({"architecture": "matryoshka", "prefixes": (8, 32)}, "--prefixes=8,32: must end with --width=64"),
        (
            {"architecture": "matryoshka", "prefixes": (32, 8, 64)},
            "--prefixes=32,8,64: must be whole numbers that rise",
        ),
        ({"architecture": "jumprelu", "bandwidth": 0.0}, "--bandwidth=0.0"),
        ({"k_start": 3}, "--k_start=3: must be from --k=4 to --width=64"),
        ({"k_anneal": 1.5}, "--k_anneal=1.5: must be between 0 and 1"),
        ({"architecture": "hierarchical_topk", "ranks": (1, 3)}, "--ranks=1,3: must end with --k=4"),
        ({"orthogonality": float("nan")}, "--orthogonality=nan: must be a number of 0 or above"),
        ({"adversary": -1.0}, "--adversary=-1.0: must be a number of 0 or above"),
        ({"aux_k": 65}, "--aux_k=65: must be at most --width=64"),
        ({"tied": True, "aligned": True}, "--aligned=true: with --tied=true"),
        ({"architecture": "jumprelu_tanh", "tanh_ramp": -0.1}, "--tanh_ramp=-0.1: must be between 0 and 1"),
    ],
)
def test_bad_numbers_are_refused(flags, message):
    with pytest.raises(InputError, match=message):
        MethodConfig(width=WIDTH, k=4, **flags)


@pytest.mark.parametrize(
    ("flags", "switch", "known"),
    [
        ({"architecture": "relu", "aux_k": 8}, "--aux_k=8", "--l1_coefficient, --l1_warmup"),
        ({"architecture": "topk", "row_k_max": 40}, "--row_k_max=40", "--aux_coefficient"),
        ({"architecture": "gated", "bandwidth": 0.7}, "--bandwidth=0.7", "--frozen_gate"),
    ],
)
def test_switches_that_a_method_does_not_take_are_named_with_those_that_it_does(flags, switch, known):
    with pytest.raises(
        InputError, match=f"{switch}: --architecture={flags['architecture']} does not take it"
    ) as refused:
        check_switches(MethodConfig(width=WIDTH, **flags))
    assert known in str(refused.value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"adversary_k": 3}, "--adversary_k=3: does nothing without --adversary"),
        ({"orthogonality_chunk": 8}, "--orthogonality_chunk=8: does nothing without --orthogonality"),
        ({"k_anneal": 0.5}, "--k_anneal=0.5: does nothing without --k_start"),
        ({"aux_k": 8, "aux_coefficient": 0.0}, "--aux_k=8: does nothing without --aux_coefficient"),
        ({"architecture": "relu", "l1_coefficient": 0.0}, "--l1_coefficient=0: .* an L0 of 4. Give --target_l0=0"),
        ({"architecture": "jumprelu", "l0_coefficient": 0.0}, "--l0_coefficient=0: .*--target_l0=0"),
        ({"architecture": "jumprelu_tanh", "tanh_coefficient": 0.0}, "--tanh_coefficient=0: .*--target_l0=0"),
        ({"architecture": "jumprelu", "k": 4, "target_l0": 5.5}, "--k=4: says nothing beside --target_l0"),
        ({"architecture": "multi_topk", "k": 17}, "--k=17: multi_topk has an eye to 4 k .* at most 16"),
        (
            {"architecture": "matryoshka", "random_prefixes": True, "prefixes": (64,)},
            "--random_prefixes=true: the only",
        ),
        ({"adversary": 1.0, "adversary_width": 65}, "--adversary_width=65: must be at most --width=64"),
        ({"adversary": 1.0, "adversary_k": 17}, "--adversary_k=17: must be at most --adversary_width=16"),
    ],
)
def test_what_would_do_nothing_is_refused_in_a_new_run(flags, message):
    config = MethodConfig(**{"width": WIDTH, "k": 4} | flags)  # an older one has it
    with pytest.raises(InputError, match=message):
        check_switches(config)


@pytest.mark.parametrize(
    "flags",
    [
        {"adversary": 0.1, "adversary_k": 3},
        {"k": 4, "k_start": 8, "k_anneal": 0.5},
        {"architecture": "relu", "l1_coefficient": 0.0, "target_l0": 0.0},
        {"architecture": "matryoshka", "random_prefixes": True},
    ],
)
def test_the_same_switches_where_they_do_something(flags):
    check_switches(MethodConfig(width=WIDTH, **flags))


@pytest.mark.parametrize(
    ("flags", "told"),
    [({"k": 6}, 6), ({"target_l0": 5.5}, 5.5), ({"target_l0": 0.0}, None), ({"architecture": "topk", "k": 6}, 6)],
)
def test_what_is_told_as_k_is_what_was_aimed_at(flags, told):
    assert MethodConfig(**{"width": WIDTH, "architecture": "jumprelu"} | flags).told_k == told


def test_a_file_of_a_method_is_short():
    folder = Path(jaxsae.dictionary.__file__).parent
    for part in ("selection", "objective", "penalty"):
        for file in (folder / part).glob("*.py"):
            assert len(file.read_text().splitlines()) <= 80, file
