"""Plots about things: spoiled, lost, out of reach, borrowed."""

from __future__ import annotations

from pyllmc.data.stories.teller import COLORS, Teller

MADE_OF = {
    "paper": ("kite", "boat", "crown", "bird", "hat"),
    "wool": ("scarf", "hat", "blanket", "bear", "sock"),
    "tin": ("drum", "robot", "whistle", "bucket", "car"),
    "clay": ("pot", "cup", "bowl", "bird", "horse"),
    "wood": ("boat", "horse", "flute", "train", "duck"),
    "glass": ("marble", "bottle", "ball", "star", "bird"),
    "chocolate": ("egg", "bear", "heart", "bunny"),
}

# For each danger: how it came, what one learns, and by material either (what happened, how to mend
# it, how it was mended) or, for what takes no harm, the reason.
DANGERS: dict[str, tuple[str, str, dict[str, tuple[str, str, str] | str]]] = {
    "rain": (
        "[soon|then] the sky grew dark and it began to rain. {h} ran home and forgot the {thing} "
        "[in the grass|on the bench|under the apple tree].",
        "{h} never left anything in the rain again.",
        {
            "paper": (
                "the wet paper had gone soft, and the {thing} had fallen apart",
                "fold a new one from dry paper",
                "folded a new {thing} from dry {color} paper",
            ),
            "wool": (
                "the wool was full of water, and the {thing} was cold and heavy",
                "hang it by the fire",
                "hung the {thing} by the fire until it was warm and dry",
            ),
            "tin": (
                "the rain had made brown spots of rust on the tin",
                "rub it with oil",
                "rubbed the {thing} with oil until it was shiny",
            ),
            "clay": (
                "the clay had gone as soft as mud",
                "shape it again and bake it",
                "shaped the {thing} again and baked it in the oven",
            ),
            "wood": "wood does not mind a little rain",
            "glass": "rain only washes glass clean",
        },
    ),
    "stones": (
        "[but|then] {h} ran too fast and tripped over a root, and the {thing} fell on the hard "
        "stones.",
        "{h} walked slowly with things in {h.his} hands after that.",
        {
            "glass": (
                "the glass had broken into many pieces",
                "sweep up the pieces and look for a new one",
                "swept up the pieces, and at the market they found a new {color} {thing}",
            ),
            "clay": (
                "there was a long crack in the clay",
                "mend it with glue",
                "mended the crack with glue",
            ),
            "tin": (
                "there was a big dent in the tin",
                "tap it flat with a hammer",
                "tapped the dent flat with a small hammer",
            ),
            "chocolate": (
                "the chocolate had snapped in two",
                "eat one half each",
                "ate one half each, and it tasted [sweet|wonderful]",
            ),
            "wool": "wool is soft and cannot break",
            "paper": "paper is so light that it falls softly",
            "wood": "good wood is too hard to break",
        },
    ),
    "sun": (
        "the sun was hot that day. {h} put the {thing} on a wall and [went for a swim|fell asleep "
        "in the shade|played with the cat].",
        "from then on {h} kept {h.his} things in the shade.",
        {
            "chocolate": (
                "the chocolate had melted into a brown puddle",
                "let it get cold and hard again",
                "poured it into a little dish, and when it was cold they ate it with a spoon",
            ),
            "tin": (
                "the tin was so hot that nobody could touch it",
                "cool it in the stream",
                "cooled the {thing} in the stream",
            ),
            "wool": "the sun only made the wool warm",
            "clay": "clay likes to be warm and dry",
            "wood": "wood does not melt in the sun",
            "glass": "glass only sparkles in the sun",
        },
    ),
    "wind": (
        "[all at once|suddenly] a strong wind came over the hill.",
        "on windy days {h} held {h.his} things very tight after that.",
        {
            "paper": (
                "the wind had blown the light paper {thing} up into a tree",
                "get it down with a long stick",
                "got the {thing} down with a long stick",
            ),
            "wool": (
                "the {thing} had flown away and hung on a high fence",
                "climb up and fetch it",
                "climbed up and fetched the {thing}",
            ),
            "tin": "tin is too heavy for the wind",
            "clay": "clay is too heavy for the wind",
            "glass": "glass is too heavy for the wind",
            "wood": "the wind could not lift so much wood",
        },
    ),
    "thorns": (
        "{h} [crept|crawled] through a hedge full of thorns with the {thing} in {h.his} arms.",
        "the next time {h} walked around the hedge.",
        {
            "wool": (
                "the thorns had torn a hole in the wool",
                "sew it up with a needle and thread",
                "sewed up the hole with a needle and {color} thread",
            ),
            "paper": (
                "the thorns had ripped the paper",
                "mend it with tape",
                "mended the {thing} with tape",
            ),
            "tin": "thorns cannot hurt tin",
            "glass": "thorns cannot scratch glass",
            "wood": "wood is harder than any thorn",
            "clay": "clay is harder than any thorn",
        },
    ),
    "pond": (
        "at the pond {h} bent down to look at the fish, and the {thing} slipped into the water.",
        "{h} stayed away from the edge of the pond after that.",
        {
            "wood": (
                "the {thing} was floating far out, because wood floats",
                "pull it in with a long branch",
                "pulled the {thing} in with a long branch",
            ),
            "paper": (
                "the paper had turned to mush",
                "fold a new one from dry paper",
                "folded a new {thing} from dry {color} paper",
            ),
            "wool": (
                "the {thing} was so wet that water ran out of it",
                "hang it by the fire",
                "hung the {thing} by the fire until it was warm and dry",
            ),
            "glass": (
                "the {thing} had sunk to the bottom, because glass is heavy",
                "fish it out with a net",
                "fished the {thing} out with a net",
            ),
            "tin": (
                "the {thing} had sunk to the bottom, because tin is heavy",
                "fish it out with a net",
                "fished the {thing} out with a net",
            ),
        },
    ),
}


