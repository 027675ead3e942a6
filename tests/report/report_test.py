"""The page of a run: it stands alone, says what the files say, and names what is missing."""

import dataclasses
import json
import re

import pytest
from pages import Balanced, words

from jaxsae.benchmark.config import BenchmarkConfig, StepMethodConfig
from jaxsae.config import to_dict
from jaxsae.errors import InputError
from jaxsae.report import ReportConfig, report

SUITES = ("reconstruction", "splice", "othello")


def page_of(run, **changes) -> str:
    path = report(ReportConfig(run=str(run), **({"cards": 4, "contexts": 2, "games": 20} | changes)))
    return path.read_text()


@pytest.fixture
def page(make_run) -> str:
    return page_of(make_run())


def test_the_page_needs_nothing_else(page):
    parsed = Balanced(page)
    links = [value for name, value in parsed.attributes if name in ("src", "href", "xlink:href", "srcset", "data")]
    assert all(value.startswith("#") for value in links)
    assert not {"script", "link", "img", "iframe"} & set(parsed.tags)
    assert not re.search(r"https?:|url\((?!#)|@import", page)
    assert len(page) < 2e6


def test_ids_are_unique_and_found(page):
    ids = [value for name, value in Balanced(page).attributes if name == "id"]
    assert len(ids) == len(set(ids))
    for target in re.findall(r'(?:href="#|url\(#)([^")]+)', page):
        assert target in ids


def test_figures_are_those_of_the_files(page):
    text = words(page)
    for figure in ("0.1234", "7.8910", "6.64%", "7.89%", "1.23%", "0.9876", "0.3456", "65,536 held-out rows"):
        assert figure in text
    for figure in ("0.0522", "0.0501 to 0.0543", "96.52%", "2.0533", "98.34%", "99.12%", "0.0317", "38,500 tokens"):
        assert figure in text
    assert "zeros 1.5000" in text and "mean 1.1000" in text  # what they add to the cross-entropy
    for figure in (
        "98",
        "of 188 targets",
        "raw activations 30",
        "PCA 31",
        "random-model SAE \N{EN DASH}",
        "linear probes 32",
    ):
        assert figure in text
    assert "topk" in text and "resid_post.2" in text and "1,024,000 tokens" in text


def test_batchtopk_shows_its_k_and_threshold(make_run, dictionary):
    config = dataclasses.replace(dictionary.config, architecture="batchtopk")
    run = make_run(dictionary=dataclasses.replace(dictionary, config=config, threshold=1.23456))
    flags = run / "config.flags"
    flags.write_text(flags.read_text().replace("--architecture=topk", "--architecture=batchtopk"))
    text = words(page_of(run))
    assert "architecture batchtopk" in text and "k 8" in text and "threshold 1.235" in text
    assert "threshold" not in words(page_of(make_run(name="topk")))


def benchmark_of(run, **flags) -> None:
    """What `jaxsae benchmark --json=RUN/benchmark.json` leaves."""
    flags = to_dict(BenchmarkConfig(d_model=128, method=StepMethodConfig(width=256, k=8))) | flags
    state = {"flags": flags | {"dead_fraction": 0.0}, "device": "cpu", "mesh": [1, 2], "jax": "0.10.2"}
    state |= {"step_seconds": 0.0262, "floor_seconds": 0.0145, "step_cpu_over_floor": 1.83}
    dead = state | {"flags": flags | {"dead_fraction": 0.1}, "step_seconds": 0.0391, "step_cpu_over_floor": 2.66}
    dead |= {"peers": {"sparsify-adam": {"seconds": 0.0592}, "saelens": {"skipped": "is not installed"}}}
    (run / "benchmark.json").write_text(json.dumps(state | {"states": [state, dead]}))


def test_a_step_is_quoted_in_both_states(make_run):
    run = make_run()
    benchmark_of(run)
    text = words(page_of(run))
    assert "A training step cpu, mesh 1x2, jax 0.10.2" in text
    assert "no latent dead 1.83 times the CPU seconds of that matmul 26.2 ms the encoder's matmul 14.5 ms" in text
    assert "10% of the latents dead 2.66 times the CPU seconds of that matmul 39.1 ms" in text
    assert "sparsify-adam 59.2 ms" in text and "saelens" not in text


def test_a_step_that_was_not_timed_names_the_command(make_run):
    run = make_run()
    command = f"jaxsae benchmark --d_model=128 --width=256 --k=8 --json={run}/benchmark.json"
    assert f"Not timed: run {command}" in words(page_of(run))
    benchmark_of(run, width=512, optimizer="sign")
    assert f"benchmark.json is of another step (--width=512, --optimizer=sign): run {command}" in words(page_of(run))


