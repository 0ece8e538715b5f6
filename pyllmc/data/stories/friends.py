"""Plots between two characters, in which their nature decides what happens."""

from __future__ import annotations

from pyllmc.data.stories.teller import COLORS, NUMBERS, Teller

FRUITS = (
    ("apple", "apples", "under a tree"),
    ("pear", "pears", "in the garden"),
    ("plum", "plums", "on the table"),
    ("cherry", "cherries", "in a bowl"),
    ("nut", "nuts", "in the forest"),
    ("cookie", "cookies", "on a plate"),
    ("strawberry", "strawberries", "by the path"),
    ("pancake", "pancakes", "in the kitchen"),
    ("bun", "buns", "in a basket"),
)


def sharing(t: Teller) -> None:
    """So many, so many given away, so many left; or all eaten alone, with a stomach ache."""
    one, many, where = t.pick(FRUITS)
    total = t.number(4, 12)
    generous = t.chance(0.6)
    slots = {"one": one, "many": many, "total": NUMBERS[total]}
    t.open(
        "[one day|one morning|on a sunny day] {h.he} found {total} {many} " + where + ".",
        trait=t.pick(("generous", "kind", "fair") if generous else ("greedy", "selfish")),
        **slots,
    )
    t.tell(
        '[soon|then|after a while] {friend} came along. {f.he} looked hungry. "May I have '
        '[some|a {one}], please?" asked {f}.',
        **slots,
    )
    if not generous:
        t.tell(
            '"No," said {h}. "[They are all mine|I found them|I want them all]." {f} went away '
            "[sadly|"
            "with an empty stomach]. {h} sat down and ate all {total} {many}.",
            "but {total} {many} are too many for one little {h.noun}. [Soon|That night] {h.his} "
            "stomach hurt, and {h.he} lay in bed and groaned.",
            **slots,
        )
        t.tell(
            "[in the evening|the next day] {f} came with [a cup of warm tea|some hot soup|a "
            "bunch of "
            'flowers]. "[Get well soon|Drink this|I hope you feel better]," said {f}. {h} was '
            "ashamed. "
            '"I am sorry that I did not share," {h.he} said.',
            **slots,
        )
        t.end(
            "the next time {h} found {many}, {f} got half of them.",
            "from then on {h} shared everything with {f}.",
            **slots,
        )
        return
    if total % 2 == 0 and t.chance(0.5):
        slots["half"] = NUMBERS[total // 2]
        t.tell(
            '"[Of course|Yes|Gladly]," said {h}. "We will share them fairly." {h} counted the '
            "{many}. "
            "there were {total}, so {h} took {half} and {f} took {half}.",
            **slots,
        )
    else:
        given = t.number(1, total - 2)
        slots["given"] = f"{NUMBERS[given]} {one if given == 1 else many}"
        slots["left"] = NUMBERS[total - given]
        t.tell(
            '"[Of course|Yes|Gladly]," said {h}, and gave {f.him} {given}. {h} counted the rest. '
            "there "
            "had been {total}, and now there were {left}.",
            **slots,
        )
    t.tell(
        "they sat down [in the sun|in the shade|on the steps] and ate. {many} taste best when two "
        "eat them.",
        **slots,
    )
    t.end(
        '"Next time I will share with you," said {f}, and {f.he} did.',
        "the next day {f} brought {h} a present.",
        '"You are a good friend," said {f}.',
        **slots,
    )


COURSES = (
    ("from the well to the big oak", "the oak"),
    ("around the pond", "the willow"),
    ("up the hill to the mill", "the mill"),
    ("from the gate to the church", "the church"),
    ("along the beach to the red boat", "the boat"),
    ("through the field to the bridge", "the bridge"),
)
PAUSES = (
    ("lay down in the shade to sleep", "slept"),
    ("stopped to eat berries", "ate berries"),
    ("looked at {x.himself} in a puddle", "looked into the puddle"),
    ("sat down to listen to the birds", "listened to the birds"),
    ("went to drink at the stream", "drank at the stream"),
)
PRIZES = ("a gold medal", "a big cake", "a blue ribbon", "a basket of apples", "a silver cup")


def race(t: Teller) -> None:
    """The fast one wins, unless too proud to keep running."""
    course, goal = t.pick(COURSES)
    stopped, meanwhile = t.pick(PAUSES)
    prize = t.pick(PRIZES)
    proud = t.chance(0.6)
    fast, slow = (t.h, t.f) if t.chance(0.5) else (t.f, t.h)
    slots = {"x": fast, "y": slow, "course": course, "goal": goal, "prize": prize}
    t.open(
        "{h.he} [played|went swimming|climbed trees] with {friend} every day. {x} was very fast, "
        "and {y} was slow.",
        trait=t.pick(("proud", "boastful") if proud and fast is t.h else ("patient", "cheerful")),
        **slots,
    )
    t.tell(
        '"[Let us run a race|I will race you]," said {x} one day. they [wanted to run|decided to '
        "run] {course}. the prize was {prize}.",
        '"[I am much faster than you|You will never win]," {x} boasted. "I will win without '
        'trying."'
        if proud
        else '"[I will do my best|Good luck to both of us]," {x} said [kindly|with a smile].',
        '{e} counted: "One, two, three, go!"',
        **slots,
    )
    if proud:
        t.tell(
            "{x} ran off like the wind and was soon far ahead. "
            '"[I have plenty of time|{y} is so slow]," {x.he} thought, and {x.he} ' + stopped + ".",
            "{y} did not stop. step by step {y.he} went on, and while {x} "
            + meanwhile
            + ", {y} came "
            "past. when {x} [saw it|noticed], it was too late. {y} was the first at {goal}!",
            **slots,
        )
        winner, loser = slow, fast
    else:
        t.tell(
            "{x} ran and ran and did not stop once. {y} [tried hard|did not give up], but {x} was "
            "faster. {x} was the first at {goal}!",
            "then {x} [turned around|waited] and cheered for {y} [until {y.he} came in, too|all "
            "the "
            "way].",
            **slots,
        )
        winner, loser = fast, slow
    t.tell(
        '{e} gave {w} {prize}. "[Well done|You earned it], {w}," said {l} and hugged {w.him}.',
        w=winner,
        l=loser,
        **slots,
    )
    if proud:
        t.end(
            "{x} never boasted again.",
            "being fast is no use to one who stops.",
            **slots,
        )
    else:
        t.end(
            '"Next time I will be faster," said {y}.',
            "it is fun to run with a friend, whoever wins.",
            **slots,
        )


# a present, how it is made, of what
PRESENTS = (
    ("scarf", "knitted", "wool"),
    ("kite", "built", "paper"),
    ("picture", "painted", "paint"),
    ("cup", "made", "clay"),
    ("cushion", "sewn", "cloth"),
    ("necklace", "made", "glass"),
    ("flag", "cut out", "cloth"),
    ("candle", "made", "wax"),
)


def gift(t: Teller) -> None:
    """A present in the color that the friend likes, or in the one that the giver likes."""
    present, made, material = t.pick(PRESENTS)
    liked, own = t.sample(COLORS, 2)
    thoughtful = t.chance(0.6)
    slots = {"present": present, "made": made, "material": material, "liked": liked, "own": own}
    t.open(
        "{h.he} liked everything that was {own}. But {friend} liked everything that was {liked}.",
        "soon it was [{f}'s birthday|the birthday of {f}].",
        trait=t.pick(("thoughtful", "kind") if thoughtful else ("thoughtless", "hasty")),
        **slots,
    )
    if thoughtful:
        t.tell(
            '"[I want to make a {present}|I will give {f.him} a {present}]," thought {h}. At the '
            "market there was {own} {material} and {liked} {material}. {h} thought of {f} and "
            "took the {liked} one.",
            "all [day|evening] {h} sat and worked, until {h.he} had {made} a {liked} {present}.",
            **slots,
        )
        t.tell(
            '"[Happy birthday|This is for you], {f}!" said {h}. {f} opened the [box|parcel|paper]. '
            '"A {liked} {present}! {shout} is my favorite color!" cried {f} and [hugged {h}|jumped '
            "for joy].",
            shout=liked.capitalize(),
            **slots,
        )
        t.end(
            "to give the right thing, one must think of the other.",
            "{f} [used|showed everybody] the {liked} {present} every day.",
            **slots,
        )
    else:
        t.tell(
            '"I will give {f.him} a {present}," thought {h}. At the market there was {own} '
            "{material} "
            "and {liked} {material}. {h} did not think of {f} and took the {own} one, and soon "
            "{h.he} had {made} a {own} {present}.",
            '"[Happy birthday|This is for you], {f}!" said {h}. "Thank you," said {f} [quietly|'
            'politely], but {f.he} did not smile. "It is very {own}."',
            **slots,
        )
        t.tell(
            'then {h} understood. "I took the color that I like," {h.he} said. "Wait!" {h} ran '
            "home "
            "and [worked until night|worked all evening]. the next day {f} got a {liked} "
            "{present}, "
            "and now {f.he} [laughed|was happy].",
            **slots,
        )
        t.end(
            "{h} kept the {own} {present} for {h.himself}.",
            "from then on {h} thought of others first.",
            **slots,
        )


# a fear, where, what helps, how it is done, what it was in truth
FEARS = (
    ("the dark", "in the dark cellar", "a lantern", "the dark was only a room without light"),
    ("thunder", "out in the storm", "a song", "thunder was only a loud noise in the clouds"),
    ("deep water", "on the other side of the stream", "a rope", "the water only came to the knees"),
    ("the high bridge", "beyond the high bridge", "a warm hand", "the bridge was wide and strong"),
    ("the big dog", "behind the big dog's gate", "a bone", "the dog only wanted to play"),
    ("spiders", "in the old shed", "a brave heart", "the spiders were more afraid than anyone"),
    ("geese", "in the yard of the geese", "a handful of corn", "the geese were only hungry"),
)
HOW = {
    "a lantern": "lit the lantern, held it up and went down the steps",
    "a song": "sang as loud as {h.he} could and ran through the rain",
    "a rope": "tied the rope to a tree, held it tight and walked through the water",
    "a warm hand": "took {f}'s hand and walked over the bridge without looking down",
    "a bone": "threw the bone to the dog and went through the gate",
    "a brave heart": "took a deep breath and opened the door",
    "a handful of corn": "threw the corn to the geese and walked past them",
}
LITTLE_ONES = ("kitten", "chick", "lamb", "puppy", "duckling")


def afraid(t: Teller) -> None:
    """Somebody small needs help at the very place that the hero fears."""
    fear, where, help_, truth = t.pick(FEARS)
    little = t.pick([one for one in LITTLE_ONES if one not in (t.h.noun, t.f.noun)])
    slots = {"fear": fear, "where": where, "help": help_, "little": little}
    t.open(
        "{h} was afraid of {fear}. [everybody knew it|nobody knew it but {e}|{e} knew it, too].",
        trait=t.pick(("shy", "quiet", "timid", "gentle")),
        **slots,
    )
    t.tell(
        'one [day|evening] a {little} got lost. "[Help|Help me]!" it cried. It was {where}. '
        "[There was nobody else near|Nobody else heard it], only {h} and {friend}.",
        '"I am afraid of {fear}," said {h}. "[I have something for you|This will help you|You '
        "can do "
        'it]," said {f}. "All you need is {help}."',
        **slots,
    )
    t.tell(
        "{h}'s heart beat fast. [But the {little} cried again.|But {h.he} thought of the "
        "{little}.] "
        "so {h} " + HOW[help_] + ".",
        "[there was|there sat] the little {little}. {h} [took it in {h.his} arms|picked it up] and "
        "brought it home.",
        **slots,
    )
    t.end_at_home(
        "now {h} knew that " + truth + ".",
        "from then on {h} was not afraid of {fear} any more, for " + truth + ".",
        '"You were afraid and you did it anyway," said {f}. "That is brave."',
        **slots,
    )


# what breaks, by what, where it is hidden, how it is put right
ACCIDENTS = (
    ("vase", "with a ball", "under the rug", "glued the pieces together"),
    ("window", "with a stone", "behind the curtain", "put in new glass"),
    ("cup", "with {h.his} elbow", "under the bed", "bought a new cup"),
    ("flower pot", "with a stick", "behind the shed", "planted the flower in a bucket"),
    ("lamp", "with a pillow", "in the cupboard", "made a new shade for it"),
    ("plate", "with a wooden sword", "in the oven", "painted a new plate"),
    ("chair", "with a big jump", "in the cellar", "nailed the leg on again"),
)
BLAMED = ("the cat", "the wind", "the dog", "the baby", "a bird")


def truth(t: Teller) -> None:
    """Something breaks and is hidden; the truth comes out, at once or after a lie."""
    thing, how, hidden, mended = t.pick(ACCIDENTS)
    honest = t.chance(0.5)
    slots = {"thing": thing, "how": t.fill(how), "hidden": hidden, "blamed": t.pick(BLAMED)}
    t.open(
        "one day {h} played in {e}'s room. {h.he} was too wild, and {how} {h.he} broke "
        "{e}'s [best|favorite|old] {thing}.",
        "{h} was [frightened|scared] and hid the pieces {hidden}.",
        trait=t.pick(("lively", "wild", "cheerful", "merry")),
        **slots,
    )
    t.tell(
        "[soon|in the evening] {e} came home and [looked around|stood still]. "
        '"Where is my {thing}?" {e.he} asked.',
        **slots,
    )
    if honest:
        t.tell(
            "{h}'s face turned red. "
            '"I broke it," {h.he} said. "The pieces are {hidden}. I am sorry."',
            '"Thank you for telling me the truth," said {e}. {e.he} was not angry.',
            **slots,
        )
    else:
        t.tell(
            '"It was {blamed}," said {h}. {e} said nothing. but {h} could not [eat|sleep|play] any '
            "more, for the lie lay in {h.his} stomach like a stone.",
            '[at night|the next morning] {h} went to {e}. "It was not {blamed}," {h.he} said. '
            '"It was '
            'me. The pieces are {hidden}."',
            '"I knew it," said {e} softly. "I am glad that you told me."',
            **slots,
        )
    t.tell("together they fetched what was {hidden} and " + mended + ".", **slots)
    if honest:
        t.end_at_home(
            "{h} was glad that {h.he} had told the truth at once.",
            "a thing can be mended when nobody hides it.",
            **slots,
        )
    else:
        t.end_at_home(
            "{h} never said again that {blamed} had done it.",
            "{h} felt light again, as light as a feather.",
            **slots,
        )
