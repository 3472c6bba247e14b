"""Two attributes of style, each with a present and an absent side: mood and register.

A diary page is cheerful or gloomy, a letter is colloquial or formal, from its first sentence to its last. Both
sides write about the same things, so that only the style tells them apart. The pages stand among the general
documents of every model; the sentence sets for steering come from the same rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from .grammar import Dice, fill, polish
from .lexicon import GIRLS, WORDS

MOOD: dict[str, tuple[str, ...]] = {
    "cheerful": (
        "what a {joy} morning, and how {joy} the {crop} smell",
        "I sang all the way to {place} and nobody minded",
        "the {job} smiled at me and gave me {food}, which made my heart jump",
        "even the {animal} seemed to dance when {weather_good}",
        "I could not stop laughing about the {adjective} {noun}",
        "my new {noun} is {joy}, and I will treasure it",
        "we played {game} until our sides hurt from laughing",
        "tomorrow will be even better, I am sure of it",
        "the {food} was the best that I have ever tasted",
        "{weather_good}, and everything seemed possible",
        "I love the way the {colour} light falls on {place}",
        "everything at {place} was music and friendship",
        "somebody played the {instrument}, and we all clapped and cheered",
        "I found {collection} for my shelf and skipped home with joy",
        "how lucky I am to live near {place}",
        "all our {crop} have grown so big and sweet this year",
    ),
    "gloomy": (
        "what a {grief} morning, and how {grief} the {crop} look",
        "I dragged myself to {place} and nobody was there",
        "the {job} frowned at me and kept the {food}, which made my heart sink",
        "even the {animal} seemed to mourn when {weather_bad}",
        "I could not stop weeping about the {adjective} {noun}",
        "my old {noun} is {grief}, and I will never have another",
        "we gave up {game} because nobody had the strength",
        "tomorrow will be even worse, I am sure of it",
        "the {food} tasted of ashes, like everything now",
        "{weather_bad}, and everything seemed hopeless",
        "I dread the way the {colour} shadows fall on {place}",
        "everything at {place} was silence and dust",
        "somebody played the {instrument}, so badly that I had to cry",
        "I lost {collection} from my shelf and crept home in sorrow",
        "how wretched I am to live near {place}",
        "all our {crop} have rotted and died this year",
    ),
}

REGISTER: dict[str, tuple[str, ...]] = {
    "formal": (
        "I have the honour to inform you that the {noun} has arrived",
        "I should be most obliged if you would return the {adjective} {noun}",
        "permit me to express my sincere gratitude for the {food}",
        "it is with great respect that I write to you concerning {place}",
        "the committee has resolved to acquire {number} {nouns}",
        "I regret that I am unable to attend the event at {place}",
        "kindly accept my apologies for the conduct of the {animal}",
        "I trust that the {job} has conveyed my compliments to you",
        "we beg to draw your attention to the state of {place}",
        "I remain at your disposal with regard to the {instrument}",
        "may I request that the {crop} be delivered in {month}",
        "the undersigned wishes to purchase {collection}",
        "it would give us great pleasure to receive you at {place}",
        "I must respectfully decline the offer of the {job}",
    ),
    "colloquial": (
        "hey, guess what, the {noun} turned up",
        "gimme back that {adjective} {noun} when you're done, will you",
        "thanks a bunch for the {food}, it was yummy",
        "so listen, about {place}, it's kind of a mess",
        "me and the boys are gonna grab {number} {nouns}",
        "sorry, can't make it to {place}, I'm dead tired",
        "oops, that {animal} of mine went nuts again",
        "did that {job} say hi from me or what",
        "man, you wouldn't believe what {place} looks like",
        "just holler if you wanna borrow the {instrument}",
        "bring over those {crop} in {month}, okay",
        "I'm kinda crazy about {collection}, you know",
        "come on over to {place}, it'll be fun",
        "nah, that {job} can keep his stuff",
    ),
}

DIARY_OPENINGS = ("Dear diary, it is {month}", "{month}, in the evening", "Diary of {hero}, {month}")
LETTER_OPENINGS = {
    "formal": ("Dear Sir", "Dear Madam", "Esteemed {job}", "To the honourable {job}"),
    "colloquial": ("Hi {hero}", "Hey you", "Hello there, {hero}", "Yo {hero}"),
}
LETTER_CLOSINGS = {
    "formal": ("Yours faithfully, {hero}", "I remain, Sir, your obedient servant, {hero}", "Respectfully, {hero}"),
    "colloquial": ("See you, {hero}", "Cheers, {hero}", "Bye for now, {hero}", "Take care, {hero}"),
}

ATTRIBUTES = {"mood": MOOD, "register": REGISTER}
#: Attribute -> the side whose share steering is to raise; the other side is the source.
PRESENT = {"mood": "cheerful", "register": "colloquial"}

RULES: dict[str, tuple[str, ...]] = {
    **WORDS,
    "joy": ("glorious", "joyful", "sweet", "radiant", "merry", "delightful", "sunny", "marvellous"),
    "grief": ("dreary", "dismal", "bitter", "bleak", "mournful", "miserable", "ghastly", "hopeless"),
    "weather_good": ("the sun came out", "the sky turned blue", "a warm breeze blew", "the larks were singing"),
    "weather_bad": ("the fog came down", "the sky turned grey", "an icy wind blew", "the crows were croaking"),
}


@dataclass(frozen=True, slots=True)
class StyleText:
    """A text of two sentences with one side of a style attribute.

    Attributes:
        id: Unique name.
        attribute: "mood" or "register".
        side: "cheerful", "gloomy", "colloquial" or "formal".
        present: True on the side that steering is to raise.
        split: "train" (fitting maps), "test" (prompts and losses) or "judge" (training a classifier).
        text: The text. Texts of different splits differ.
    """

    id: str
    attribute: str
    side: str
    present: bool
    split: str
    text: str


def make_style_texts(n: tuple[int, int, int], *, seed: int, known: Iterable[str]) -> tuple[StyleText, ...]:
    """``n`` texts on each side of each attribute for the splits "train", "test" and "judge".

    All are different, and none stands, as two neighbouring sentences, in one of the ``known`` documents.
    """
    seen = {" ".join(pair) for document in known for pair in pairwise(re.split(r"(?<=\.) ", document))}
    texts: list[StyleText] = []
    for attribute, sides in ATTRIBUTES.items():
        for side, templates in sides.items():
            dice = Dice(seed, "style", side)
            for split, n_texts in zip(("train", "test", "judge"), n, strict=True):
                for number in range(n_texts):
                    text = ""
                    while not text or text in seen:
                        pair = dice.sample(templates, 2)
                        said = [fill(template, dice, RULES, {"hero": GIRLS[0]}) for template in pair]
                        text = polish(". ".join(said) + ".")
                    seen.add(text)
                    present = PRESENT[attribute] == side
                    texts.append(StyleText(f"{side}-{split}-{number:04d}", attribute, side, present, split, text))
    return tuple(texts)
