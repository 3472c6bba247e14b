"""Two rules of this project beside the published ones, both off unless asked for.

Why: on small models the labels of ordinary places do most of the damage, because the reinforced model reads the text,
the baseline its translation, and alpha multiplies every difference of context; and where one name is pushed down, the
label is often another name of the text, because rule B holds back substitutes alone (docs/methods/whp.md).

    places = "anchors"    only the place that predicts the first token of an anchor has a label
    hold_back = "names"   the first tokens of all keys are forbidden at every place, as rule B forbids substitutes

First tokens that are frequent in the rest of the text stay allowed: a name's first piece may begin common words.
"""

from __future__ import annotations

from collections.abc import Sequence

from .config import WhpPlan
from .translate import Translated, Translator, frequent_tokens


def own_rules(plan: WhpPlan) -> str:
    """What of a plan is not published, for card and report, with a space behind; empty where all is."""
    told = []
    if plan.places == "anchors":
        told.append("Not published: labels stand only where a term of the dictionary is due. ")
    if plan.hold_back == "names":
        told.append("Not published: no label begins a term of the dictionary. ")
    return "".join(told)


def at_anchors(one: Translated) -> Translated:
    """Labels where an anchor is due alone; repeated anchors keep none (rule A)."""
    due = {found.first - 1 for found in one.replaced if found.first}
    return one._replace(places=tuple(place if number in due else -1 for number, place in enumerate(one.places)))


def names_held_back(
    translate: Translator, blocks: Sequence[Sequence[int]], translations: Sequence[Translated]
) -> list[Translated]:
    """The translations with the keys' first tokens forbidden from their beginning.

    Args:
        translate: The translator that made them.
        blocks: Token ids of each block.
        translations: One for each block.
    """
    rest: list[int] = []
    for ids, one in zip(blocks, translations, strict=True):
        inside = {place for found in one.replaced for place in range(found.first, found.last + 1)}
        rest += [token for place, token in enumerate(ids) if place not in inside]
    held = tuple(sorted(translate.first_tokens_of_keys() - frequent_tokens(rest)))
    return [one._replace(begun=((-1, held), *one.begun)) if held else one for one in translations]
