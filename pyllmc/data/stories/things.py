"""Plots about things: lost, out of reach, borrowed."""

from __future__ import annotations

from pyllmc.data.stories.teller import COLORS, Teller

SMALL_THINGS = (
    "key",
    "ring",
    "coin",
    "button",
    "ball",
    "bell",
    "shell",
    "spoon",
    "whistle",
    "glove",
    "feather",
    "ribbon",
    "pencil",
    "marble",
    "brush",
)

# what one does there, did there, and where a lost thing lies
PLACES = (
    ("picked berries by the hedge", "under the hedge"),
    ("fed the ducks at the pond", "between the reeds of the pond"),
    ("climbed the old apple tree", "at the foot of the apple tree"),
    ("jumped in the hay in the barn", "deep in the hay"),
    ("rolled down the hill", "in the long grass on the hill"),
    ("dug in the garden", "between two cabbages"),
    ("splashed in the stream", "on a flat stone in the stream"),
    ("built a castle in the sand", "under the sand castle"),
    ("looked at books in the attic", "inside a big book"),
    ("helped to bake bread in the kitchen", "in the flour"),
    ("brushed the horse in the stable", "in the straw of the stable"),
    ("watched the boats at the harbor", "behind a rope at the harbor"),
)


def lost(t: Teller) -> None:
    """A small thing is lost at one of three places visited in a certain order."""
    thing, color = t.pick(SMALL_THINGS), t.pick(COLORS)
    visited = t.sample(PLACES, 3)
    found_at = t.number(0, 2)
    did = [place[0] for place in visited]
    where = [place[1] for place in visited]
    slots = {
        "thing": thing,
        "color": color,
        "first": did[0],
        "second": did[1],
        "third": did[2],
        "spot": where[found_at],
    }
    t.open(
        "[{h.he} always carried a {color} {thing} in {h.his} pocket.|{e} had given {h.him} a "
        "{color} {thing}.|{h.his} best treasure was a {color} {thing}.]",
        **slots,
    )
    t.tell(
        "one [day|sunny day|warm morning] {h} {first}. then {h.he} {second}. after that {h.he} "
        "{third}.",
        "[in the evening|when it got dark|at supper] {h} put {h.his} hand in {h.his} pocket. The "
        "{thing} was gone!",
        **slots,
    )
    helper = t.pick(("{e}", "{friend}"))
    t.tell(
        '"[What did you do today|Where have you been]?" asked ' + helper + ".",
        '"First I {first}," said {h}. "Then I {second}, and then I {third}."',
        '"[Then we will look there|Let us go and look|We will look in all three places]," said '
        "{helper}.",
        helper=t.e if helper == "{e}" else t.f,
        **slots,
    )
    order = range(2, -1, -1) if t.chance(0.5) else range(3)
    searched = []
    for place in order:
        if place == found_at:
            break
        searched.append(
            t.say(
                "they looked {where}, but [it was not there|they found nothing|there was only a "
                "beetle|there was no {thing}].",
                where=where[place],
                **slots,
            )
        )
    t.tell(
        *searched,
        "[at last|then] they looked {spot}, and there [it was|lay the {thing}|was the {color} "
        "{thing}]!",
        '"[Hurray|Thank you|You found it]!" cried {h}.',
        **slots,
    )
    t.end(
        "from then on {h} kept the {thing} in a little bag around {h.his} neck.",
        "after that {h} looked into {h.his} pocket [every hour|twice a day].",
        "{h} put the {thing} in a [safe place|little box|drawer].",
        **slots,
    )


# what is up there, where, what one can do when it is down
HIGH = (
    ("kite", "in the top of a tree", "flew it until the sun went down"),
    ("ball", "on the roof of the shed", "played with it until supper"),
    ("apple", "on the highest branch", "shared it, and it was sweet and juicy"),
    ("jar of honey", "on the top shelf", "ate bread with honey"),
    ("drum", "on top of the cupboard", "played a loud song on it"),
    ("balloon", "under the ceiling of the barn", "tied it to the gate"),
    ("lantern", "on a tall post", "lit it and told each other stories"),
)

# what stands ready, where it was seen, how it helps
WAYS_UP = (
    ("ladder", "behind the barn", "set up the ladder and climbed up step by step"),
    ("long stick", "by the fence", "took the long stick and pushed until the {thing} came down"),
    ("pile of boxes", "in the yard", "put one box on another and climbed on top"),
    ("rope", "on a nail", "threw the rope over it and pulled until the {thing} came down"),
    ("strong table", "in the shade", "pushed the table to the place and stood on it"),
)

