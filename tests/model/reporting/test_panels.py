"""Top-5 panels and neighbour strips."""

import io

import pandas as pd
import pytest
from PIL import Image

from base.errors import InputError
from model.reporting.neighbours import Strip, draw_strips, make_strips
from model.reporting.panels import choose_images, draw_panels, make_panels
from model.reporting.photographs import first_synonym, square

KEYS = [f"n{number:08d}" for number in range(500)]


def jpeg(colour, size=(80, 60)):
    data = io.BytesIO()
    Image.new("RGB", size, colour).save(data, "JPEG")
    return data.getvalue()


@pytest.fixture
def predictions():
    rows = {"image_id": KEYS[:3], "wnid": ["n1", "n2", None], "rank": [1, 2, None]}
    best = {"top5_wnid": [["n1", "n2"]] * 3, "top5_prob": [[0.8, 0.2]] * 3}
    return pd.DataFrame({**rows, **best})


def test_the_choice_depends_on_keys_and_seed_alone():
    chosen = choose_images(KEYS)
    assert len(set(chosen)) == 8
    assert chosen == choose_images(reversed(KEYS))
    assert chosen != choose_images(KEYS, seed=1)
    assert choose_images(KEYS, 3) == chosen[:3]


def test_every_image_is_chosen_as_often():
    chosen = [key for seed in range(400) for key in choose_images(KEYS[:40], seed=seed)]
    counts = pd.Series(chosen).value_counts()
    assert len(counts) == 40
    assert counts.between(45, 120).all()  # 80 expected, ±8


def test_panels_hold_the_answers_of_their_image(predictions):
    (panel,) = make_panels(predictions, {KEYS[1]: b"jpeg"})
    assert (panel.image_id, panel.wnid, panel.best) == (KEYS[1], "n2", (("n1", 0.8), ("n2", 0.2)))


@pytest.mark.parametrize("key", [KEYS[2], "another"])
def test_an_image_without_a_labelled_prediction_is_an_error(key, predictions):
    with pytest.raises(InputError, match=f"no labelled prediction for {key}; choose images of the split"):
        make_panels(predictions, {key: b"jpeg"})


def test_panels_are_drawn_the_same_each_time_and_any_name_is_text(predictions, tmp_path):
    panels = make_panels(predictions, {KEYS[0]: jpeg("red"), KEYS[1]: jpeg("blue")})
    for name in ("one.png", "two.png"):
        draw_panels(panels, {"n1": "$\\frac{cat, tomcat", "n2": "<b>&"}, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_the_true_class_has_a_colour_of_its_own(predictions, tmp_path):
    draw_panels(make_panels(predictions, {KEYS[0]: jpeg("white")}), {}, tmp_path / "panel.png")
    colours = {colour for _, colour in Image.open(tmp_path / "panel.png").convert("RGB").getcolors(10**6)}
    assert {(0xEC, 0x9A, 0x85), (0xB5, 0xCB, 0xDD)} <= colours


def test_strips_have_a_border_for_right_and_for_wrong(tmp_path):
    one = Strip(jpeg("white"), (jpeg("white"),) * 6, (True,) * 6)
    draw_strips([one], tmp_path / "right.png")
    draw_strips([one, Strip(one.query, one.neighbours, (False,) * 6)], tmp_path / "both.png")
    right, both = (
        {colour for _, colour in Image.open(tmp_path / f"{name}.png").convert("RGB").getcolors(10**6)}
        for name in ("right", "both")
    )
    assert (0, 0x72, 0xB2) in right & both
    assert (0xD5, 0x5E, 0) in both - right


def test_strips_are_made_from_rows_in_the_order_of_their_rank():
    rows = {"query_id": ["q"] * 3, "query_wnid": ["n1"] * 3, "rank": [2, 1, 3], "neighbour_id": ["b", "a", "c"]}
    frame = pd.DataFrame({**rows, "neighbour_wnid": ["n2", "n1", "n1"]})
    (strip,) = make_strips(frame, lambda key: b"query " + key.encode(), str.encode)
    assert strip == Strip(b"query q", (b"a", b"b", b"c"), (True, False, True))


def test_a_photograph_becomes_its_centre_square():
    data = io.BytesIO()
    wide = Image.new("RGB", (300, 100), "red")
    wide.paste("blue", (100, 0, 200, 100))
    wide.save(data, "PNG")
    shown = square(data.getvalue(), 50)
    assert shown.size == (50, 50)
    assert shown.getpixel((25, 25)) == (0, 0, 255)


def test_an_image_that_cannot_be_decoded_is_an_error():
    with pytest.raises(InputError, match="an image of 7 bytes cannot be decoded .* verify its shard set"):
        square(b"no jpeg", 50)


def test_the_first_synonym_names_a_class():
    assert first_synonym("tench, Tinca tinca") == "tench"
    assert first_synonym("crane") == "crane"
