"""Names of classes: which are the same, which logit a label stands for, and what is said of what had to be assumed."""

import unicodedata
from collections.abc import Sequence

import pytest

from cuescope.core.alignment import align, aligned
from cuescope.core.class_names import ClassNames, folded
from cuescope.core.classes import (
    BY_INDEX,
    BY_NUMBER,
    IMAGENET,
    ClassSpace,
    category_members,
    class_index,
    decision_members,
    imagenet_1k,
)
from cuescope.core.errors import CueError

NFC, NFD = (unicodedata.normalize(form, "Pâté") for form in ("NFC", "NFD"))


def folders(*names: str) -> ClassSpace:
    return ClassSpace("folders", names, names)


def numbers(*names: str) -> ClassSpace:
    return ClassSpace(BY_NUMBER, names, tuple(str(int(name)) for name in names))


def mine(*names: str) -> ClassSpace:
    return ClassSpace("mine", names)


def notes(images: ClassSpace, classifier: ClassSpace) -> str:
    return "; ".join(aligned(images, classifier).notes)


@pytest.mark.parametrize(
    ("names", "asked", "position"),
    [
        (["C", "C++", "C#"], "C#", 2),
        (["C", "C++", "C#"], "c++", 1),
        (["C++", "java"], "C", -1),
        (["-10", "10"], "10", 1),
        (["-10", "20"], "10", -1),
        (["10", "20"], "-10", -1),
        (["A", "a"], "a", 1),
        (["a", "b"], "A", 0),
        (["Ärzte", "ärzte"], "ÄRZTE", -1),
        ([NFC, "b"], NFD, 0),
        ([NFD, "b"], NFC, 0),
        (["кот", "собака"], "Кот", 0),
        (["狗", "猫"], "鸟", -1),
        (["🐱", "🐶"], "🐶", 1),
        (["polar bear", "b"], "Polar_Bear", 0),
        (["t-shirt"], "t shirt", 0),
        (["crane", "crane"], "crane", -1),
        (["हिन्दी", "हन्द"], "हन्द", 1),
        (["???", "!!!"], "...", -1),
    ],
)
def test_the_strictest_level_at_which_a_name_fits_decides(names: Sequence[str], asked: str, position: int) -> None:
    assert ClassNames(names).find(asked) == position


def test_folded_names_of_other_scripts_stay_apart() -> None:
    assert len({folded(name) for name in ("лиса", "волк", "猫", "狗", "قط", "كلب", "C", "C#", "C++", "1", "-1")}) == 11


def test_names_without_ascii_letters_match_themselves_only() -> None:
    assert align(folders("кот", "лис", "пёс"), mine("пёс", "кот", "лис")) == (1, 2, 0)
    assert align(folders("cat", "волк"), mine("cat", "лиса")) == (0, -1)
    assert "волк" in notes(folders("cat", "волк"), mine("cat", "лиса"))


def test_what_is_written_otherwise_is_said() -> None:
    assert align(folders("Polar_Bear", "owl"), mine("owl", "polar bear")) == (1, 0)
    assert "'Polar_Bear' as 'polar bear'" in notes(folders("Polar_Bear", "owl"), mine("owl", "polar bear"))
    assert notes(folders("owl"), mine("owl", "cat")) == ""


def test_cardigan_is_one_of_two_in_torchvision() -> None:
    space = mine("Cardigan", "cardigan", "hat")
    assert align(folders("cardigan", "hat"), space) == (1, 2)
    assert align(folders("CARDIGAN", "hat"), space) == (-1, 2)
    assert "'CARDIGAN' names several classes, 0 'Cardigan' and 1 'cardigan'" in notes(folders("CARDIGAN", "hat"), space)


def test_of_two_labels_of_one_class_the_stricter_has_it_and_equal_ones_are_an_error() -> None:
    assert align(folders("A", "a"), mine("a", "b")) == (-1, 0)
    with pytest.raises(CueError, match="'polar bear' and 'polar_bear' are both the classifier's class 'Polar-bear'"):
        align(folders("polar bear", "polar_bear"), mine("Polar-bear", "owl"))


def test_imagenet_by_wordnet_id_and_by_name() -> None:
    space = imagenet_1k()
    assert align(folders("n01443537", "n01440764"), space) == (1, 0)
    assert align(folders("crane", "tench"), space) == (-1, 0)
    assert "134 'crane' and 517 'crane'" in notes(folders("crane", "tench"), space)


# --- numbers and positions


@pytest.mark.parametrize(
    ("names", "count", "expected", "said"),
    [
        ([str(i) for i in range(12)], 12, tuple(range(12)), "0 to 11, are taken as indices"),
        ([f"{i:02}" for i in range(12)], 12, tuple(range(12)), "00 to 11, are taken as indices"),
        (["0", "2", "10"], 11, (0, 2, 10), "8 have no folder, such as output 1"),
        (["1", "2"], 3, (1, 2), "no folder, such as output 0"),
        (
            [str(i) for i in range(1, 12)],
            11,
            tuple(range(11)),
            "numeric order .* from '1', output 0, to '11', output 10",
        ),
        (["7", "30", "200"], 3, (0, 1, 2), "numeric order"),
    ],
)
def test_numbers_of_a_numbered_classifier_are_indices_or_in_numeric_order_and_said(
    names: Sequence[str], count: int, expected: tuple[int, ...], said: str
) -> None:
    found = aligned(numbers(*names), ClassSpace.numbered(count))
    assert found.places == expected
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(*found.notes)


