"""What suites say of themselves is drawn from their JSON alone."""

import dataclasses
import json

from jaxsae.evaluate.summary import Board, Figure, Plot, Summary, Table, as_json
from jaxsae.report.config import ReportConfig
from jaxsae.report.findings import cell, shown
from jaxsae.report.report import report

SUMMARY = Summary(
    title="Rare features",
    sample="12 features",
    says="Half of the features of frequency 1e-3 are found.",
    limits="Planted features are no natural ones.",
    figures=[
        Figure("f50", 0.00123, (0.001, 0.0015), "less", {"chance": 0.5}, "frequency", percent=False),
        Figure("share", 0.25, percent=True),
        Figure("undefined", None),
    ],
    tables=[
        Table(
            "By width",
            ["width", "f50", "interval", "told"],
            [[1024, 0.002, [0.001, 0.003], True], ["x", None, [], "a"]],
        )
    ],
    plots=[
        Plot(
            "Law",
            "frequency",
            "recovered",
            [1e-3, 1e-2],
            {"1024": [0.2, None], "2048": [0.4, 0.9]},
            "points",
            log_x=True,
        ),
        Plot(
            "Against",
            "who",
            "share",
            ["latents", "probes"],
            {"a": [1, 2]},
            "bars",
            {"a": [[0.5, 1.5], None]},
            guides={"floor": 0.3},
        ),
    ],
    boards=[Board("Mine", [None, 0.5, *[1.0] * 62])],
)


def page(make_run, suite, found):
    run = make_run()
    (run / "eval" / f"{suite}.json").write_text(json.dumps(found))
    return report(ReportConfig(run=str(run), cards=0)).read_text(encoding="utf-8")


def test_a_suites_sentences_figures_tables_plots_and_boards_are_on_the_page(make_run):
    text = page(make_run, "rare", {"width": 48, "summary": as_json(SUMMARY)})
    for said in (
        SUMMARY.title,
        SUMMARY.sample,
        SUMMARY.says,
        SUMMARY.limits,
        "95% interval 0.0010 to 0.0015",
        "25.00%",
    ):
        assert said in text, said
    for said in ("By width", "0.0010 to 0.0030", "<td>yes</td>", "Law", "Against", "b1: .50", 'id="rare"'):
        assert said in text, said
    assert "Mine</figcaption><svg" in text and "floor" in text


def test_sentences_of_a_suite_with_a_group_stand_in_it_once(make_run):
    summary = dataclasses.replace(SUMMARY, tables=[], plots=[], boards=[])
    found = {"rows": 10, "fvu": 0.5, "l0": 6.0, "summary": as_json(summary)}
    text = page(make_run, "reconstruction", found)
    assert text.count(SUMMARY.says) == 1 and "f50" not in text and 'id="reconstruction"' not in text


def test_numbers_are_shown_so_that_none_is_lost():
    assert [shown(x) for x in (3, 1234567, 0.5, 1e-5, 0.0, 1234.5, None, True)] == [
        "3",
        "1,234,567",
        "0.5000",
        "1e-05",
        "0.0000",
        "1.23e+03",
        "\N{EN DASH}",
        "\N{EN DASH}",
    ]
    assert cell(["a", 1, 2]) == "a, 1, 2"


def test_a_control_stands_among_the_baselines_of_a_group(make_run):
    figures = [Figure("FVU", 0.5, baselines={"random model": 0.4321}), Figure("dead latents", 0.1, percent=True)]
    summary = dataclasses.replace(SUMMARY, figures=figures, tables=[], plots=[], boards=[])
    text = page(make_run, "reconstruction", {"rows": 10, "fvu": 0.5, "l0": 6.0, "summary": as_json(summary)})
    assert "<i>random model</i> 0.4321" in text
