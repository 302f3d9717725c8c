import pytest

from riffusion.pairs.noun_phrases import Article, Noun, noun_phrase


@pytest.mark.parametrize(
    ("text", "article", "noun", "length"),
    [
        ("the drums", Article.THE, Noun.PARTS, 2),
        ("all of the drums please", Article.THE, Noun.PARTS, 4),
        ("drums", Article.BARE, Noun.PARTS, 1),
        ("guitar", Article.BARE, Noun.PART, 1),
        ("a very loud violin with reverb", Article.A, Noun.DESCRIBED, 4),
        ("the drum level", Article.THE, Noun.PROPERTY, 3),
        ("the vocal track", Article.THE, Noun.DESCRIBED, 3),
        ("the reverb", Article.THE, Noun.PROPERTY, 2),
        ("the bagatelle", Article.THE, Noun.UNKNOWN, 2),
        ("the other instruments", Article.THE, Noun.REST, 3),
        ("the other guitar", Article.THE, Noun.DESCRIBED, 3),
        ("the whole song", Article.THE, Noun.WHOLE, 3),
        ("nothing", Article.BARE, Noun.NOTHING, 1),
        ("them", Article.IT, Noun.NONE, 1),
        ("it", Article.IT, Noun.WHOLE, 1),
        ("drums played softly", Article.BARE, Noun.PARTS, 1),
        ("over the drums", Article.NONE, Noun.NONE, 0),
    ],
)
def test_a_phrase_has_an_article_and_a_noun(text, article, noun, length):
    phrase = noun_phrase(text.split())
    assert (phrase.article, phrase.noun, phrase.length) == (article, noun, length)


def test_only_parts_that_are_there_are_known():
    assert noun_phrase(["the", "drums"]).is_known
    assert not noun_phrase(["a", "drum"]).is_known
    assert not noun_phrase(["the", "bagatelle"]).is_known
    assert noun_phrase(["the", "bagatelle"]).is_definite
