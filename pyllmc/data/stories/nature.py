"""Plots about animals, plants and the weather."""

from __future__ import annotations

from pyllmc.data.stories.teller import NUMBERS, Teller

# a creature, its home, homes that are wrong for it, how it is carried, how it gives thanks
CREATURES = (
    ("baby bird", "nest in the oak tree", "in {h.his} hat", "sang a song for {h.him} every day"),
    ("small fish", "pond", "in a cup of water", "jumped out of the water to say hello"),
    ("snail", "wet cabbage leaf", "on a big leaf", "drew a silver heart on the path"),
    ("bee", "hive under the lime tree", "on a flower", "brought {h.him} a drop of honey"),
    ("squirrel", "hole in the old oak", "in {h.his} arms", "threw down a nut for {h.him}"),
    ("crab", "rock by the sea", "in a bucket", "waved with its claw"),
    ("ladybug", "rose bush", "on {h.his} finger", "sat on {h.his} nose"),
    ("mole", "hole in the meadow", "in a basket", "dug a little hill like a tower"),
    ("bat", "dark cave", "in a soft cloth", "danced in the moonlight"),
    ("tadpole", "stream", "in a cup of water", "came back as a green frog"),
)
TROUBLES = (
    "lay on the path and could not move",
    "sat in the grass and [cried|trembled]",
    "was lost and [afraid|very tired]",
    "had been blown away by the storm",
)


def rescue(t: Teller) -> None:
    """A lost creature is carried to the one home that suits it."""
    creature, home, carrier, thanks = t.pick([one for one in CREATURES if one[0] != t.h.noun])
    others = [other[1] for other in CREATURES if other[1] != home]
    wrong = t.sample(others, t.number(1, 2))
    slots = {"creature": creature, "place": home}
    t.open("", trait=t.pick(("kind", "gentle", "helpful", "friendly")), **slots)
    t.tell(
        "one [morning|day|evening] {h} heard a [tiny|small|thin] voice. A {creature} "
        + t.pick(TROUBLES)
        + ".",
        '"[Help me|Please help me]," it said. "I want to go home."',
        '"[I will take you home|Do not be afraid]," said {h}, and {h.he} carried the {creature} '
        + carrier
        + ".",
        **slots,
    )
    for place in wrong:
        t.tell(
            '[first|soon] they came to a {wrong}. "[Is this your home|Do you live here]?" asked '
            "{h}.",
            '"[No|Oh no]," said the {creature}. "[I do not live in such a place|That is no home '
            'for a {creature}|I live in another place]."',
            wrong=place,
            **slots,
        )
    t.tell(
        'then they came to a {place}. "[Here it is|This is it|That is my home]!" cried the '
        "{creature}.",
        "{h} [put it down gently|let it go|set it down with care]. The {creature} was [safe|home "
        "again|so happy].",
        **slots,
    )
    t.end(
        "from that day on, whenever {h} came by, the {creature} remembered {h.him}.",
        "a week later the {creature} " + thanks + ".",
        "the next morning the {creature} " + thanks + ".",
        **slots,
    )


# plant, where it is put, what comes up, what it is made into
PLANTS = (
    ("pumpkin", "three big round pumpkins", "pumpkin soup"),
    ("carrot", "a row of crisp carrots", "carrot cake"),
    ("strawberry", "a lot of red strawberries", "strawberry jam"),
    ("tomato", "a dozen fat tomatoes", "tomato soup"),
    ("bean", "a bowl of green beans", "bean stew"),
    ("cabbage", "five green cabbages", "cabbage rolls"),
    ("onion", "ten round onions", "onion pie"),
    ("corn", "a row of golden corn", "popcorn"),
    ("pea", "a basket full of sweet peas", "pea soup"),
)


