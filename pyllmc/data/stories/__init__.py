"""Small children's stories, told by rules: made for this project, the same for the same seed.

Each plot states facts early (what a thing is made of, how many plums there were, who is proud) and
lets them decide later sentences, so a model has something to learn beyond which words are common.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pyllmc.data.stories import damage, friends, journeys, nature, things
from pyllmc.data.stories.teller import Teller

PLOTS: tuple[Callable[[Teller], None], ...] = (
    damage.spoiled,
    things.lost,
    things.out_of_reach,
    things.borrowed,
    nature.rescue,
    nature.seed,
    nature.weather,
    nature.noise,
    nature.who_eats_it,
    friends.sharing,
    friends.race,
    friends.gift,
    friends.afraid,
    friends.truth,
    journeys.baking,
    journeys.there_and_back,
)


def tell_stories(count: int, seed: int) -> Iterator[str]:
    """`count` stories, no two alike; paragraphs are separated by a blank line.

    The first stories of a longer series are those of a shorter one with the same seed.
    """
    teller = Teller(seed)
    seen: set[str] = set()
    while len(seen) < count:
        story = teller.story(teller.pick(PLOTS))
        if story not in seen:
            seen.add(story)
            yield story
