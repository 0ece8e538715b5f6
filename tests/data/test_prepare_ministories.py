"""The built-in stories and the random control (ministories.py, stories/, random_tokens.py)."""

import math
import re

import numpy as np
import pytest

from pyllmc.data.ministories import prepare_ministories
from pyllmc.data.prepare import SPLITS
from pyllmc.data.random_tokens import prepare_random
from pyllmc.data.statistics import unigram_entropy
from pyllmc.data.stories import PLOTS, tell_stories
from pyllmc.data.stories.teller import ANIMAL_NAMES, BOYS, GIRLS, NUMBERS, Teller
from pyllmc.data.token_file import read_tokens
from pyllmc.data.tokenizer_file import read_tokenizer_file
from pyllmc.data.tokenizers import load_tokenizer
from pyllmc.errors import UsageError


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return prepare_ministories(tmp_path_factory.mktemp("mini"), stories=400)


def stories_of(dataset, split):
    encoding = load_tokenizer("ministories").encoding
    text = encoding.decode(read_tokens(dataset.file(split)).tolist())
    assert text.startswith("<|endoftext|>")
    return text.split("<|endoftext|>")[1:]


def test_the_files_hold_exactly_the_stories_told(small):
    found = [story for split in SPLITS for story in stories_of(small, split)]
    assert found == list(tell_stories(400, 1337))
    assert [len(stories_of(small, split)) for split in SPLITS] == [360, 20, 20]


def test_no_held_out_story_occurs_in_training(small):
    train, val, test = (set(stories_of(small, split)) for split in SPLITS)
    assert not train & val
    assert not train & test
    assert not val & test
    assert len(train) == 360


def test_a_story_that_repeats_is_told_once(monkeypatch):
    told = iter(["a", "b", "a", "a", "c"])
    monkeypatch.setattr(Teller, "story", lambda self, plot: next(told))
    assert list(tell_stories(3, 0)) == ["a", "b", "c"]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(small, tmp_path):
    again = prepare_ministories(tmp_path / "again", stories=400)
    for path in small.folder.iterdir():
        assert path.read_bytes() == (again.folder / path.name).read_bytes()
    other = prepare_ministories(tmp_path / "other", stories=400, seed=2)
    assert other.file("train").read_bytes() != small.file("train").read_bytes()


def test_the_default_amount_is_one_to_two_million_tokens(small):
    per_story = read_tokens(small.file("train")).size / 360
    assert 1e6 < 0.9 * 8000 * per_story < 2e6


def test_single_words_say_little_about_what_comes_next(small):
    # A model that learned only frequencies stays far above one that follows the stories.
    assert 5 < unigram_entropy(small.file("train")) < math.log(1024)


def test_too_few_stories_to_split_are_refused(tmp_path):
    with pytest.raises(UsageError, match="19 stories"):
        prepare_ministories(tmp_path, stories=19)


def test_an_earlier_result_is_kept_and_another_is_refused(small, capsys):
    prepare_ministories(small.folder, stories=400)
    assert "up to date" in capsys.readouterr().err
    with pytest.raises(UsageError, match="made with stories 400, not 500"):
        prepare_ministories(small.folder, stories=500)


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.__name__)
def test_every_plot_is_well_formed(plot):
    teller = Teller(5)
    for _ in range(200):
        story = teller.story(plot)
        assert not re.search(r"[{}\[\]|]", story), story
        assert not re.search(r"  | \n|\n | [.,!?]|\.\.|[.!?][a-z]|^ | $", story), story
        assert not re.search(r"\b[Aa] [aeiou]|\b[Aa]n [^aeiou]", story), story
        assert not re.search(r"(^|[.!?] |\n)[a-z]", story), story
        assert not re.search(r'(^|[.!?] |\n)"[a-z]', story), story
        assert not re.search(r"\b(\w+) \1\b", story), story
        for paragraph in story.split("\n\n"):
            assert paragraph[-1] in '.!?"', story
            assert paragraph.count('"') % 2 == 0, story


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.__name__)
def test_a_story_is_about_its_two_characters(plot):
    names = set(GIRLS) | set(BOYS) | set(ANIMAL_NAMES)
    teller = Teller(6)
    for _ in range(100):
        story = teller.story(plot)
        told = names & set(re.findall(r"[A-Z][a-z]+", story))
        assert teller.h.name in told, story
        assert told <= {teller.h.name, teller.f.name}, story


def test_what_is_given_away_and_what_is_left_add_up():
    seen = 0
    for story in tell_stories(2000, 3):
        given = re.search(r"gave (?:him|her) (\w+) \w+\. \w+ counted the rest", story)
        if given:
            total, left = re.search(r"had been (\w+), and now there were (\w+)\.", story).groups()
            assert NUMBERS.index(total) == NUMBERS.index(given[1]) + NUMBERS.index(left), story
            seen += 1
    assert seen > 20


def test_the_way_back_is_the_way_there_turned_around():
    seen = 0
    for story in tell_stories(2000, 4):
        there = re.search(r'"Go (.*?), then (.*?), and then (.*?),"', story)
        if there:
            back = re.search(r"So s?he went (.*?), then (.*?), and then (.*?),", story)
            turned = [place.replace("up the", "down the") for place in there.groups()[::-1]]
            assert list(back.groups()) == turned, story
            seen += 1
    assert seen > 20


def test_random_tokens_are_uniform_and_reproducible(tmp_path):
    made = prepare_random(tmp_path / "a", vocab_size=50, tokens=200_000)
    assert sorted(path.name for path in made.folder.iterdir()) == [
        "random.json",
        "random_test.bin",
        "random_tokenizer.bin",
        "random_train.bin",
        "random_val.bin",
    ]
    counts = np.bincount(read_tokens(made.file("train")), minlength=50)
    assert counts.size == 50
    # 5 standard deviations of a binomial count
    assert np.abs(counts - 4000).max() < 5 * math.sqrt(4000)
    assert read_tokens(made.file("val")).size == 20_000
    again = prepare_random(tmp_path / "b", vocab_size=50, tokens=200_000)
    assert again.file("train").read_bytes() == made.file("train").read_bytes()
    assert again.file("val").read_bytes() != made.file("test").read_bytes()
    words, eot = read_tokenizer_file(made.tokenizer_file)
    assert (words[49], eot) == (b"49 ", 49)


def test_neighbors_in_random_tokens_are_independent(tmp_path):
    made = prepare_random(tmp_path, vocab_size=16, tokens=100_000)
    tokens = read_tokens(made.file("train")).astype(np.int64)
    pairs = np.bincount(tokens[:-1] * 16 + tokens[1:], minlength=256)
    expected = (tokens.size - 1) / 256
    chi2 = ((pairs - expected) ** 2 / expected).sum()
    assert chi2 < 255 + 5 * math.sqrt(2 * 255)


@pytest.mark.parametrize(
    "options", [{"vocab_size": 1}, {"vocab_size": 65537}, {"tokens": 9}], ids=str
)
def test_random_settings_that_cannot_work_are_refused(tmp_path, options):
    with pytest.raises(UsageError):
        prepare_random(tmp_path, **options)