def seed(t: Teller) -> None:
    """A seed is watered or forgotten, and grows accordingly."""
    plant, grown, dish = t.pick(PLANTS)
    patient = t.chance(0.5)
    days = t.pick(("week", "month"))
    slots = {"plant": plant, "grown": grown, "dish": dish, "days": days}
    t.open(
        "[one spring day|in spring] {e} gave {h.him} [some|a bag of|a handful of] {plant} seeds.",
        '"[Put them in the earth|Plant them in the garden] and give them water every day," said '
        "{e}.",
        trait=t.pick(("patient", "careful") if patient else ("impatient", "forgetful")),
        **slots,
    )
    t.tell(
        "{h} [made|dug] a row of [small|little] holes, put the {plant} seeds in and covered them "
        "with earth.",
        **slots,
    )
    if patient:
        t.tell(
            "every [day|morning] {h} gave them water. [At first nothing happened, but {h} "
            "waited.|For a {days} nothing happened, but {h} did not give up.]",
            "then green leaves came up. They grew and grew, and in the end {h} had {grown}.",
            **slots,
        )
    else:
        t.tell(
            "for two days {h} gave them water. [Then {h.he} wanted to play and forgot|Then {h.he} "
            "forgot all about] the seeds.",
            "a {days} later the little plants were [dry|brown] and hung their heads. {h} [was "
            "sorry|felt bad].",
            '"[It is not too late|We can still save them]," said {friend}. now {h} and {f} gave '
            "them water [every day|every morning and every evening]. slowly they became green "
            "again, and in the end they had {grown}.",
            **slots,
        )
    t.tell(
        "{e} [helped to make|made] {dish}, and "
        + ("{h} [gave some to|shared it with] {friend}." if patient else "they all ate together."),
        **slots,
    )
    if patient:
        t.end_at_home(
            '"[It was worth the wait|Good things take time]," said {h}.',
            "{h} kept a few seeds for the next year.",
            **slots,
        )
    else:
        t.end_at_home(
            "from then on {h} did not forget to give {h.his} plants water.",
            '"A plant gets thirsty, just like me," said {h}.',
            **slots,
        )


# weather, how it is foretold, what helps, what it does to those without
WEATHER = (
    ("rain", "the clouds are dark", "umbrella", "got wet from head to toe"),
    ("snow", "it smells of snow", "warm coat", "shivered with cold"),
    ("wind", "the trees are bending", "thick scarf", "got a sore throat"),
    ("sun", "it will be a hot day", "straw hat", "got a red nose"),
    ("mud", "the path is wet", "pair of boots", "got mud between {h.his} toes"),
    ("fog", "the fog is coming", "bell", "could not find the way"),
    ("night", "it will get dark soon", "lamp", "bumped into a tree"),
)
CAME = {
    "rain": "it began to rain hard",
    "snow": "big flakes of snow began to fall",
    "wind": "a cold wind began to blow",
    "sun": "the sun burned down from the sky",
    "mud": "the path turned into deep mud",
    "fog": "a thick fog covered everything",
    "night": "it was as dark as in a cave",
}
HELPED = {
    "rain": "opened the umbrella and stayed dry",
    "snow": "buttoned the warm coat and was not cold",
    "wind": "pulled the scarf tight and felt warm",
    "sun": "put the straw hat on and had shade",
    "mud": "put the boots on and kept dry feet",
    "fog": "rang the bell, and somebody called back and showed the way",
    "night": "lit the lamp and saw every stone",
}
OFFERS = {
    "rain": "There is room for two",
    "snow": "My coat is big enough for two",
    "wind": "My scarf is long enough for two",
    "sun": "You may wear my hat for a while",
    "mud": "I will carry you",
    "fog": "Stay close to me",
    "night": "My lamp shines for two",
}
ERRANDS = (
    "buy bread in the town",
    "visit the old baker",
    "take a cake to the neighbors",
    "look for mushrooms",
    "bring the goats home",
    "post a letter",
)


def weather(t: Teller) -> None:
    """Advice about the weather is taken or not, and the weather comes."""
    kind, sign, item, harm = t.pick(WEATHER)
    listens = t.chance(0.5)
    slots = {"item": item, "sign": sign}
    t.open(
        "one day {h} wanted to " + t.pick(ERRANDS) + ".",
        '"[Take|You should take] a {item} with you," said {e}. "Look, {sign}."',
        trait=t.pick(("careful", "sensible") if listens else ("stubborn", "proud", "hasty")),
        **slots,
    )
    if listens:
        t.tell(
            '"[Thank you|That is a good idea], {e}," said {h}, and {h.he} took the {item}.',
            "[on the way|half-way there|after a while] "
            + CAME[kind]
            + ". {h} "
            + HELPED[kind]
            + ".",
            "[on the road|behind a hedge|a little later] {h} met {friend}, who had no {item}. {f} "
            + harm.replace("{h.", "{f.")
            + '. "[Come here|Come with me]," said {h}. "'
            + OFFERS[kind]
            + '."',
            **slots,
        )
        t.end(
            '"[I am glad|How good] that you had a {item}," said {f}.',
            "{h} was glad that {h.he} had listened to {e}.",
            **slots,
        )
    else:
        t.tell(
            '"[I do not need a {item}|No, that is too heavy for me|Nothing will happen to me]," '
            "said "
            "{h}, and {h.he} went without it.",
            "[on the way|half-way there|after a while] " + CAME[kind] + ". {h} " + harm + ".",
            '[then|luckily] {friend} came along with a {item}. "[Come here|Come with me]," said '
            '{f}. "' + OFFERS[kind] + '." And they went on together.',
            **slots,
        )
        t.end(
            '"Next time I will take a {item}," said {h}.',
            "the next day {h} listened to {e} and took the {item}.",
            **slots,
        )


