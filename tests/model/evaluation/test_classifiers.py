"""The description of a classifier, and class lists."""

import pytest
from pydantic import ValidationError

from base.errors import InputError
from model.evaluation.classifiers import Classifier, read_classes


def test_a_factory_without_a_colon_is_refused():
    with pytest.raises(ValidationError, match="factory"):
        Classifier(factory="package.module.function", wnids=("n1", "n2"))


@pytest.mark.parametrize("text", ["n1\nn2\n", "n1\r\nn2 \r\n\r\n", "\ufeffn1\nn2"])
def test_a_class_list_is_a_wnid_a_line(tmp_path, text):
    (tmp_path / "c.txt").write_bytes(text.encode())
    assert read_classes(tmp_path / "c.txt") == ("n1", "n2")


@pytest.mark.parametrize("text", ["n1 kit fox\n", "n1\n\nn2\n"])
def test_a_line_that_is_not_one_wnid_is_refused(tmp_path, text):
    (tmp_path / "c.txt").write_text(text)
    with pytest.raises(InputError, match="c.txt, line [12]: found '.*', expected one WNID"):
        read_classes(tmp_path / "c.txt")


def test_a_missing_class_list_is_named(tmp_path):
    with pytest.raises(InputError, match="no class list .*none.txt; expected a text file with one WNID per line"):
        read_classes(tmp_path / "none.txt")


def test_a_class_list_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "c.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="c.txt is not a text file; expected one WNID per line"):
        read_classes(tmp_path / "c.txt")