POOR_WAYS = (
    "jumped as high as {h.he} could, but {h.he} was too small",
    "stood on the tips of {h.his} toes, but it was too high",
    "threw a pine cone at it, but the cone came down on {h.his} head",
    "called to the {thing}, but of course it did not come",
    "climbed on a bucket, but the bucket fell over",
    "asked a bird to fetch it, but the bird flew away",
)


def out_of_reach(t: Teller) -> None:
    """Something hangs high; after poor attempts, what was seen at the start helps."""
    thing, where, joy = t.pick(HIGH)
    tool, place, use = t.pick(WAYS_UP)
    first, second = t.sample(POOR_WAYS, 2)
    slots = {"thing": thing, "where": where, "tool": tool, "place": place}
    t.open(
        "[one morning|one day|on a cold day] {h.he} saw a {tool} {place}.",
        '"[Who left that there|What is that for]?" [{h.he} thought|{h} wondered]. then {h.he} '
        "went on.",
        **slots,
    )
    t.tell(
        "[a little later|soon|not far away] {h} met {friend}. {f} looked up and [was sad|sighed]. "
        '"[My|Our] {thing} is {where}," {f.he} said. "I cannot reach it."',
        "{h} " + first + ".",
        "[then|next] {h.he} " + second + ".",
        **slots,
    )
    t.tell(
        "[then|at last] {h} had an idea. {h.he} remembered the {tool} {place}. [quickly|together] "
        "they went to get it.",
        "{h} " + use + ".",
        '"[Here it is|I have it|We did it]!" {h.he} [cried|called|laughed].',
        **slots,
    )
    t.tell("{h} and {f} " + joy + ".", **slots)
    t.end(
        '"You are [so|very] clever," said {f}.',
        "when one way does not work, a friend can try another.",
        "then {h} put the {tool} back {place}.",
        **slots,
    )


# a tool, what one does with it, did with it, and another task that needs it
TOOLS = (
    ("hammer", "build a bird house", "built a bird house", "mend the roof"),
    ("shovel", "dig a little pond", "dug a little pond", "plant a tree"),
    ("broom", "sweep the yard", "swept the yard", "clean the barn"),
    ("bucket", "carry water to the flowers", "carried water to the flowers", "wash the goat"),
    ("needle", "sew a button on", "sewed a button on", "mend a torn shirt"),
    ("saw", "cut wood for the fire", "cut wood for the fire", "make a new fence"),
    ("rope", "make a swing", "made a swing", "pull the cart"),
    ("brush", "paint the gate", "painted the gate", "paint the boat"),
    ("net", "catch the leaves in the pond", "caught the leaves in the pond", "go fishing"),
    ("lantern", "look for snails at night", "looked for snails at night", "walk through the wood"),
)


def borrowed(t: Teller) -> None:
    """A borrowed tool comes back in time or is missed, as the borrower's nature has it."""
    tool, task, done, other = t.pick(TOOLS)
    careful = t.chance(0.5)
    slots = {"tool": tool, "task": task, "done": done, "other": other}
    t.open(
        "one day {h} wanted to {task}, but {h.he} had no {tool}.",
        'so {h.he} went to {friend}. "[Please|Dear {f}], may I borrow your {tool}?" {h.he} asked.',
        '"[Yes|Of course]," said {f}, "but bring it back [tonight|tomorrow|soon]. I need it to '
        '{other}."',
        trait=t.pick(("careful", "honest", "tidy") if careful else ("forgetful", "careless")),
        **slots,
    )
    t.tell("{h} took the {tool} and {done}. It looked [very nice|lovely|wonderful].", **slots)
    if careful:
        t.tell(
            "then {h} cleaned the {tool} and brought it back at once. "
            '"[Thank you|Here it is], {f}," {h.he} said.',
            "now {f} could {other}. {h} stayed to help, and the work went [fast|well].",
            **slots,
        )
        t.end(
            '"You can borrow my things [any time|whenever you like]," said {f}.',
            "whoever brings things back may borrow them again.",
            **slots,
        )
        return
    t.tell(
        "but {h} forgot to bring it back. [The {tool} lay in the grass all night.|The {tool} "
        "stayed "
        "under the bench.]",
        "the next day {f} wanted to {other}. {f.he} looked everywhere for the {tool}. without it "
        "{f.he} could not {other}, and {f.he} was [sad|cross].",
        **slots,
    )
    t.tell(
        '[then|at noon] {h} remembered. {h.he} ran to {f} with the {tool}. "[I am so sorry|Please '
        'forgive me]," {h.he} said. "I will help you {other}."',
        '"[That is kind of you|Well, two are faster than one]," said {f}. and so they did it '
        "together.",
        **slots,
    )
    t.end(
        "after that {h} always brought things back [in time|the same day].",
        "{h} never forgot a promise again.",
        **slots,
    )