# a sound, what makes it, what {h} does about it
SOUNDS = (
    ("tap, tap, tap", "a branch that knocked on the window", "tied the branch back"),
    ("hoo, hoo", "an owl on the roof", "waved to the owl"),
    ("drip, drip, drip", "water that fell from the tap", "put a cup under the tap"),
    ("squeak, squeak", "a mouse behind the cupboard", "gave the mouse some cheese"),
    ("whoo, whoo", "the wind in the chimney", "closed the little door of the chimney"),
    ("bang, bang", "a shutter that the wind moved", "closed the shutter"),
    ("rustle, rustle", "a hedgehog in the dry leaves", "brought the hedgehog some milk"),
    ("purr, purr", "the cat under the bed", "took the cat in {h.his} arms"),
    ("tick, tock", "an old clock in a box", "put the clock on the wall"),
    ("snore, snore", "Grandpa, who slept in the big chair", "put a blanket over Grandpa"),
)
MONSTERS = ("a ghost", "a dragon", "a monster", "a giant", "a witch", "a troll")


def noise(t: Teller) -> None:
    """A strange sound at night has the harmless cause that belongs to it."""
    sound, source, act = t.pick(SOUNDS)
    monster = t.pick(MONSTERS)
    slots = {"sound": sound, "source": source, "monster": monster}
    t.open(
        "one night {h} [lay in bed|could not sleep|woke up]. the [house|room] was dark and quiet. "
        'then there was a sound. "{loud}!" it went.',
        loud=sound.capitalize(),
        **slots,
    )
    t.tell(
        '"[That must be|Maybe that is|I think it is] {monster}," thought {h}, and {h.he} [pulled '
        "the blanket over {h.his} head|held {h.his} breath|hid under the pillow].",
        '"{loud}!" it went [again|once more|a little louder].',
        loud=sound.capitalize(),
        **slots,
    )
    t.tell(
        "{h} took [a candle|a lamp|{h.his} little light] and [went to look|followed the sound|got "
        "out of bed]. {h.he} went [slowly|on tiptoe|step by step].",
        "and what did {h.he} find? It was not {monster}. It was only {source}.",
        "{h} [laughed|had to laugh|was not afraid any more] and " + act + ".",
        **slots,
    )
    t.tell(
        t.pick(
            (
                "then {h.he} went back to bed and slept until the sun came up.",
                "in the morning {h} told {friend} about {monster} that was only {source}.",
                "after that, whenever something went {sound}, {h} smiled and slept on.",
                "many things sound big in the dark.",
            )
        ),
        **slots,
    )


# who eats what, and likes nothing else
EATERS = (
    ("rabbit", "carrot"),
    ("mouse", "piece of cheese"),
    ("bear", "pot of honey"),
    ("squirrel", "nut"),
    ("monkey", "banana"),
    ("cat", "fish"),
    ("dog", "bone"),
    ("horse", "bag of oats"),
    ("hen", "handful of corn"),
    ("goat", "thistle"),
    ("panda", "stick of bamboo"),
    ("worm", "leaf of lettuce"),
)


def who_eats_it(t: Teller) -> None:
    """Food is offered to animals until one likes it; each says what it likes itself."""
    count = t.number(2, 4)
    asked = t.sample([one for one in EATERS if one[0] != t.h.noun], count)
    food = asked[-1][1]
    slots = {"food": food, "count": NUMBERS[count], "eater": asked[-1][0]}
    t.open(
        "one day {h.he} [found|was given] a {food}. {h} was not hungry. "
        '"[Who would like it|Who likes such a thing|To whom can I give it]?" {h.he} [wondered|'
        "thought].",
        trait=t.pick(("generous", "kind", "friendly", "thoughtful")),
        **slots,
    )
    lines = []
    for animal, favorite in asked[:-1]:
        lines.append(
            t.say(
                "[{h} asked the {animal}.|{h} went to the {animal}.|Then {h} met the {animal}.] "
                '"[No, '
                'thank you|No|Oh no]," said the {animal}. "I would rather have a {favorite}."',
                animal=animal,
                favorite=favorite,
                **slots,
            )
        )
    t.tell(*lines, **slots)
    t.tell(
        "[at last|in the end] {h} came to the {eater}. "
        '"[A {food}! That is just what I like|Yes, please! I love it|Oh, a {food}! How kind of '
        'you]," said the {eater}, and ate it all up.',
        **slots,
    )
    t.end(
        "{h} had asked {count} animals, and now one of them was full and happy.",
        "everybody likes something else, and that is good.",
        '"[Come again|Come and see me again]," said the {eater}.',
        **slots,
    )