def test_boards_show_each_target(make_run, page):
    found = json.loads((make_run(name="again") / "eval" / "othello.json").read_text())
    titles = re.findall(r"<title>(\w\d) (\w+): AUROC ([\d.]+), latent (\d+)</title>", page)
    defined = [i for i, a in enumerate(found["best_auroc"]) if a is not None]
    assert len(titles) == len(defined) == 188
    for target, (square, state, auroc, latent) in zip(defined, titles, strict=True):
        assert state == ("empty", "mine", "theirs")[target // 64]
        assert square == f"{'abcdefgh'[target % 8]}{target % 64 // 8 + 1}"
        assert auroc == f"{found['best_auroc'][target]:.4f}" and int(latent) == found["best_latent"][target]
    assert page.count("never or always empty") == 4


def test_latents_stand_with_label_activation_and_moves(page):
    text = words(page)
    assert page.count('<article class="latent">') == 4
    assert text.count("drawn at random") == 2 and re.search(
        r"Latent \d+ (empty|mine|theirs) at [a-h][1-8], AUROC 0", text
    )
    assert re.search(r"active on [\d.]+% of rows, mean [\d.]+ where active", text)
    marks = re.findall(r"<mark>[a-h][1-8]</mark>", page)
    assert len(marks) == page.count('<figure class="position">') > 0


def test_curves_flags_and_versions_are_there(page):
    text = words(page)
    for title in ("FVU", "FVU, held out", "loss", "L0", "dead latents, in 51,234 rows", "learning rate"):
        assert re.search(rf"<figcaption>{title} <b>", page)
    assert "--seed=7" in text and "--width=256" in text and "0.10.2" in text and "12.5" in text and "40,000" in text


def test_what_latents_do_is_said_in_three_classes_with_their_window(page):
    text = words(page)
    for on in ("on none", "on fewer than 1 in 10,000", "on more than 1 in 10"):
        assert f"fire {on} of these 65,536 held-out rows" in text
    assert "of the latents, in 65,536 held-out rows" in text


@pytest.mark.parametrize("left_out", SUITES)
def test_what_was_not_evaluated_is_named(make_run, left_out):
    run = make_run([s for s in SUITES if s != left_out])
    page = page_of(run, cards=0)
    for suite in SUITES:
        command = f"jaxsae evaluate --run={run} --suite={suite}"
        assert (command in page) == (suite == left_out)


def test_without_any_evaluation_training_figures_head_the_page(make_run):
    text = words(page_of(make_run([]), cards=0))
    assert "last training step" in text and "left out by --cards=0" in text


def test_a_dictionary_that_cannot_be_loaded_is_named(make_run, monkeypatch):
    run = make_run()

    def fail(run):
        raise InputError("its checkpoint is damaged")

    monkeypatch.setattr("jaxsae.report.latents.load_dictionary", fail)
    assert "Not drawn: its checkpoint is damaged" in words(page_of(run))


def test_other_suites_are_listed(make_run):
    run = make_run()
    (run / "eval" / "probes.json").write_text(json.dumps({"accuracy": 0.75, "rows": 1234, "names": ["a"], "ok": True}))
    text = words(page_of(run, cards=0))
    assert "probes" in text and "accuracy 0.7500" in text and "rows 1,234" in text


def test_odd_names_and_values_are_escaped(make_run):
    run = make_run(name="<b>&'\"run")
    flags = run / "config.flags"
    flags.write_text(flags.read_text() + "--site=<script>alert(1)</script>\n")
    (run / "run.json").write_text(json.dumps({"<i>": "<script>"}))
    page = page_of(run, cards=0)
    assert "<script" not in page and "<b>&'" not in page and "&lt;script&gt;alert(1)" in page


def test_figures_may_be_null(make_run):
    run = make_run()
    for suite in SUITES:
        path = run / "eval" / f"{suite}.json"
        found = json.loads(path.read_text())
        keep = ("frequency_histogram", "best_auroc", "best_latent")
        path.write_text(json.dumps({k: v if k in keep else None for k, v in found.items()}))
    assert "\N{EN DASH}" in words(page_of(run, cards=0))
    lines = '{"step": 1, "tokens": 512, "loss": null, "fvu": NaN, "l0": 3}\n{"step": 2, "tok'
    (run / "metrics.jsonl").write_text(lines)
    assert "L0 3" in words(page_of(run, cards=0))


def test_an_imported_dictionary_has_no_curves(make_run):
    run = make_run()
    (run / "metrics.jsonl").unlink()
    (run / "config.flags").unlink()
    (run / "checkpoints").mkdir()
    assert "this dictionary was imported" in words(page_of(run, cards=0))


def test_the_output_is_where_it_was_asked_for(make_run, tmp_path):
    run = make_run()
    wanted = tmp_path / "pages" / "a.html"
    assert report(ReportConfig(run=str(run), output=str(wanted), cards=0)) == wanted and wanted.is_file()
    assert not (run / "report.html").exists() and [p.name for p in wanted.parent.iterdir()] == ["a.html"]
    with pytest.raises(InputError, match="is a directory"):
        report(ReportConfig(run=str(run), output=str(tmp_path), cards=0))


def test_what_is_no_run_is_refused(make_run, tmp_path):
    for path, message in ((tmp_path / "nothing", "no such directory"), (tmp_path, "not a run")):
        with pytest.raises(InputError, match=message):
            report(ReportConfig(run=str(path)))
    run = make_run()
    (run / "eval" / "splice.json").write_text("{")
    with pytest.raises(InputError, match=r"splice.json: cannot be read as JSON"):
        report(ReportConfig(run=str(run)))
    (run / "metrics.jsonl").write_text("")
    with pytest.raises(InputError, match=r"metrics.jsonl is missing or empty"):
        report(ReportConfig(run=str(run)))


@pytest.mark.parametrize("change", [{"cards": -1}, {"contexts": 0}, {"games": 0}, {"rows": 0}, {"seed": -1}], ids=str)
def test_bad_flags_are_named(change):
    with pytest.raises(InputError, match=f"--{next(iter(change))}="):
        ReportConfig(run="run", **change)


def test_the_same_run_gives_the_same_page(make_run):
    run = make_run()
    assert page_of(run) == page_of(run)
