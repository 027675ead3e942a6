"""The target that a latent tells best, of eval/othello.json."""

import json

import numpy as np
import pytest

from jaxsae.dashboard.board import best_targets
from jaxsae.dashboard.settings import Settings, numbers
from jaxsae.errors import InputError


def write(run, **found):
    (run / "eval").mkdir(exist_ok=True)
    (run / "eval" / "othello.json").write_text(json.dumps(found))


def test_of_several_targets_the_best(tmp_path):
    write(tmp_path, best_auroc=[0.7, None, 0.9, 0.8, 0.6, 0.75], best_latent=[3, -1, 3, 0, 99, 3], width=6)
    auroc, target = best_targets(tmp_path, 6)
    assert target.tolist() == [3, -1, -1, 2, -1, -1]
    np.testing.assert_allclose(auroc[[0, 3]], [0.8, 0.9], rtol=1e-6)
    assert np.isnan(auroc[[1, 2, 4, 5]]).all() and auroc.dtype == np.float32 and target.dtype == np.int32


def test_nothing_is_known_where_nothing_fits(tmp_path):
    for found in (None, {"best_auroc": [0.9]}, {"best_auroc": [0.9], "best_latent": [0], "width": 7}):
        if found is not None:
            write(tmp_path, **found)
        auroc, target = best_targets(tmp_path, 6)
        assert np.isnan(auroc).all() and (target == -1).all()
    (tmp_path / "eval" / "othello.json").write_text("[")
    assert (best_targets(tmp_path, 6)[1] == -1).all()


def test_latents_are_named_by_number_and_range():
    assert numbers("5", 10).tolist() == [5]
    assert numbers("7:, 0:2,8", 10).tolist() == [0, 1, 7, 8, 9]
    assert numbers(":", 3).tolist() == [0, 1, 2]


@pytest.mark.parametrize("which", ["10", "3:3", "5:2", "0:11", "-1", "a", "1,,2", "1:2:3", "1.5"])
def test_latents_that_are_not_there_are_refused(which):
    with pytest.raises(InputError, match=f"--which={which}: give latents from 0 to 9, such as"):
        numbers(which, 10)


@pytest.mark.parametrize("change", [{"rows": 0}, {"top": 0}, {"per_band": -1}, {"seed": -1}, {"games": 0}], ids=str)
def test_bad_settings_are_named(change):
    with pytest.raises(InputError, match=f"--{next(iter(change))}="):
        Settings(**change)
