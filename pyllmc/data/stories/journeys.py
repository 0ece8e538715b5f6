"""Plots that go from place to place."""

from __future__ import annotations

from pyllmc.data.stories.teller import Teller

# ingredient, who has it, what it does for the taste, what is wrong without it
INGREDIENTS = (
    ("flour", "the miller", "it was much too thin"),
    ("milk", "the cow", "it was as dry as dust"),
    ("eggs", "the hen", "it fell apart"),
    ("honey", "the bees", "it was not sweet at all"),
    ("butter", "the farmer", "it stuck to the pan"),
    ("apples", "the old tree", "there was nothing fruity in it"),
    ("salt", "the fisherman", "it tasted of nothing"),
)
DISHES = ("cake", "pie", "tart", "loaf of bread", "pudding")


def baking(t: Teller) -> None:
    """Three things are fetched for a dish; a forgotten one is tasted and fetched after all."""
    dish = t.pick(DISHES)
    needed = t.sample(INGREDIENTS, 3)
    forgets = t.chance(0.5)
    one, two, three = (name for name, _, _ in needed)
    slots = {"dish": dish, "one": one, "two": two, "three": three}
    t.open(
        "[one day|one Sunday|on a rainy day] {h} wanted to bake a {dish} for {e}.",
        '"For a {dish} I need {one}, {two} and {three}," {h.he} said [and took a basket|to '
        "{friend}].",
        trait=t.pick(("forgetful", "hasty") if forgets else ("careful", "patient", "tidy")),
        **slots,
    )
    fetched = needed[:2] if forgets else needed
    t.tell(
        *(
            t.say(
                "[{start} {h} went to {owner} and got {item}.|{start} {owner} gave {h.him} "
                "{item}.]",
                start=start,
                owner=owner,
                item=item,
            )
            for start, (item, owner, _) in zip(("first", "then", "at last"), fetched, strict=False)
        ),
        "{h} [mixed|stirred] everything in a [big|brown|round] bowl and put it into the oven.",
        **slots,
    )
    if forgets:
        _, owner, wrong = needed[2]
        t.tell(
            "soon the {dish} was ready. {h} tried a piece, but {wrong}. "
            '"[Oh dear|Oh no], I forgot the {three}!" cried {h}.',
            "so {h} [ran|hurried] to {owner}, got {three} and began again. this time the {dish} "
            "was "
            "[just right|perfect|wonderful].",
            wrong=wrong,
            owner=owner,
            **slots,
        )
    else:
        t.tell(
            "soon the [whole house|kitchen] smelled wonderful. The {dish} was [just right|perfect|"
            "golden and warm].",
            **slots,
        )
    t.tell(
        '"[This is the best {dish} that I ever ate|How good it tastes]," said {e}, and '
        "[they ate it all up|nothing was left|everybody in the house got a piece].",
        **slots,
    )
    if forgets:
        t.end_at_home(
            "the next time {h} wrote everything down first.",
            "after that {h} always remembered the {three}.",
            **slots,
        )
    else:
        t.end_at_home(
            "{h} took a piece to each who had helped.",
            "{h} thanked all who had given something for the {dish}.",
            **slots,
        )


# the way there, and the same place on the way back
LANDMARKS = (
    "over the bridge",
    "past the mill",
    "through the wood",
    "along the stream",
    "up the hill",
    "across the field",
    "around the lake",
    "past the red barn",
    "under the arch",
    "through the gate",
)
BACKWARDS = {"up the hill": "down the hill"}
RECEIVERS = (
    "{e}",
    "{f}",
    "the old baker",
    "the doctor",
    "the shepherd",
    "the lighthouse keeper",
    "the teacher",
)
LOADS = ("soup", "a letter", "a basket of eggs", "a bunch of flowers", "a warm blanket", "a pie")


def there_and_back(t: Teller) -> None:
    """The way back is the way there, in the opposite order."""
    way = t.sample(LANDMARKS, 3)
    back = [BACKWARDS.get(place, place) for place in reversed(way)]
    who = t.pick(RECEIVERS)
    load = t.pick(LOADS)
    night = t.chance(0.4)
    adviser = "{f}" if who == "{e}" else "{e}"
    slots = {"who": t.fill(who), "load": load, "adviser": t.fill(adviser)}
    t.open(
        "one [day|morning|afternoon] {h.he} had to bring {load} to "
        + ("{friend}." if who == "{f}" else "{who}."),
        '"How do I get there?" asked {h}.',
        f'"Go {way[0]}, then {way[1]}, and then {way[2]}," said {adviser.replace("f", "friend")}.',
        **slots,
    )
    t.tell(
        f"[so {{h}} went|{{h}} walked] {way[0]}. {{h.he}} went {way[1]}. then {{h.he}} went "
        f"{way[2]}, and there [was|stood] {{who}}.",
        '"[How nice of you|Thank you]," said {who} and took the {bare}.',
        bare=load.removeprefix("a "),
        **slots,
    )
    t.tell(
        "[soon it was time|now it was time] to go home. "
        + (
            "it was [getting dark|dark already], and nothing looked the same. "
            if night
            else "[the sun was low|the wind had stopped]. "
        )
        + '"[I only have to turn it around|I must go the other way round]," {h} thought.',
        f"so {{h.he}} went {back[0]}, then {back[1]}, and then {back[2]}, [and there was the house "
        "{home}|until {h.he} saw the house {home}|and then {h.he} was home].",
        **slots,
    )
    t.end_at_home(
        '"[You found the way|You are back]!" said {adviser}. "I am proud of you."',
        "whoever looks around on the way there finds the way back.",
        "now {h} knew the way and could go [again|alone|every week].",
        **slots,
    )
