"""The page as it is written, and as a browser shows it."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pandas as pd
import pytest
from PIL import Image

from base.errors import InputError
from model.reporting.catalogue import LANGUAGES, catalogue
from model.reporting.page import Report, in_script, write_page


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


PLACES = re.compile(r"\{(\w+)\}")
SECTIONS = ["claims", "rates", "curves", "retraining", "kernels", "panels", "retrieval", "queries", "provenance"]


@pytest.fixture(scope="module")
def page(report, tmp_path_factory):
    directory = tmp_path_factory.mktemp("page")
    write_page(report, directory)
    return directory


@pytest.fixture(scope="module")
def html(page):
    return (page / "index.html").read_text(encoding="utf-8")


def files_of(directory):
    return {str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def shown_queries(tab):
    script = (
        "[...document.querySelectorAll('article')].flatMap((row, n) => row.hidden || !row.getClientRects().length ? [] : [n])"
    )
    return tab.evaluate(script)


# As it is written


def test_the_same_report_gives_the_same_bytes(report, page, tmp_path):
    write_page(report, tmp_path)
    assert files_of(tmp_path) == files_of(page)


def test_every_picture_that_the_page_names_is_beside_it(page, html):
    named = {path for path in re.findall(r'src="([^"]+)"', html) if path != "x"}
    strips = {f"strips/{number}.jpg" for number in range(6)}
    assert named | strips | {"index.html"} == set(files_of(page))
    for path in named | strips:
        Image.open(page / path).verify()


def test_a_strip_holds_the_query_twice_as_large_and_all_neighbours(page):
    with Image.open(page / "strips/0.jpg") as strip:
        assert strip.size == ((9 + 2) * 64, 128)


def test_no_text_ends_a_script_or_becomes_markup(html):
    assert html.count("</script>") == 2
    assert html.count("<script") == 2
    assert "<img src=x" not in html
    assert json.loads(in_script({"a": "</script><!--"})) == {"a": "</script><!--"}
    assert "<" not in in_script({"a": "</script><!--"})


def test_nothing_is_asked_of_another_place(html):
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", html)
    assert "@import" not in html
    assert "fetch(" not in html


def test_the_page_has_landmarks_headings_captions_and_alternative_texts(html):
    for landmark in ("<header>", "<nav ", "<main "):
        assert html.count(landmark) == 1
    assert html.count("<h1") == 1
    assert html.count("<h2") == len(SECTIONS)
    assert html.count("<caption>") == html.count("<table")
    assert all(" alt=" in image and 'alt=""' not in image for image in re.findall(r"<img src=\"(?:kernels|panels)[^>]*>", html))


def test_each_measured_row_leads_to_its_weights_shards_and_commits(html):
    cited, entries = set(re.findall(r'href="#origin-(\d+)"', html)), set(re.findall(r'id="origin-(\d+)"', html))
    assert cited == entries != set()
    assert {"weights-0", "shards-digest", "0123456789ab", "2026-01-02 03:04:05 UTC"} <= set(
        re.findall(r"<dd><bdi dir=\"ltr\">([^<]*)", html)
    )


def test_numbers_of_the_tables_are_on_the_page(html):
    for number in ("30.1", "27.3–33.0", "−3.9", "−5.2 … −2.7", "0.450", "±0.000", "K12 table 2", "3 / 29"):
        assert number in html


def test_shifts_are_on_the_page_with_both_errors(html):
    shown = ("imagenet-v2-top-images test", "imagenet-r test, among imagenet-r", "27.0–33.3", "−0.1", "−4.3 … +4.2")
    for text in shown:
        assert text in html


def test_retrainings_are_listed_the_last_first_and_drawn_by_their_decision(html):
    section = html.partition('<section id="retraining">')[2].partition("</section>")[0]
    assert re.findall(r'<th scope="row"><bdi>(2026-05-0\d)', section) == [f"2026-05-0{day}" for day in (5, 4, 3, 2, 1)]
    for found in ("+1,200 −3 ~0", "−4.9", "−6.9 … −2.9", "+5.2", "30.0", "25.1", "22.5–27.9"):
        assert found in section
    assert re.findall(r"<li><svg.*?>([^<]+)</span></li>", section) == [
        "Champion",
        "challenger, promoted",
        "challenger, undecided",
        "challenger, worse",
    ]
    (chart,) = re.findall(r"<svg viewBox=\"0 0 360.*?</svg>", section, flags=re.DOTALL)
    assert len(re.findall(r"M[\d.]+ [\d.]+V", chart)) == 7  # an interval for each champion and each challenger
    assert chart.count("<circle") == 7


def test_a_report_without_a_part_has_no_section_for_it(report, tmp_path):
    parts = {"neighbours": pd.DataFrame(), "retrainings": pd.DataFrame(), "curves": {}, "kernels": {}, "panels": ()}
    write_page(replace(report, **parts), tmp_path)
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert re.findall(r'<section id="(\w+)"', html) == ["claims", "rates", "retrieval", "provenance"]
    empty = tmp_path / "empty"
    empty.mkdir()
    write_page(Report("nothing", {}), empty)
    assert "<section" not in (empty / "index.html").read_text(encoding="utf-8")


def test_a_query_without_a_prediction_is_an_error(report, tmp_path):
    with pytest.raises(InputError, match="no labelled prediction for the query q0; choose queries of the split"):
        write_page(replace(report, predictions=report.predictions.iloc[1:]), tmp_path)


def test_neighbours_of_several_networks_are_an_error(report, tmp_path):
    with pytest.raises(ValueError, match="expected the neighbours of one network"):
        write_page(replace(report, neighbours=pd.concat([report.neighbours] * 2)), tmp_path)


def test_a_picture_that_cannot_be_decoded_is_an_error_and_leaves_no_page(report, tmp_path):
    with pytest.raises(InputError, match="cannot be decoded"):
        write_page(replace(report, query_picture=lambda key: b"no jpeg"), tmp_path)
    assert not (tmp_path / "index.html").exists()


def test_each_text_exists_in_each_language_with_the_same_places():
    for key, words in catalogue().items():
        assert set(words) == set(LANGUAGES), key
        assert all(words.values()), key
        assert set(PLACES.findall(words["en"])) == set(PLACES.findall(words["ar"])), key


def test_each_text_of_the_catalogue_is_used():
    sources = "".join(
        path.read_text(encoding="utf-8") for path in Path("model/reporting").iterdir() if path.suffix in (".py", ".html", ".js")
    )
    made = {
        "claims",
        "retrieval",
        "rates",
        "retraining",
        "provenance",
        "gains",
    }  # keys are made from names of columns, tables and methods
    names = {key: key.split(".")[1] for key in catalogue() if key.split(".")[0] not in made}
    unused = [key for key, name in names.items() if name not in sources and not name.startswith("by_")]
    assert unused == []


def test_the_page_needs_neither_torch_nor_training():
    code = "import sys, model.reporting.page; print(*({'torch', 'model.network', 'model.training'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert done.stdout.split() == []


# In a browser


@pytest.mark.parametrize(
    ("address", "queries"),
    [
        ("", [0, 1, 2, 3, 4, 5]),
        ("?class=n01", [0, 3]),
        ("?class=n02", [1, 4]),
        ("?error=right", [0, 3, 4]),
        ("?error=top1", [1, 2, 5]),
        ("?error=top5", [2]),
        ("?class=n03&error=top1&lang=ar", [2, 5]),
        ("?class=n01&error=top5", []),
        ("?class=unknown&error=unknown", [0, 1, 2, 3, 4, 5]),
    ],
)
def test_the_address_filters_the_queries(page, open_tab, address, queries):
    tab = open_tab(f"file://{page}/index.html{address}")
    assert shown_queries(tab) == queries
    counted = tab.evaluate("document.getElementById('count').textContent")
    assert [int(number) for number in re.findall(r"\d+", counted)] == [len(queries), 6]
    assert tab.evaluate("document.getElementById('nothing').hidden") == bool(queries)
    assert tab.complaints == []


def test_choosing_a_filter_changes_rows_and_address_and_reset_shows_all(page, open_tab):
    tab = open_tab(f"file://{page}/index.html")
    choose = "{0}.value = '{1}'; {0}.dispatchEvent(new Event('change', {{bubbles: true}}))"
    tab.evaluate(choose.format("document.getElementById('class')", "n02"))
    tab.evaluate(choose.format("document.getElementById('error')", "top1"))
    assert shown_queries(tab) == [1]
    assert tab.evaluate("location.search") == "?class=n02&error=top1"
    tab.evaluate("document.querySelector('[type=reset]').click()")
    tab.settle()
    assert shown_queries(tab) == [0, 1, 2, 3, 4, 5]
    assert tab.evaluate("location.search") == ""


def test_the_page_asks_for_its_own_pictures_only(page, open_tab):
    tab = open_tab(f"file://{page}/index.html")
    tab.evaluate("document.getElementById('queries').scrollIntoView({behavior: 'instant'})")
    tab.settle()
    asked = {url.removeprefix(f"file://{page}/") for url in tab.requests}
    assert asked <= set(files_of(page))
    assert {"index.html", "strips/0.jpg"} <= asked
    assert tab.complaints == []


def test_a_web_server_serves_the_same_page(page, open_tab, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(page)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        tab = open_tab(f"http://127.0.0.1:{server.server_port}/?class=n02")
        tab.evaluate("document.getElementById('queries').scrollIntoView({behavior: 'instant'})")
        tab.settle()
        assert shown_queries(tab) == [1, 4]
        assert all(url.startswith(f"http://127.0.0.1:{server.server_port}/") for url in tab.requests)
        assert tab.complaints == []
    finally:
        server.shutdown()
        server.server_close()


def test_strips_are_loaded_only_when_they_come_into_view(page, open_tab):
    tab = open_tab(f"file://{page}/index.html")
    assert not [url for url in tab.requests if "/strips/" in url]
    tab.evaluate("document.getElementById('rows').lastChild.scrollIntoView({behavior: 'instant'})")
    tab.settle()
    assert f"file://{page}/strips/5.jpg" in tab.requests


@pytest.mark.parametrize(("language", "direction"), [("en", "ltr"), ("ar", "rtl")])
def test_the_page_is_whole_in_both_languages(page, open_tab, language, direction):
    tab = open_tab(f"file://{page}/index.html?lang={language}")
    assert tab.evaluate("[document.documentElement.lang, document.documentElement.dir]") == [language, direction]
    assert tab.evaluate("document.querySelector('h1').textContent") == catalogue()["page.title"][language]
    headings = tab.evaluate("[...document.querySelectorAll('h2')].map(h => h.textContent)")
    assert headings == [catalogue()[f"{section}.title"][language] for section in SECTIONS]
    labels = tab.evaluate("[...document.querySelectorAll('main [aria-label]')].map(e => e.getAttribute('aria-label'))")
    arabic = [bool(re.search("[\u0600-\u06ff]", label)) for label in labels]
    assert all(arabic) if language == "ar" else not any(arabic)
    assert tab.complaints == []


def test_both_languages_have_the_same_numbers(page, open_tab):
    numbers = []
    for language in LANGUAGES:
        tab = open_tab(f"file://{page}/index.html?lang={language}")
        cells = tab.evaluate("[...document.querySelectorAll('td bdi, .value, dd, .tiles small')].map(e => e.textContent)")
        claims = tab.evaluate("[...document.querySelectorAll('.measured')].map(e => e.textContent)")
        numbers.append((cells, [sorted(re.findall(r"\d[\d.,]*\d|\d", claim)) for claim in claims]))
    assert numbers[0] == numbers[1]


def test_the_language_switch_keeps_the_place_and_the_filter(page, open_tab):
    tab = open_tab(f"file://{page}/index.html?class=n01", width=900, height=600)
    tab.evaluate("document.getElementById('retrieval').scrollIntoView({behavior: 'instant'})")
    tab.settle()
    top = "document.querySelector('#retrieval h2').getBoundingClientRect().top"
    before = tab.evaluate(top)
    tab.evaluate("document.getElementById('language').click()")
    tab.settle()
    assert abs(tab.evaluate(top) - before) < 16  # less than a line: the block above it stays exactly
    assert tab.evaluate("document.documentElement.dir") == "rtl"
    assert set(tab.evaluate("location.search").lstrip("?").split("&")) == {"class=n01", "lang=ar"}
    assert tab.evaluate("document.getElementById('language').textContent") == "English"


def test_a_class_name_that_looks_like_markup_is_shown_as_it_is(page, open_tab, report):
    tab = open_tab(f"file://{page}/index.html")
    assert tab.evaluate("document.title") == catalogue()["page.title"]["en"]
    name = report.names["n02"].split(",")[0]
    assert tab.evaluate("document.querySelectorAll('article')[1].querySelector('h3').textContent") == name
    assert tab.evaluate("document.querySelectorAll('#rows script, #rows img, .panels script, .panels [onerror]').length") == 0


@pytest.mark.parametrize("width", [360, 800, 1600])
@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_is_wider_than_the_window(page, open_tab, width, language):
    tab = open_tab(f"file://{page}/index.html?lang={language}", width=width)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_a_link_to_an_origin_opens_it(page, open_tab):
    tab = open_tab(f"file://{page}/index.html#origin-1")
    assert tab.evaluate("[...document.querySelectorAll('details')].map(d => d.open)")[:2] == [True, False]


def test_without_a_script_the_tables_and_figures_are_there(page, html):
    body = re.sub(r"<script.*?</script>", "", html, flags=re.S)
    assert "<noscript>" in body
    assert body.count("<tr") > 10
    assert body.count("<svg") >= 4
