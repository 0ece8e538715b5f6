"""What every plot uses: chance, templates, the cast, openings and endings."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SENTENCE_START = re.compile(r"(^\"?|[.!?] \"?)([a-z])")
_BEFORE_VOWEL = re.compile(r"\b([Aa]) (?=[aeiou])")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


GIRLS = _words(
    "Anna Mia Ella Lucy Rosa Nora Zoe Ivy Clara Maya Ruby Lena Hana Tessa Amy Emma Leila Sara Lily "
    "Mina Greta Olga Wanda Frida"
)
BOYS = _words(
    "Ben Tom Sam Leo Max Jack Finn Omar Noah Hugo Oscar Theo Adam Luca Milo Jonah Kai Eli Felix "
    "Ravi Emil Anton Peter Oliver"
)
ANIMAL_NAMES = _words(
    "Pip Bramble Hazel Nibble Clover Button Pebble Dusty Fern Tumble Biscuit Poppy Acorn Maple "
    "Willow Rusty Bumble Pepper Ginger Nutmeg Teasel Sorrel Thistle Juniper"
)
ANIMALS = _words(
    "rabbit fox bear mouse duck hedgehog squirrel frog mole badger kitten puppy turtle otter goat "
    "pony lamb beaver"
)
ELDERS = (
    ("Mama", "she"),
    ("Papa", "he"),
    ("Grandma", "she"),
    ("Grandpa", "he"),
    ("Aunt Flora", "she"),
    ("Uncle Joe", "he"),
)
HOMES = (
    "by the sea",
    "near a river",
    "at the edge of the forest",
    "on a green hill",
    "in a small village",
    "next to an old mill",
    "behind the tall mountains",
    "at the end of a long road",
)
# infinitive, past
LOVES = (
    ("sing", "sang"),
    ("dance", "danced"),
    ("hum", "hummed"),
    ("whistle", "whistled"),
    ("skip", "skipped"),
    ("run", "ran"),
    ("hop", "hopped"),
)
TRAITS = _words(
    "kind curious cheerful quiet clever gentle lively friendly funny thoughtful polite merry"
)
COLORS = _words("red blue green yellow white brown orange purple")
NUMBERS = _words("zero one two three four five six seven eight nine ten eleven twelve")


@dataclass(frozen=True)
class Person:
    """Somebody in a story, with the pronouns; prints as the name."""

    name: str
    noun: str
    he: str

    def __str__(self) -> str:
        return self.name

    @property
    def him(self) -> str:
        return "her" if self.he == "she" else "him"

    @property
    def his(self) -> str:
        return "her" if self.he == "she" else "his"

    @property
    def himself(self) -> str:
        return f"{self.him}self"


class Teller:
    """Tells one story after another; `h` is the hero, `f` a friend, `e` an older relative.

    `{friend}` is the friend at the first mention, such as "Pip the fox" or "his friend Tom".
    A template is text with `[one|other]` choices, which may be nested, and `{slots}` that are
    filled from the cast and the keywords given. "a" becomes "an" and sentences get their capital
    letter by themselves.
    """

    def __init__(self, seed: int) -> None:
        # Only random() itself is promised to give the same numbers in every version of Python.
        self._random = random.Random(seed).random

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self._random() * len(options))]

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """`count` different entries in random order."""
        rest = list(options)
        return [rest.pop(int(self._random() * len(rest))) for _ in range(count)]

    def number(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self._random() * (high - low + 1))

    def story(self, plot: Callable[[Teller], None]) -> str:
        self._paragraphs: list[str] = []
        self._cast()
        plot(self)
        return "\n\n".join(self._paragraphs)

    def _cast(self) -> None:
        if self.chance(0.55):
            people = [Person(name, "girl", "she") for name in self.sample(GIRLS, 2)]
            people += [Person(name, "boy", "he") for name in self.sample(BOYS, 2)]
            self.h, self.f = self.sample(people, 2)
            self._friend = f"{self.h.his} friend {self.f}"
        else:
            self.h, self.f = (
                Person(name, noun, self.pick(("she", "he")))
                for name, noun in zip(
                    self.sample(ANIMAL_NAMES, 2), self.sample(ANIMALS, 2), strict=True
                )
            )
            self._friend = f"{self.f} the {self.f.noun}"
        name, he = self.pick(ELDERS)
        self.e = Person(name, "grown-up", he)
        self._love, self._loved = self.pick(LOVES)
        self._home = self.pick(HOMES)

    def say(self, template: str, **slots: object) -> str:
        """One or more whole sentences."""
        text = self.fill(template, **slots)
        return _SENTENCE_START.sub(lambda match: match[1] + match[2].upper(), text)

    def fill(self, template: str, **slots: object) -> str:
        """Any part of a sentence."""
        while "[" in template:
            template = _CHOICE.sub(lambda match: self.pick(match[1].split("|")), template)
        text = template.format(
            h=self.h,
            f=self.f,
            e=self.e,
            friend=self._friend,
            home=self._home,
            love=self._love,
            loved=self._loved,
            **slots,
        )
        return _BEFORE_VOWEL.sub(r"\1n ", text)

    def tell(self, *templates: str, **slots: object) -> None:
        """Add a paragraph made of these templates, of which some may come out empty."""
        sentences = [self.say(template, **slots).strip() for template in templates]
        self._paragraphs.append(" ".join(filter(None, sentences)))

    def open(self, *templates: str, trait: str | None = None, **slots: object) -> None:
        """The first paragraph: who the hero is, then the plot's own templates."""
        introduction = self.pick(
            (
                "once upon a time there was a {trait} [|little ]{h.noun} named {h}.",
                "there once was a {trait} [|little ]{h.noun} [called|named] {h}.",
                "{h} was a {trait} [|little ]{h.noun} who lived {home}.",
                "{h} was a {trait} [|young ]{h.noun}.",
                "in a [small|quiet|cozy] house {home} lived a {trait} {h.noun} named {h}.",
                "far away, {home}, there lived a {trait} {h.noun} whose name was {h}.",
            )
        )
        habit = self.pick(
            (
                "{h.he} loved to {love}[| all day long| in the morning].",
                "most of all {h.he} liked to {love}[| with {h.his} friends].",
                "{h.he} had a good friend, a {f.noun} [called|named] {f}.",
                "",
                "",
            )
        )
        if "{f}" in habit:
            self._friend = self.f.name
        self.tell(introduction, habit, *templates, trait=trait or self.pick(TRAITS), **slots)

    def end(self, *lessons: str, **slots: object) -> None:
        """The last paragraph: usually one of `lessons`, and how the day ended."""
        on_the_way = [
            "{h} {loved} all the way home.",
            "{h} went home and slept [well|deeply] that night.",
        ]
        self._end(lessons, on_the_way + self._closes(), slots)

    def end_at_home(self, *lessons: str, **slots: object) -> None:
        """As `end`, for a hero who is home already."""
        self._end(lessons, self._closes(), slots)

    def _end(self, lessons: Sequence[str], closes: list[str], slots: dict[str, object]) -> None:
        lesson, close = self.pick(lessons), self.pick(closes)
        if close and self.chance(0.15):
            lesson = ""
        self.tell(lesson, close, **slots)

    def _closes(self) -> list[str]:
        """Last sentences that fit what has been told."""
        told = " ".join(self._paragraphs)
        closes = [
            "and {h} was [happy|very happy|glad].",
            "when the stars came out, {h} was [already|fast] asleep in the house {home}.",
            "",
        ]
        if self.f.name in told:
            closes.append("{h} and {f} [stayed|were] good friends [ever after|from that day on].")
            closes.append("then {h} and {f} [laughed|smiled|{loved}] [together|for a long time].")
        if self.e.name in told:
            closes.append("that evening {h} told {e} [all about it|the whole story] once more.")
        else:
            closes.append("that evening {h} told {e} [all about it|the whole story].")
        return closes