def spoiled(t: Teller) -> None:
    """A thing of some material meets a danger, which decides the damage and the mending."""
    came, learned, effects = DANGERS[t.pick(tuple(DANGERS))]
    material = t.pick(tuple(effects))
    effect = effects[material]
    thing = t.pick(MADE_OF[material])
    color = "brown" if material == "chocolate" else t.pick(COLORS)
    slots = {"thing": thing, "material": material, "color": color}
    t.open(
        "[{h.his} favorite thing was a {color} {thing} made of {material}.|for {h.his} birthday "
        "{e} gave {h.him} a {color} {thing} made of {material}.|{h} had a {thing}. It was {color} "
        "and made of {material}.]",
        trait=t.pick(("careless", "lively", "cheerful", "dreamy", "merry")),
        **slots,
    )
    t.tell(
        "one [day|morning|afternoon] {h} took the {thing} [outside|to the meadow|to the garden|"
        "along for a walk].",
        came,
        **slots,
    )
    if isinstance(effect, str):
        t.tell(
            '"[Oh no|Oh dear], my {thing}!" [cried|shouted] {h}. {h.he} [looked at|picked up|ran '
            "to get] the {thing}. But it was [not hurt at all|as good as before|still fine].",
            '"You were lucky," [said|laughed] {e}. "{reason}." {h} [hugged|kissed] the {color} '
            "{thing}.",
            reason=t.say(effect),
            **slots,
        )
    else:
        happened, advice, mended = effect
        t.tell(
            "when {h} [looked for the {thing}|came back to it|saw it], " + happened + ". {h} "
            "[began to cry|was very sad|had tears in {h.his} eyes].",
            '"[Do not cry|Do not be sad|Never mind], {h}," said {helper}. "We can ' + advice + '."',
            helper=t.fill(t.pick(("{e}", "{friend}"))),
            **slots,
        )
        t.tell(
            "so they " + mended + ".",
            "[{h} was happy again.|{h} said thank you.|{h} gave a big smile.|]",
            **slots,
        )
    t.end_at_home(learned, **slots)


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
        "from then on {h} kept the {thing} on a string around {h.his} neck.",
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