def test_numbers_that_may_be_no_indices_are_refused() -> None:
    for classifier in (ClassSpace.numbered(4), imagenet_1k(), mine("a", "b", "c")):
        with pytest.raises(CueError, match=r"named by numbers, 1 to 5 \(5 in all\), which are not the indices 0 to"):
            align(numbers(*"12345"), classifier)
    with pytest.raises(CueError, match="named by numbers, 1 to 1000"):
        align(numbers(*map(str, range(1, 1001))), imagenet_1k())


def test_all_indices_of_a_classifier_with_names_are_its_indices_and_said() -> None:
    found = aligned(numbers(*map(str, range(1000))), imagenet_1k())
    assert found.places == tuple(range(1000))
    assert "0 to 999, are taken as indices of the outputs" in found.notes[0]


def test_classes_that_are_named_by_numbers_are_matched_by_name() -> None:
    assert align(numbers("0", "1", "2", "10"), mine("0", "1", "10", "2")) == (0, 1, 3, 2)
    assert align(numbers("00", "01"), mine("1", "0")) == (1, 0)


def test_matching_by_position_is_said_with_its_order() -> None:
    found = aligned(folders("cat", "dog", "emu"), ClassSpace.numbered(3))
    assert found.places == (0, 1, 2)
    assert "alphabetical order" in found.notes[0]
    assert "'cat', output 0, to 'emu', output 2" in found.notes[0]
    assert align(folders("class_0", "class_10"), ClassSpace.numbered(11)) == (0, 10)
    with pytest.raises(CueError, match="only 2 of the 3 labels"):
        align(folders("class_1", "class_2", "class_3"), ClassSpace.numbered(3))


# --- a CSV's indices


def test_names_of_a_csv_that_contradict_the_classifier_are_refused() -> None:
    with pytest.raises(CueError, match="names class 1 'emu', the classifier 'dog'"):
        align(ClassSpace(BY_INDEX, ("cat", "emu", "dog")), mine("cat", "dog", "emu"))
    with pytest.raises(CueError, match="names class 0 'airplane', the classifier 'cat'"):
        align(ClassSpace(BY_INDEX, ("airplane", "boat")), mine("cat", "dog"))
    with pytest.raises(CueError, match="names class 1 'cat', the classifier 'dog'"):
        align(ClassSpace(BY_INDEX, ("class 0", "cat", "dog")), mine("cat", "dog", "emu"))


def test_names_of_a_csv_that_say_nothing_or_less_are_no_contradiction() -> None:
    classifier = mine("cat", "dog", "emu")
    assert aligned(ClassSpace(BY_INDEX, ("Cat", "class 1", "emu")), classifier).notes == ()
    assert aligned(ClassSpace(BY_INDEX, ("animal", "animal", "bird")), mine("cat", "dog", "bird")).places == (0, 1, 2)
    assert "puppy" in notes(ClassSpace(BY_INDEX, ("cat", "puppy")), classifier)
    assert notes(ClassSpace(BY_INDEX, imagenet_1k().names), ClassSpace("other", imagenet_1k().names)) == ""


def test_wordnet_ids_of_a_csv_are_used_and_said_where_its_indices_differ() -> None:
    found = aligned(ClassSpace(BY_INDEX, ("x", "y", "z"), ("n2", "1", "n9")), ClassSpace("k", ("a", "b"), ("n1", "n2")))
    assert found.places == (1, -1, -1)
    assert "the WordNet ids of the labels CSV are used, not its indices: index 0 is n2, output 1" in found.notes
    assert found.notes[1].endswith("whose images are unlabeled: n9")


def test_an_index_beyond_the_classes_may_count_from_1() -> None:
    with pytest.raises(CueError, match=r"index 3, the classifier has 3 classes(.|\n)*count from 1"):
        align(ClassSpace(BY_INDEX, ("class 0", "class 1", "class 2", "class 3")), mine("a", "b", "c"))


# --- categories and single classes


def test_categories_are_classes_of_the_same_name_or_an_error() -> None:
    space = mine("C", "C++", "Ёлка", "a", "A")
    assert category_members(space, ["ёлка", "C++", "A"]) == {"C++": (1,), "A": (4,), "ёлка": (2,)}
    with pytest.raises(CueError, match="'CRANE' names several classes: 0 'crane' and 1 'Crane'"):
        category_members(mine("crane", "Crane"), ["CRANE"])
    with pytest.raises(CueError, match="'B' and 'b' are both the classifier's class 'b'"):
        category_members(mine("a", "b"), ["B", "b"])


def test_every_class_may_be_decided_for_though_two_have_one_name() -> None:
    found = decision_members(imagenet_1k(), ["tench", "goldfish"])
    assert len(found) == 1000
    assert sorted(i for members in found.values() for i in members) == list(range(1000))


def test_one_class_by_index_key_or_name() -> None:
    space = ClassSpace("mine", ("Cardigan", "cardigan", "猫"), ("n1", "n2", "n3"))
    assert [class_index(space, label) for label in (1, "n1", "cardigan", "猫")] == [1, 0, 1, 2]
    with pytest.raises(CueError, match="'CARDIGAN' names several classes: 0 'Cardigan' and 1 'cardigan'"):
        class_index(space, "CARDIGAN")
    with pytest.raises(CueError, match="'1' is the index of 'a' and the name of 0 '1'"):
        class_index(mine("1", "a"), "1")
    with pytest.raises(CueError, match="unknown class"):
        class_index(space, "7")
    assert imagenet_1k().name == IMAGENET
