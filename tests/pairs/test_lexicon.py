import pytest

from riffusion.pairs import lexicon
from riffusion.pairs.tasks import ADD, EXTRACT, KEEP, REMOVE, TASKS


def test_every_task_has_verbs_of_its_own():
    assert {verb.task for verb in lexicon.verbs().values()} == {*TASKS, None}


@pytest.mark.parametrize(
    ("text", "task", "length"),
    [
        ("take out the drums", REMOVE, 2),
        ("taking out the drums", REMOVE, 2),
        ("took away the drums", REMOVE, 2),
        ("drop the drums", REMOVE, 1),
        ("drop in a drum", ADD, 2),
        ("isolate the drums", EXTRACT, 1),
        ("leave the drums", KEEP, 1),
        ("replace the drums", None, 1),
    ],
)
def test_the_longest_verb_counts_in_any_form(text, task, length):
    verb = lexicon.verb_of(text.split())
    assert (verb.task, verb.length, verb.misspelt) == (task, length, False)


@pytest.mark.parametrize("word", ["remoev", "rmeove", "remov", "isolatte"])
def test_a_verb_of_taking_away_may_have_one_letter_wrong(word):
    verb = lexicon.verb_of([word, "the", "drums"])
    assert verb.takes
    assert verb.misspelt


@pytest.mark.parametrize("word", ["ad", "puut", "drums", "remarkable", "the", ""])
def test_other_words_are_no_verbs(word):
    assert lexicon.verb_of([word, "the", "drums"]) is None


def test_parts_have_plurals_and_owners_and_end_compounds():
    assert all(map(lexicon.is_part, ["drum", "drums", "drummer's", "drums'", "bass", "lap-guitar"]))
    assert not any(map(lexicon.is_part, ["reverb", "guitar-like", "s", ""]))


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("abcd", "abce", True),
        ("abcd", "abc", True),
        ("abcd", "acbd", True),
        ("abcd", "abef", False),
        ("ab", "ba", True),
    ],
)
def test_one_letter_apart(one, other, near):
    assert lexicon.one_letter_apart(one, other) == lexicon.one_letter_apart(other, one) == near
