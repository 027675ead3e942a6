"""Defaults that follow from width and steps; a run goes on at the rate it was begun with, also where the default changed."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from jaxsae.dictionary import MethodConfig, make_method
from jaxsae.dictionary import rates as default_rates
from jaxsae.errors import InputError
from jaxsae.training import TrainConfig, train
from jaxsae.training.rates import check_same_defaults


def with_rate(config, rate):
    return dataclasses.replace(config, optimization=dataclasses.replace(config.optimization, learning_rate=rate))


def test_a_run_of_another_default_rate_goes_on_with_the_flag_alone(configure, metrics, monkeypatch):
    whole, cut = configure("whole", steps=8, learning_rate=None), configure("cut", steps=8, learning_rate=None)
    train(whole), train(cut)
    shutil.rmtree(Path(cut.workdir, "checkpoints", "8"))
    monkeypatch.setattr(default_rates, "SWEPT", default_rates.Rates(lambda *sizes: 1e-5))
    with pytest.raises(InputError, match="begun with defaults of an older jaxsae") as refused:
        train(cut)
    flag = next(word for word in str(refused.value).split() if word.startswith("--learning_rate=")).rstrip(";")
    flags = Path(cut.workdir, "config.flags")
    assert str(flags) in str(refused.value)
    flags.write_text(flags.read_text() + f"\n{flag}\n")
    train(with_rate(cut, float(flag.partition("=")[2])))
    rates = [[line["learning_rate"] for line in metrics(config)] for config in (whole, cut)]
    assert rates[0] == pytest.approx(rates[1], rel=1e-6) and len(rates[0]) == 8


def test_checkpoints_that_say_no_rates_are_of_the_old_defaults(configure):
    config, old = configure(learning_rate=None), {"dictionary": {}}
    check = lambda config, metadata, peak, decoder: check_same_defaults(
        Path("r"), config, metadata, {"learning_rate": peak, "decoder_rate": decoder}
    )
    with pytest.raises(InputError, match=r"--learning_rate=0\.0032 --decoder_rate=1; today's are 0\.01 and 4"):
        check(config, old, 0.01, 4.0)
    with pytest.raises(InputError, match=r"--decoder_rate=1; today's are 4"):  # though its rate was given
        check(with_rate(config, 0.01), old, 0.01, 4.0)
    check(config, old, 0.0032, 1.0)  # 2e-4 at 16,384, here at 64
    check(config, {"dictionary": {"learning_rate": 0.01, "decoder_rate": 4.0}}, 0.01, 4.0)


def test_a_run_goes_on_with_what_makes_latents_dead_and_alive_that_it_was_begun_with(configure):
    config = configure(method=MethodConfig(width=4096, k=8), dead_tokens=None)
    now = lambda config: {"dead_tokens": config.dead_window, "aux_k": make_method(config.method).aux.k_of(256)}
    check = lambda config, metadata: check_same_defaults(
        Path("r"), config, {"dictionary": metadata, "d_model": 256}, now(config)
    )
    with pytest.raises(InputError, match=r"jaxsae, --dead_tokens=102400 --aux_k=128; today's are 20480 and 32\."):
        check(config, {})
    with_both = dataclasses.replace(config, dead_tokens=102_400, method=MethodConfig(width=4096, k=8, aux_k=128))
    check(with_both, {})
    check(config, {"dead_tokens": 20_480, "aux_k": 32})


@pytest.mark.parametrize(
    ("width", "k", "batch_size", "rows"),
    [(1024, 8, 512, 5_120), (65_536, 32, 512, 81_920), (2**24, 64, 512, 10_000_000), (1024, 32, 2048, 16_384)],
)
def test_latents_are_dead_after_rows_that_the_width_asks_for_however_short_the_run(width, k, batch_size, rows):
    method = MethodConfig(width=width, k=k)
    config = TrainConfig(store="s", workdir="r", batch_size=batch_size, tokens=10 * batch_size, method=method)
    assert config.dead_window == rows
    assert dataclasses.replace(config, dead_tokens=7).dead_window == 7
