"""The report: every section in its order, the figures of summary.json, nothing invented, nothing loaded from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from alphanas.report import write_report
from alphanas.report.html import report_html
from alphanas.report.lineage import region_text, value_text
from alphanas.report.markup import (
    NOT_MEASURED,
    conditions_text,
    faster_text,
    latency_text,
    percentiles_text,
    points,
    ratio_text,
    table,
)
from alphanas.study import Study, open_study, resume_study
from tests.alphanas.report.fakes import STEPS, fake_study

SECTIONS = (
    "Candidates",
    "Seed and best",
    "How the best came about",
    "How the search went",
    "Finalists",
    "Baselines at equal budget",
    "Outcomes and failures",
    "Environment and config",
)
VOID = {"meta", "br", "img", "hr", "path", "rect", "circle", "polygon"}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return fake_study(tmp_path_factory.mktemp("runs") / "digits")


@pytest.fixture(scope="module")
def page(study: Study) -> str:
    return report_html(study)


def headings(page: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page)


def test_the_sections_are_there_in_order(page: str) -> None:
    assert headings(page) == list(SECTIONS)


def test_every_element_is_closed(page: str) -> None:
    class Checker(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in VOID:
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            if tag not in VOID:
                assert self.open.pop() == tag

    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    addresses = set(re.findall(r"https?://[^\s\"'<]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(link|img|iframe)\b|<script[^>]+src|@import|url\(", page)
    assert len(page) < 300_000


def test_the_figures_are_those_of_the_summary(page: str, study: Study) -> None:
    facts = study.summary()
    cards = page[page.index('class="cards"') : page.index("<h2>")]
    for key in ("params", "macs"):
        assert f"{facts['best'][key]:,}" in cards and f"{facts['seed'][key]:,}" in cards
    assert f"{100 * facts['best']['accuracy']['mean']:.2f} %" in cards
    ratio = facts["seed"]["params"] / facts["best"]["params"]
    assert f"{ratio:.1f}× fewer parameters" in page
    assert "packed schedule, untuned, 2 threads, batch 1, float32" in cards


def test_every_trained_candidate_is_a_dot_and_hovering_names_it(page: str, study: Study) -> None:
    trained = [one for one in study.candidates() if one.error is not None]
    tips = re.findall(r'data-tip="candidate (\d+)', page)
    assert sorted(set(map(int, tips))) == [one.id for one in trained]
    assert page.count(">seed</text>") == page.count(">best</text>") == 1


def test_the_lineage_tells_region_change_and_program_of_every_step(page: str, study: Study) -> None:
    story = page[page.index("How the best came about") : page.index("<h2>Finalists")]
    line = study.best().lineage()
    assert story.count('class="step"') == len(line) - 1 == len(STEPS)
    for first, last in STEPS:
        assert f"{first}..{last}" in story
    assert "depthwise_conv" in story and "<td>depth</td><td>4</td><td>3</td>" in story


def test_failures_are_told_by_cause_with_an_example(page: str) -> None:
    failures = page[page.index("<h2>Outcomes and failures") :]
    assert "<td>diverged</td><td>short</td>" in failures and "the loss was NaN at step 17" in failures
    assert "<td>infeasible</td>" in failures and "no program meets depth with params" in failures
    assert "&lt;lowering&gt;" in failures and "<lowering>" not in failures


def test_what_was_not_measured_says_so_and_sections_without_content_are_left_out(tmp_path: Path) -> None:
    page = report_html(fake_study(tmp_path / "stopped", finished=False))
    assert headings(page) == [title for title in SECTIONS if title not in ("Finalists", "Baselines at equal budget")]
    cards = page[page.index('class="cards"') : page.index("<h2>")]
    assert cards.count(NOT_MEASURED) == 4
    assert "python -m alphanas resume stopped" in page
    assert ">0 ms<" not in page and ">0.00 %<" not in page


def test_a_study_with_the_seed_alone_has_a_report(tmp_path: Path) -> None:
    page = report_html(fake_study(tmp_path / "seed", finished=False, best=False))
    assert "No smaller model that is as accurate has been found" in page
    assert "Nothing failed." in page


def test_a_report_can_be_written_while_the_search_runs(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    fake_study(folder, finished=False).close()
    with resume_study(folder):
        path = write_report(open_study(folder), tmp_path / "out.html")
    assert "running" in path.read_text()


def test_a_graph_that_cannot_be_read_does_not_cost_the_report(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    fake_study(folder, best=False, finished=False)
    with resume_study(folder) as recorder:
        recorder.candidate(1, graph_json='{"format": 99}', graph_hash="0" * 64, parent=0)
        recorder.outcome(1, "cost", values={"params": 10, "macs": 10})
        recorder.outcome(1, "short", values={"accuracy": 0.99})
        recorder.decide("best", {"candidate": 1})
    assert "its graph cannot be shown" in report_html(open_study(folder))


def test_text_from_outside_is_escaped() -> None:
    assert "<b>" not in table(["<b>"], [["<b>"]], caption="<b>")
    assert value_text({"a": [1, None]}) == '{"a": [1, null]}'
    assert region_text(["a", "b", "c"]) == "a..c" and region_text(["a"]) == "a" and region_text(None) == ""


@pytest.mark.parametrize(
    ("latency", "text"),
    [
        (None, None),
        ({"median": None}, None),
        ({"median": 1.234, "spread": 0.1}, "1.23 ± 0.10 ms"),
        ({"median_ms": 0.018392, "spread_ms": 0.0001}, "18.4 ± 0.1 µs"),
        ({"median": 250.0}, "250 ms"),
    ],
)
def test_latencies(latency: dict[str, float] | None, text: str | None) -> None:
    assert latency_text(latency) == text


def test_conditions_never_hide_that_a_latency_is_untuned() -> None:
    assert "untuned" in conditions_text({"backend": "tvm", "tuned": False, "trials": 0})
    assert "untuned" in conditions_text({"backend": "tvm"})
    assert "64 trials" in conditions_text({"backend": "tvm", "tuned": True, "trials": 64})


@pytest.mark.parametrize(
    ("ratio", "low", "high", "said", "unsaid"),
    [
        (1.3, 1.2, 1.4, "1.30× faster", "slower"),
        (0.5, 0.4, 0.8, "2.00× slower", "faster"),
        (1.3, 0.99, 1.6, "no difference", "faster"),
    ],
)
def test_faster_is_said_only_if_the_interval_excludes_one(ratio: float, low: float, high: float, said: str, unsaid: str) -> None:
    text = faster_text({"ratio": ratio, "interval": [low, high]})
    assert text is not None and said in text and unsaid not in text
    assert faster_text(None) is None


def test_the_page_says_faster_by_the_interval_alone(page: str, study: Study) -> None:
    said = faster_text(study.best().values("measure")["ratio_to"])
    assert said is not None and said in page
    assert page.count("faster") == page.count("faster (95%")


def test_percentiles_are_told_where_runs_were_timed_and_what_is_short_is_labelled() -> None:
    assert percentiles_text({"p50_ms": None, "p90_ms": None, "p99_ms": None}) is None
    found = {"p50": 1.0, "p90": 2.0, "p99": 3.0, "runs": 2000, "shortfall": ""}
    assert percentiles_text(found) == "50/90/99% of runs within 1/2/3 ms; 2,000 runs"
    assert "less than a report" in (percentiles_text(found | {"shortfall": "less than a report: …"}) or "")


@pytest.mark.parametrize(("seed", "best", "text"), [(100, 25, "4.0× fewer"), (25, 100, "4.0× more"), (100, 80, "1.25× fewer")])
def test_ratios_say_which_way(seed: int, best: int, text: str) -> None:
    assert text in str(ratio_text(seed, best, less="fewer", more="more"))


def test_ratios_of_what_is_not_known_are_not_made_up() -> None:
    assert ratio_text(None, 3, less="fewer", more="more") is None
    assert ratio_text(3, 0, less="fewer", more="more") is None
    assert points(-0.0012) == "−0.12 points"


@pytest.mark.parametrize(("inherit", "said"), [(True, "from its parent's weights"), (False, "from random weights")])
def test_it_says_what_weights_short_trainings_began_with(tmp_path: Path, inherit: bool, said: str) -> None:
    assert said in report_html(fake_study(tmp_path / "run", best=False, inherit=inherit))
