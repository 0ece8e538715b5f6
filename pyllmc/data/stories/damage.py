"""The plot about what a thing is made of, and what may happen to it."""

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
